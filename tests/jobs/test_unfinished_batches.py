"""Batches that were begun and not finished, or not there yet, and what comes in between."""

from datetime import datetime, timezone

import pytest

from behavior_lib.privacy.keys import FORGOTTEN, Key
from behavior_lib.spark.ingest import BatchIngest
from behavior_lib.spark.memory import StatisticsMemory
from behavior_lib.spark.schema import rows_frame
from behavior_lib.tables import BATCH_STATISTICS, EVENTS, EVENTS_QUARANTINE, FORGOTTEN_USERS, PIPELINE_RUNS, SESSIONS
from tests.jobs.small_source import YAML, failure, line
from tests.jobs.test_log_changes import TIMELESS, aside, stored, take

pytestmark = pytest.mark.spark

SPECS = (EVENTS, EVENTS_QUARANTINE, BATCH_STATISTICS)
RULES = "\nrules: [{id: robot, robot: 3, else: quarantine}, {id: far, outlier: iqr, column: value, by: item_id}]\n"


def _fail(*told, **more):
    raise OSError("no space")


@pytest.mark.parametrize(
    ("owner", "step"),
    [(StatisticsMemory, "keep"), (BatchIngest, "_write_quarantine"), (BatchIngest, "_write_conflicts")],
)
def test_a_rebuild_of_an_unfinished_batch_and_its_end_store_nothing_twice(shop, source, monkeypatch, owner, step):
    text = TIMELESS + RULES
    rows = [line(user="r", item=f"i{n}", time=f"2017-05-01 12:00:0{n}") for n in range(5)]
    rows += [line(user=None), line(item="i7"), line(item="i7", value="2")]
    with monkeypatch.context() as patch:
        patch.setattr(owner, step, _fail)
        assert take(shop, source, "b1", text, *rows)["exit_code"] == 1
    setting = source(text)
    assert shop.run("rebuild", setting)["exit_code"] == 0
    before = [stored(shop, spec) for spec in SPECS]
    assert [len(rows) > 0 for rows in before] == [True] * 3
    told = shop.run("ingest", setting)
    assert (told["exit_code"], [stored(shop, spec) for spec in SPECS]) == (0, before), told["stderr"]
    line_of_batch = shop.tables.read(PIPELINE_RUNS).where("job = 'ingest' and rows_read is not null").collect()
    assert [(row.batch_id, row.rows_read, row.rows_accepted, row.rows_quarantined) for row in line_of_batch] == [
        ("b1", 8, 1, 7)
    ]


def test_other_rules_for_an_unfinished_batch_lose_no_row(shop, source, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(BatchIngest, "_write_events", _fail)
        assert take(shop, source, "b1", YAML, line(), line(item="i2", value="50"), line(user=None))["exit_code"] == 1
    setting = source(YAML + "\nrules: [{id: cheap, keep_if: value < 10}]\n")
    mend = "the rules have changed since the batch was begun: run a rebuild"
    assert failure(shop.run("ingest", setting)) == (3, f"2 rows were to be set aside in batch b1: 1; {mend}")
    assert shop.run("rebuild", setting)["exit_code"] == 0
    assert shop.run("ingest", setting)["exit_code"] == 0
    assert [(rules, n) for rules, _, n, _ in aside(shop)] == [(("cheap",), 1), (("user_id_required",), 1)]
    assert [row.item_id for row in shop.tables.read(EVENTS).collect()] == ["i1"]


def test_a_batch_whose_file_was_empty_is_taken_once_it_has_rows(shop, source):
    assert take(shop, source, "b1", YAML)["status"] == "unchanged"
    told = take(shop, source, "b1", YAML, line())
    assert (told["status"], told["rows"]["accepted"]) == ("succeeded", 1)
    assert take(shop, source, "b1", YAML, line())["status"] == "unchanged"


def test_another_gap_makes_all_sessions_again(shop, source):
    take(shop, source, "b1", YAML, line(), line(item="i2", time="2017-05-01 12:40:00"))
    setting = source(YAML)

    def made(setting):
        told = shop.run("sessionize", setting)
        return told["status"], shop.tables.read(SESSIONS).count()

    assert [made(setting), made(setting)] == [("succeeded", 2), ("unchanged", 2)]
    wider = source(YAML + "\nsession_gap: 1h\n")
    assert [made(wider), made(wider)] == [("succeeded", 1), ("unchanged", 1)]
    assert shop.run("rebuild", wider)["exit_code"] == 0
    assert made(wider) == ("unchanged", 1)


def test_a_replay_lets_nobody_back_who_was_forgotten(shop, source, monkeypatch):
    """A rule kept the row out of the log, and so out of what was searched for a short id."""
    secret = "a secret that is long enough to be one"
    monkeypatch.setenv("BEHAVIOR_KEY", secret)
    take(shop, source, "b1", YAML + "\nrules: [{id: cheap, keep_if: value < 10}]\n", *(
        line(user=user, value="50") for user in ("17", "u2")
    ))  # fmt: skip
    user_hash = Key("v1", secret.encode()).hash(FORGOTTEN + "17")
    forgotten = {"user_hash": user_hash, "forgotten_at": datetime(2017, 6, 1, tzinfo=timezone.utc), "run_id": "r"}
    shop.tables.insert(FORGOTTEN_USERS, rows_frame(shop.tables._spark, FORGOTTEN_USERS, [forgotten]))
    told = shop.run("replay_quarantine", source(YAML), "privacy.keys.v1=env:BEHAVIOR_KEY")
    assert (told["exit_code"], told["rows"]["accepted"]) == (0, 1), told["stderr"]
    assert [row.user_id for row in shop.tables.read(EVENTS).collect()] == ["u2"]

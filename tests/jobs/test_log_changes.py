"""What changes the event log after the first arrival: conflicts, changed rules, rebuilds, torn and grown files."""

import gzip
import os

import pytest
from pyspark.sql import functions as F

from behavior_lib.locks import hold, lock_path
from behavior_lib.tables import BATCH_STATISTICS, EVENTS, EVENTS_QUARANTINE, INGEST_FILES, PIPELINE_RUNS, SESSIONS
from tests.jobs.small_source import YAML, failure, line

pytestmark = pytest.mark.spark

TIMELESS = YAML.replace("key: [user, item, time]", "key: [user, item]")


def stored(shop, spec) -> list[str]:
    return sorted(str(row) for row in shop.tables.read(spec).collect())


def values(shop) -> list[tuple]:
    columns = (EVENTS.user_id, EVENTS.item_id, EVENTS.value, EVENTS.batch_id)
    return sorted(tuple(row) for row in shop.tables.read(EVENTS).select(*columns).collect())


def aside(shop) -> list[tuple]:
    rows = shop.tables.read(EVENTS_QUARANTINE).collect()
    return sorted((tuple(row.rules), row.batch_id, row.n_rows, row.payload) for row in rows)


def take(shop, source, batch: str, text: str, *rows: bytes) -> dict:
    setting = source(text, **{f"{batch}_json": b"".join(rows)})
    given = [f"run.batch_id={batch}", f"run.input={shop.root / 'raw' / f'{batch}.json'}"]
    return shop.run("ingest", setting, *given)


def payload(row: bytes) -> str:
    return row.decode().strip().replace('": "', '":"').replace('", "', '","')


def test_equal_ids_with_other_content_are_conflicts_and_kept(shop, source):
    first = take(shop, source, "b1", TIMELESS, line(), line(), line(value="2"), line(item="i2"))
    assert first["rows"] == {"read": 4, "accepted": 2, "duplicate": 1, "quarantined": 1, "late": 0, "conflict": 1}
    # Days later, and past any day that the batch has: the log is searched wherever the event may stand.
    later = line(item="i2", time="2017-05-20 00:00:00")
    second = take(shop, source, "b2", TIMELESS, later, later, line(item="i3", time="2017-05-20 00:00:00"))
    assert second["rows"] == {"read": 3, "accepted": 1, "duplicate": 0, "quarantined": 2, "late": 0, "conflict": 2}
    winners = [("u1", "i1", 1.0, "b1"), ("u1", "i2", 1.0, "b1"), ("u1", "i3", 1.0, "b2")]
    assert values(shop) == winners
    rule = ("conflict",)
    assert aside(shop) == [(rule, "b1", 1, payload(line(value="2"))), (rule, "b2", 2, payload(later))]
    ledger = shop.tables.read(PIPELINE_RUNS).where("rows_conflict > 0")
    assert sorted((row.batch_id, row.rows_conflict) for row in ledger.collect()) == [("b1", 1), ("b2", 2)]


def test_a_stated_bound_spares_the_search_beyond_it(shop, source):
    bounded = TIMELESS + "\nduplicate_within: 10d\n"
    take(shop, source, "b1", bounded, line())
    near = take(shop, source, "b2", bounded, line(time="2017-05-11 00:00:00"))
    assert near["rows"]["conflict"] == 1
    far = take(shop, source, "b3", bounded, line(time="2017-05-13 00:00:00"))
    assert far["rows"]["accepted"] == 1


def test_quarantined_rows_move_once_their_rule_has_changed(shop, source):
    strict = YAML + "\nrules: [{id: cheap, keep_if: value < 10}, {id: known, keep_if: item_id <> 'x'}]\n"
    loose = YAML + "\nrules: [{id: cheap, keep_if: value < 100}, {id: known, keep_if: item_id <> 'x'}]\n"
    rows = [line(), line(item="i2", value="50"), line(item="i2", value="50"), line(item="x", value="50")]
    take(shop, source, "b1", strict, *rows, line(item="i3", value="500"), b"{torn\n")
    assert values(shop) == [("u1", "i1", 1.0, "b1")]
    setting = source(loose)
    told = shop.run("replay_quarantine", setting)
    assert told["exit_code"] == 0
    assert told["rows"] == {"read": 4, "accepted": 1, "duplicate": 1, "quarantined": 2, "late": 0, "conflict": 0}
    assert values(shop) == [("u1", "i1", 1.0, "b1"), ("u1", "i2", 50.0, "b1")]
    assert [(rules, n) for rules, _, n, _ in aside(shop)] == [
        (("cheap",), 1),
        (("cheap", "known"), 1),
        (("time_required", "unreadable_row", "user_id_required"), 1),
    ]
    again = shop.run("replay_quarantine", setting)
    assert (again["status"], again["rows"]["accepted"]) == ("unchanged", 0)
    # The same as taking the files under the new rules from the beginning; the rules told of a row are those of its day.
    before = stored(shop, EVENTS)
    assert shop.run("rebuild", setting)["rows"]["accepted"] == 2
    assert stored(shop, EVENTS) == before


def test_a_row_whose_id_a_later_batch_took_waits_for_a_rebuild(shop, source):
    strict = TIMELESS + "\nrules: [{id: cheap, keep_if: value < 10}]\n"
    take(shop, source, "b1", strict, line(value="50"))
    take(shop, source, "b2", strict, line(value="5"))
    setting = source(TIMELESS)
    told = shop.run("replay_quarantine", setting)
    assert (told["status"], told["rows_held"], told["rows"]["quarantined"]) == ("unchanged", 1, 1)
    assert values(shop) == [("u1", "i1", 5.0, "b2")]
    shop.run("rebuild", setting)
    assert values(shop) == [("u1", "i1", 50.0, "b1")]
    assert [(rules, batch) for rules, batch, _, _ in aside(shop)] == [(("conflict",), "b2")]


RULES = """
rules:
  - {id: far, outlier: iqr, column: value, else: clip}
  - {id: robot, robot: 3, else: quarantine}
missing: {value: median}
"""


def test_a_rebuild_finds_nothing_to_do_and_judges_batches_by_their_own_statistics(shop, source):
    text = YAML + RULES
    for day, scale in (("01", 1), ("02", 10)):
        rows = [line(user=f"u{n}", value=str(n * scale), time=f"2017-05-{day} 12:00:00") for n in range(1, 9)]
        rows += [line(user="r", item=f"i{n}", time=f"2017-05-{day} 12:00:0{n}") for n in range(5)]
        rows += [line(user="f", value="1000", time=f"2017-05-{day} 12:00:00"), line(user="n", value=None)]
        take(shop, source, f"b{day}", text, *rows)
    setting = source(text)
    shop.run("sessionize", setting)
    specs = (EVENTS, EVENTS_QUARANTINE, BATCH_STATISTICS, INGEST_FILES, SESSIONS)
    before = {spec.name: stored(shop, spec) for spec in specs}
    versions = {spec.name: shop.tables.version(spec) for spec in specs}
    told = shop.run("rebuild", setting)
    assert (told["exit_code"], told["status"], told["tables"].keys()) == (0, "unchanged", {"pipeline_runs"})
    assert {spec.name: shop.tables.version(spec) for spec in specs} == versions
    # What was lost comes back, row for row, and readers of the old version are not disturbed.
    old = shop.tables.read(EVENTS, versions[EVENTS.name])
    shop.tables.replace(EVENTS, shop.tables.read(EVENTS).where("batch_id = 'b01'"))
    shop.tables.replace(SESSIONS, shop.tables.read(SESSIONS).limit(1))
    told = shop.run("rebuild", setting)
    assert (told["status"], told["tables"].keys()) == ("succeeded", {"events", "sessions", "pipeline_runs"})
    assert {spec.name: stored(shop, spec) for spec in specs} == before
    assert old.count() == len(before[EVENTS.name])
    assert shop.run("sessionize", setting)["status"] == "unchanged"
    assert not list((shop.root / "warehouse" / ".rebuild").iterdir())


def test_a_rebuild_without_its_files_is_refused(shop, source):
    take(shop, source, "b1", YAML, line())
    (shop.root / "raw" / "b1.json").write_bytes(line(item="other") * 2)
    code, sentence = failure(shop.run("rebuild", source()))
    assert code == 3
    assert sentence.startswith("a raw file is gone or was changed: 'file:")


def test_a_torn_file_is_left_for_later_and_the_others_are_taken(shop, source):
    whole = gzip.compress(b"".join(line(item=f"i{n}{os.urandom(30).hex()}") for n in range(500)), mtime=0)
    setting = source(a_json=line(), b_json_gz=whole[: len(whole) // 2], c_json=line(item="i2"))
    code, sentence = failure(shop.run("ingest", setting))
    assert code == 3
    assert sentence.startswith("a compressed file ends too early in file:")
    assert shop.tables.read(EVENTS).count() == 2
    assert {row.path.rsplit("/", 1)[1] for row in shop.tables.read(INGEST_FILES).collect()} == {"a.json", "c.json"}
    source(d_json=line(item="i3"))
    assert failure(shop.run("ingest", setting))[0] == 3
    assert shop.tables.read(EVENTS).count() == 3
    source(b_json_gz=whole)
    assert shop.run("ingest", setting)["rows"]["accepted"] == 500
    told = shop.tables.read(PIPELINE_RUNS).groupBy(PIPELINE_RUNS.status).agg(F.sum(PIPELINE_RUNS.rows_accepted))
    assert {row[0]: row[1] for row in told.collect()} == {"failed": None, "succeeded": 503}


def test_a_file_that_grew_gives_its_new_rows(shop, source):
    setting = source(a_json=line())
    shop.run("ingest", setting)
    source(a_json=line() + line(item="i2"))
    told = shop.run("ingest", setting)
    assert (told["rows"]["read"], told["rows"]["accepted"], told["rows"]["duplicate"]) == (2, 1, 1)
    assert shop.run("ingest", setting)["status"] == "unchanged"


def test_lateness_is_judged_by_what_was_known_when_the_batch_came(shop, source):
    take(shop, source, "b1", YAML, line(time="2017-05-01 12:00:00"))
    take(shop, source, "b2", YAML, line(time="2017-06-01 12:00:00"))
    old = [line(item=f"i{n}", time=f"2017-05-02 {12 - n}:00:00") for n in range(2)]
    rows = take(shop, source, "b3", YAML, *old)["rows"]
    assert (rows["accepted"], rows["late"]) == (1, 1)
    before = stored(shop, EVENTS), stored(shop, EVENTS_QUARANTINE)
    shop.tables.replace(EVENTS, shop.tables.read(EVENTS).limit(0))
    told = shop.run("rebuild", source())
    assert (told["rows"]["accepted"], told["rows"]["late"]) == (3, 1)
    assert (stored(shop, EVENTS), stored(shop, EVENTS_QUARANTINE)) == before


def test_two_runs_on_one_log_are_kept_apart(shop, source):
    setting = source(a_json=line())
    with hold(lock_path(str(shop.root / "warehouse"), "log-shop"), "ingest of source shop", 0):
        told = shop.run("ingest", setting)
        assert told["exit_code"] == 1
        assert told["error"].startswith(
            "ingest of source shop cannot start beside another: 'ingest of source shop, pro"
        )
        other = YAML.replace("name: shop", "name: other")
        assert shop.run("ingest", source(other))["rows"]["accepted"] == 1
    assert shop.run("ingest", source())["status"] == "succeeded"


def test_a_schedule_tells_its_gaps_and_takes_what_is_missing(shop, source):
    schedule = "\nschedule: {every: 1d, first: 2017-05-01, last: 2017-05-04, input: '${paths.raw}/{batch}.json'}\n"
    text = YAML + schedule
    first = take(shop, source, "2017-05-02", text, line(time="2017-05-02 12:00:00"))
    assert first["missing_batches"] == ["2017-05-01", "2017-05-03", "2017-05-04"]
    files = {f"2017-05-0{n}_json": line(time=f"2017-05-0{n} 12:00:00") for n in (1, 4)}
    setting = source(text, **files)
    told = shop.run("ingest", setting, "run.missing=true")
    assert (told["exit_code"], told["batch_id"], told["missing_batches"]) == (0, "2017-05-04", ["2017-05-03"])
    assert "promised batch 2017-05-03 has no file yet" in told["stderr"]
    assert [row[3] for row in values(shop)] == ["2017-05-01", "2017-05-02", "2017-05-04"]
    assert shop.run("ingest", setting, "run.missing=true")["status"] == "unchanged"
    code, sentence = failure(shop.run("ingest", source(YAML), "run.missing=true"))
    assert code == 2
    assert sentence.startswith("nothing says which batches there must be in source shop; add schedule:")

from datetime import datetime, timedelta, timezone

import pytest
from pyspark.sql import functions as F

from behavior_lib.spark.ledger import Ledger, RunRecord, Summary
from behavior_lib.spark.past import HISTORY_FROM
from behavior_lib.spark.schema import rows_frame
from behavior_lib.spark.sequence_changes import LastBuild, LastBuilds, has_cuts, touched_users, with_rows_of
from behavior_lib.tables import EVENTS, ITEMS, SEQUENCES, SESSIONS
from tests.spark.conftest import event

START = datetime(2020, 1, 1, tzinfo=timezone.utc)
CUT, LATER = datetime(2017, 1, 3), datetime(2017, 1, 5)


def items(spark, **numbers: int):
    rows = [{"item_id": name, "item_index": number, "n_events": 1} for name, number in numbers.items()]
    return rows_frame(spark, ITEMS, rows)


def test_users_of_changed_events_and_of_renumbered_items_are_touched(spark, events, tables):
    old = [event(name, "2017-01-01", item_id=item) for name, item in zip("uvwx", "abcd", strict=True)]
    tables.insert(EVENTS, events(*old, event("gone", "2017-01-01", item_id="a")))
    known = tables.replace(ITEMS, items(spark, a=3, c=4, d=5))
    last = LastBuild(events=tables.version(EVENTS), sessions=0, items=known, sequences=0)
    assert touched(tables, last, tables.read(ITEMS)) == set()
    # b comes into the vocabulary, c leaves it; d stays.
    numbered = items(spark, a=3, b=6, d=5)
    assert touched(tables, last, numbered) == {"v", "w"}
    tables.insert(EVENTS, events(event("x", "2016-01-01", item_id="d"), event("y", "2017-01-09", source="other")))
    tables.delete(EVENTS, spark.sql("select 'gone' as user_id"))
    assert touched(tables, last, numbered) == {"v", "w", "x", "gone"}
    since = numbered.withColumn("known_from", F.when(F.col("item_id") == "a", F.lit(CUT)))
    assert touched(tables, last, since) == {"u", "v", "w", "x", "gone"}


def touched(tables, last: LastBuild, now) -> set[str]:
    rows = touched_users(tables, "shop", last, tables.version(EVENTS), now).collect()
    assert len(rows) == len(set(rows))
    return {row.user_id for row in rows}


def row(user: str, split: str, as_of: datetime, value: int) -> dict:
    arrays = {name: [value] for name in ("item_index", "event_type", "gap_seconds", "value", "target_index")}
    return {
        "user_id": user,
        "chunk_id": 0,
        "split": split,
        "length": 1,
        "as_of": as_of.replace(tzinfo=timezone.utc),
        "held_out_id": None,
        "first_event_time": None,
        **arrays,
    }


def test_rows_of_touched_users_are_replaced_and_those_of_others_stay(spark):
    stored = rows_frame(spark, SEQUENCES, [row(user, "train", CUT, 1) for user in ("u", "v", "gone")])
    made = rows_frame(spark, SEQUENCES, [row(user, "train", CUT, 2) for user in ("v", "new")])
    users = spark.sql("select explode(array('v', 'new', 'gone')) as user_id")
    found = {r.user_id: list(r.item_index) for r in with_rows_of(stored, made, users).collect()}
    assert found == {"u": [1], "v": [2], "new": [2]}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([("train", CUT), ("validation", CUT), ("test", LATER)], True),
        ([("train", CUT), ("test", LATER)], True),
        ([("train", CUT), ("validation", CUT)], False),
        ([("train", CUT), ("test", CUT)], False),
        ([("train", LATER), ("train", CUT), ("test", LATER)], False),
        ([], False),
    ],
)
def test_stored_rows_tell_their_cuts(spark, rows: list, expected: bool):
    stored = rows_frame(spark, SEQUENCES, [row(f"u{n}", *each, 1) for n, each in enumerate(rows)])
    assert has_cuts(stored, CUT, LATER) is expected


@pytest.fixture
def built(spark, events, tables):
    """A sessionize run and a build after it, in the ledger. Returns the ledger and the build's versions."""
    ledger, versions = Ledger(spark, tables), {}
    for spec in (EVENTS, SESSIONS, SEQUENCES, ITEMS):
        versions[spec.name] = tables.version(spec)
    tables.insert(EVENTS, events(event("u", "2017-01-01")))
    for number, (job, read, wrote) in enumerate(
        [
            ("sessionize", {"events": 0}, {"sessions": 0}),
            ("build_sequences", {"events": 1, "sessions": 0}, {"items": 0, "sequences": 0}),
            ("sessionize", {"events": 1}, {"sessions": 0}),
            ("build_sequences", {"events": 1, "sessions": 0}, {}),
        ]
    ):
        started = datetime.now(timezone.utc) if number < 2 else START
        ledger.write(RunRecord(f"r{number}", job, "shop", started), Summary(inputs=read, tables=wrote), "same")
    return ledger


def test_the_last_build_knows_what_its_sessions_were_made_of(spark, tables, built):
    """Its sessions had not seen the event that it read, and a run that found nothing new wrote nothing."""
    builds = LastBuilds(spark, tables, "shop")
    found = builds.find(built, "same", START)
    assert found == LastBuild(events=0, sessions=0, items=0, sequences=0)
    assert builds.find(built, "other", START) is None
    assert builds.find(built, "same", datetime.now(timezone.utc) + timedelta(hours=1)) is None
    assert LastBuilds(spark, tables, "another").find(built, "same", START) is None


def test_a_build_whose_past_was_erased_is_not_gone_on_from(spark, tables, built):
    builds = LastBuilds(spark, tables, "shop")
    for value, is_found in (("1", False), ("0", True)):
        spark.sql(f"ALTER TABLE {tables.sql_name(EVENTS)} SET TBLPROPERTIES ('{HISTORY_FROM}' = '{value}')")
        assert (builds.find(built, "same", START) is not None) is is_found


SESSION = {
    **dict.fromkeys(("session_id", "user_id", "source"), "s"),
    **dict.fromkeys(("session_start", "session_end"), START),
    **dict.fromkeys(("n_events", "n_items"), 1),
    "events_by_type": {"view": 1},
    "value_sum": 0.0,
    "is_open": False,
    "session_date": "2020-01-01",
}


@pytest.mark.parametrize(("spec", "values"), [(SESSIONS, SESSION), (SEQUENCES, row("u", "train", CUT, 1))])
def test_a_build_is_not_gone_on_from_where_another_wrote_a_table_anew(spark, tables, built, spec, values):
    tables.replace(spec, rows_frame(spark, spec, [values]))
    assert LastBuilds(spark, tables, "shop").find(built, "same", START) is None

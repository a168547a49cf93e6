import random
from datetime import datetime, timedelta

import duckdb
import pytest
from pyspark.sql import functions as F

from behavior_lib.errors import ConfigError
from behavior_lib.spark import sessionize as sessionizing
from behavior_lib.spark.session import session_settings
from behavior_lib.spark.sessionize import (
    Spread,
    events_with_sessions,
    find_endless,
    find_spread,
    find_touched,
    session_events,
    sessionize,
    update_sessions,
)
from behavior_lib.tables import EVENTS, SESSION_ALIAS, SESSIONS
from tests.spark.conftest import event

GAP = timedelta(minutes=30)
USER = (SESSIONS.source, SESSIONS.user_id, SESSIONS.session_key)
EPOCH = datetime(1970, 1, 1)


def microseconds(text: str) -> int:
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1)


def spans(frame) -> list[tuple]:
    rows = frame.orderBy(SESSIONS.user_id, SESSIONS.session_start, SESSIONS.session_id).collect()
    return [(r.user_id, str(r.session_start)[11:], str(r.session_end)[11:], r.n_events) for r in rows]


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ("10:30:00", [("u1", "10:00:00", "10:30:00", 2)]),
        ("10:30:00.000001", [("u1", "10:00:00", "10:00:00", 1), ("u1", "10:30:00.000001", "10:30:00.000001", 1)]),
    ],
)
def test_silence_of_exactly_the_gap_joins_and_a_microsecond_more_splits(events, second: str, expected: list):
    frame = events(event("u1", "2017-01-01 10:00:00"), event("u1", f"2017-01-01 {second}"))
    assert spans(sessionize(frame, GAP, 0)) == expected


def test_a_session_crosses_midnight_and_lies_on_the_day_that_it_began(events):
    frame = events(event("u1", "2017-01-31 23:50:00"), event("u1", "2017-02-01 00:10:00"))
    row = sessionize(frame, GAP, 0).first()
    assert (str(row.session_date), row.n_events) == ("2017-01-31", 2)


def test_what_a_session_holds(events):
    frame = events(
        event("u1", "2017-01-01 10:00:00", item_id="a", event_type="view", value=0.1),
        event("u1", "2017-01-01 10:01:00", item_id="a", event_type="buy", value=0.2),
        event("u1", "2017-01-01 10:02:00", item_id="b", event_type="view"),
        event("u1", "2017-01-01 10:02:30", event_type="view"),
    )
    row = sessionize(frame, GAP, microseconds("2017-01-01 10:32:30")).first()
    assert (row.n_events, row.n_items, row.events_by_type) == (4, 2, {"buy": 1, "view": 3})
    assert row.value_sum == 0.3  # 0.1 + 0.2 in doubles is not
    assert row.is_open
    assert not sessionize(frame, GAP, microseconds("2017-01-01 10:32:30.000001")).first().is_open


def test_the_sources_own_session_stands_above_the_gap(events):
    frame = events(
        event("u1", "2017-01-01 10:00:00", session_key="k1"),
        event("u1", "2017-01-01 10:00:00", session_key="k2", item_id="x"),
        event("u1", "2017-01-01 19:00:00", session_key="k1"),
    )
    found = {row.session_key: row.n_events for row in sessionize(frame, GAP, 0).collect()}
    assert found == {"k1": 2, "k2": 1}


def test_a_sum_that_no_decimal_holds_is_null(events):
    frame = events(
        *(event("u1", f"2017-01-01 10:00:0{n}", value=6e28) for n in (1, 2)), event("u2", "2017-01-01", value=6e28)
    )
    found = {row.user_id: row.value_sum for row in sessionize(frame, GAP, 0).collect()}
    assert found == {"u1": None, "u2": 6e28}


def test_a_gap_that_is_not_positive_is_refused(events):
    with pytest.raises(ConfigError, match="session_gap is not positive"):
        sessionize(events(event("u1", "2017-01-01 10:00:00")), timedelta(0), 0)


def random_events(seed: int, n: int) -> list[dict]:
    """Events whose silences are often exactly the gap, a microsecond more, or none at all."""
    draw = random.Random(seed)
    rows, now = [], {user: datetime(2017, 1, 1, 22) for user in "abcd"}
    for number in range(n):
        user = draw.choice("aabcd")
        step = draw.choice([0, 1, 60, 1799, 1800, 1801, 4000])
        now[user] += timedelta(seconds=step, microseconds=draw.choice([0, 0, 1]))
        item = draw.choice(["x", "y", None])
        rows.append(
            event(
                user,
                str(now[user]),
                event_id=f"e{number}",
                item_id=item,
                event_type=draw.choice(["v", "b"]),
                value=float(number),
            )
        )
    draw.shuffle(rows)
    return rows


def oracle(rows: list[dict]) -> list[tuple]:
    """Sessions by the textbook's query: lag, then a running sum."""
    database = duckdb.connect()
    database.execute("create table e (u text, t timestamp, i text, id text)")
    values = [(r["user_id"], r["event_time"].replace(tzinfo=None), r["item_id"], r["event_id"]) for r in rows]
    database.executemany("insert into e values (?, ?, ?, ?)", values)
    return database.execute("""
        with marked as (
            select *, case when t - lag(t) over w > interval 30 minute then 1 else 0 end as first from e
            window w as (partition by u order by t, id)),
        numbered as (select *, sum(first) over (partition by u order by t, id) as s from marked)
        select u, min(t), max(t), count(*), count(distinct i) from numbered group by u, s order by 1, 2
    """).fetchall()


def told(frame) -> list[tuple]:
    rows = frame.orderBy(SESSIONS.user_id, SESSIONS.session_start).collect()
    return [(r.user_id, r.session_start, r.session_end, r.n_events, r.n_items) for r in rows]


def test_sessions_equal_the_oracles(events):
    rows = random_events(1, 300)
    assert told(sessionize(events(*rows), GAP, 0)) == oracle(rows)


@pytest.mark.parametrize("robots", ["", "ac"])
def test_increments_in_any_order_equal_a_rebuild_and_repeat_nothing(spark, events, tables, robots: str):
    rows = random_events(2, 120)
    newest = max(row["event_time"] for row in rows)
    so_far: list[dict] = []
    for number, batch in enumerate([rows[:40], rows[40:80], rows[80:]]):
        so_far += batch
        newest_us = microseconds(str(max(row["event_time"] for row in so_far))[:-6])
        oldest_us = microseconds(str(min(row["event_time"] for row in batch))[:-6])
        new = events(*batch).withColumn("_commit_version", F.lit(number).cast("bigint"))
        for _ in range(2 if number == 1 else 1):
            touched = find_touched(tables.read(SESSIONS), new, GAP, newest_us, oldest_us)
            endless = [row for row in touched.sessions.select(*USER).distinct().collect() if row.user_id in robots]
            changes = update_sessions(touched, events(*so_far), new, GAP, newest_us, endless)
            changes.changed.persist(), changes.stale.persist()
            tables.merge(SESSION_ALIAS, changes.aliases, update=False)
            tables.merge(SESSIONS, changes.changed, changes.stale)
    whole = sessionize(events(*rows), GAP, (newest.replace(tzinfo=None) - EPOCH) // timedelta(microseconds=1))
    stored = tables.read(SESSIONS)
    assert sorted(map(str, stored.collect())) == sorted(map(str, whole.select(*stored.columns).collect()))
    alive = {row.session_id for row in stored.collect()}
    old = {row.old_session_id for row in tables.read(SESSION_ALIAS).collect()}
    assert old
    assert not old & alive


def test_a_late_event_that_merges_two_sessions_leaves_aliases(events):
    first = [event("u1", "2017-01-01 10:00:00"), event("u1", "2017-01-01 11:00:00")]
    late = event("u1", "2017-01-01 10:30:00", batch_id="b2")
    stored = sessionize(events(*first), GAP, 0)
    new = events(late).withColumn("_commit_version", F.lit(2).cast("bigint"))
    touched = find_touched(stored, new, GAP, 0, microseconds("2017-01-01 10:30:00"))
    changes = update_sessions(touched, events(*first, late), new, GAP, 0)
    ids = {str(r.session_start)[11:]: r.session_id for r in stored.collect()}
    merged = changes.changed.collect()
    assert [(r.session_id, r.n_events) for r in merged] == [(ids["10:00:00"], 3)]
    assert [r.session_id for r in changes.stale.collect()] == [ids["11:00:00"]]
    assert [tuple(r) for r in changes.aliases.collect()] == [(ids["11:00:00"], ids["10:00:00"], "b2")]


def test_events_find_their_session(events):
    frame = events(
        event("u1", "2017-01-01 10:00:00"), event("u1", "2017-01-01 12:00:00"), event("u2", "2017-01-01 10:00:00")
    )
    sessions = sessionize(frame, GAP, 0)
    first = sessions.where((F.col(SESSIONS.user_id) == "u1") & (F.hour(SESSIONS.session_start) == 10))
    found = session_events(first, frame).collect()
    assert [(r.user_id, str(r.event_time)[11:]) for r in found] == [("u1", "10:00:00")]


@pytest.mark.parametrize("seed", [1, 3])
def test_each_event_has_the_id_of_the_session_it_lies_in(events, seed: int):
    rows = random_events(seed, 200)
    rows += [event("k", f"2017-01-01 1{n}:00:00", event_id=f"k{n}", session_key="ab"[n % 2]) for n in range(4)]
    frame = events(*rows)
    joined = session_events(sessionize(frame, GAP, 0), frame)
    told = {row.event_id: row.session_id for row in events_with_sessions(frame, GAP).collect()}
    assert told == {row.event_id: row.session_id for row in joined.collect()}
    assert len(told) == len(rows)


def test_events_find_their_sessions_with_one_exchange_and_one_sort(events):
    frame = events(event("u1", "2017-01-01 10:00:00")).repartition(2)
    plan = events_with_sessions(frame, GAP)._jdf.queryExecution().executedPlan().treeString()
    assert "Python" not in plan
    assert plan.count("Exchange hashpartitioning(source#") == 1
    assert plan.count("Sort [") == 1


def test_sessions_need_no_python_and_one_exchange(events):
    frame = events(event("u1", "2017-01-01 10:00:00")).repartition(2)
    for spread in (None, Spread(3, None)):
        plan = sessionize(frame, GAP, 0, spread)._jdf.queryExecution().executedPlan().treeString()
        assert "Python" not in plan
        assert plan.count("Exchange hashpartitioning(source#") == 1


def test_crowded_users_are_found_and_have_the_same_sessions(events, monkeypatch):
    rows = random_events(4, 300)
    rows += [event("u2", f"2017-01-01 1{n}:00:00", event_id=f"k{n}", session_key="ab"[n % 2]) for n in range(4)]
    rows += [event("crowd", f"2017-02-01 1{n % 3}:{n % 60:02}:00", item_id=f"i{n % 7}") for n in range(200)]
    frame = events(*rows)
    monkeypatch.setattr(sessionizing, "_FEWEST_CROWD", 150)
    counted = find_spread(frame, 400, 1)
    assert (counted.n_tasks, [row.user_id for row in counted.crowded.collect()]) == (1, ["crowd"])
    assert find_spread(frame, 1000, 1).crowded is None
    everybody = frame.select("source", "user_id", "session_key").distinct()
    plain = sorted(map(str, sessionize(frame, GAP, 0).collect()))
    for crowded in (counted.crowded, everybody):
        assert sorted(map(str, sessionize(frame, GAP, 0, Spread(2, crowded)).collect())) == plain


def test_of_many_events_the_users_of_one_in_64_instants_are_counted(events, monkeypatch):
    rows = [event("crowd", f"2017-02-01 10:{n // 60:02}:{n % 60:02}", event_id=f"c{n}") for n in range(3600)]
    monkeypatch.setattr(sessionizing, "_MOST_COUNTED", 3000)
    monkeypatch.setattr(sessionizing, "_FEWEST_CROWD", 1)
    crowded = find_spread(events(*rows), 3600, 1).crowded
    assert crowded is not None
    assert [tuple(row) for row in crowded.collect()] == [("shop", "crowd", None)]


def test_an_update_reads_only_the_days_of_the_touched_sessions(spark, events, tables):
    tables.insert(EVENTS, events(*(event("u1", f"2017-01-{day:02} 10:00:00") for day in range(1, 9))))
    stored = sessionize(tables.read(EVENTS), GAP, 0)
    late = event("u1", "2017-01-05 10:10:00")
    new = events(late).withColumn("_commit_version", F.lit(2).cast("bigint"))
    # As where the touched sessions are too many to be sent to the events.
    with session_settings(spark, {"spark.sql.autoBroadcastJoinThreshold": "-1"}):
        touched = find_touched(stored, new, GAP, 0, microseconds("2017-01-05 10:10:00"))
        changes = update_sessions(touched, tables.read(EVENTS), new, GAP, 0)
        plan = changes.changed._jdf.queryExecution().executedPlan().toString()
    filters = [text.split("PushedFilters")[0] for text in plan.split("PartitionFilters: ")[1:]]
    assert any(" IN dynamicpruning#" in text for text in filters)
    assert "BroadcastHashJoin [event_date#" in plan


def test_of_days_that_only_an_endless_session_touches_its_own_events_alone_are_read(spark, events, tables, monkeypatch):
    robot = [event("robot", f"2017-01-0{day} {hour:02}:00:00") for day in range(1, 7) for hour in range(24)]
    rows = [*robot, *(event("u1", f"2017-01-0{day} 10:00:00") for day in range(1, 7))]
    tables.insert(EVENTS, events(*rows))
    gap = timedelta(hours=1)
    late = [event(user, "2017-01-06 23:30:00", batch_id="b2") for user in ("robot", "u1")]
    new = events(*late).withColumn("_commit_version", F.lit(2).cast("bigint"))
    log, oldest = tables.read(EVENTS).unionByName(events(*late)), microseconds("2017-01-06 23:30:00")
    touched = find_touched(sessionize(tables.read(EVENTS), gap, oldest), new, gap, oldest, oldest)
    endless = find_endless(touched)
    assert [tuple(row) for row in endless] == [("shop", "robot", None)]
    changed = update_sessions(touched, log, new, gap, oldest, endless).changed
    assert [(row[0], row[3]) for row in spans(changed)] == [("robot", 145), ("u1", 1)]
    plan = changed._jdf.queryExecution().executedPlan().toString()
    assert "EqualTo(user_id,robot)" in plan
    by_day = update_sessions(touched, log, new, gap, oldest).changed
    assert sorted(map(str, changed.collect())) == sorted(map(str, by_day.collect()))
    monkeypatch.setattr(sessionizing, "_MOST_ENDLESS", 0)
    assert find_endless(touched) == []

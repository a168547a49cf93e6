"""Events → sessions, whole or only where new events touched them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from pyspark.sql import Column, DataFrame, Row, Window
from pyspark.sql import functions as F

from behavior_lib.errors import ConfigError
from behavior_lib.spark.values import exact_value
from behavior_lib.tables import EVENTS, SESSION_ALIAS, SESSIONS

_USER = (SESSIONS.source, SESSIONS.user_id, SESSIONS.session_key)
_START, _END, _SESSION, _DAY = "_start_us", "_end_us", "_session", "_day"
_COUNT, _ITEM, _ITEMS, _VALUE = "_count", "_item", "_items", "_value"
# A task sorts its events in memory: so many of some 100 bytes leave room in 1 GB.
_ROWS_OF_A_TASK = 2_000_000
_FEWEST_CROWD, _MOST_COUNTED, _SHARE = 10_000, 1_000_000, 64
_MANY_DAYS, _MOST_ENDLESS = 3, 100
# A sum of doubles depends on the order of its terms, and Spark promises none: a sum of decimals does not.


@dataclass(frozen=True)
class Touched:
    """What new events touched. sessions: SESSIONS rows that they join, and open ones that have closed. arrived: the
    spans of new events of a user that no session boundary can split. Both are read several times: persist them.
    """

    sessions: DataFrame
    arrived: DataFrame


@dataclass(frozen=True)
class SessionChanges:
    """What new events changed: SESSIONS rows to insert or update and to remove, SESSION_ALIAS rows to add."""

    changed: DataFrame
    stale: DataFrame
    aliases: DataFrame


@dataclass(frozen=True)
class Spread:
    """How the users of many events are spread over tasks.

    n_tasks: how many tasks they are hashed into. crowded: the _USER columns of users, of whom one has so many events
    that the task it falls into would be late; None where there is none.
    """

    n_tasks: int
    crowded: DataFrame | None


def sessionize(events: DataFrame, gap: timedelta, newest_us: int, spread: Spread | None = None) -> DataFrame:
    """Group each user's events into sessions; a silence longer than `gap` ends one.

    events: EVENTS rows in any order. Events with a session_key follow it instead of the gap. newest_us: the newest
    event time of the source, µs since 1970: a session that an event at that time would still join is open.
    Returns SESSIONS, one row a session.
    One shuffle, by user. Events of crowded users are first summed per gap-wide bucket, which no session boundary can
    split, so that what is shuffled of them is at most one row a bucket and event type.
    Raises ConfigError where gap is not positive.
    """
    gap_us = _microseconds_of(gap)
    parts = _one_by_one(events)
    if spread is not None and spread.crowded is not None:
        crowded = F.broadcast(_prefixed(spread.crowded))
        few = _sum_by_bucket(events.join(crowded, _same_user(), "left_semi"), gap_us)
        rest = _one_by_one(events.join(crowded, _same_user(), "left_anti"))
        parts = rest.unionByName(few, allowMissingColumns=True)
    if spread is not None:
        parts = parts.repartition(spread.n_tasks, *_USER)
    return _join_parts(_with_session_start(parts, gap_us), gap_us, newest_us)


def find_spread(events: DataFrame, n_events: int, n_tasks: int) -> Spread:
    """How to spread all events of a source. n_events: about how many there are. n_tasks: the least number of tasks.

    Where there are many events the users of one in 64 instants are counted: a crowded one is known by them.
    """
    n_tasks = max(n_tasks, math.ceil(n_events / _ROWS_OF_A_TASK))
    limit, share = max(n_events // (4 * n_tasks), _FEWEST_CROWD), 1
    if n_events > _MOST_COUNTED:
        share = _SHARE
        events = events.where(F.pmod(F.xxhash64(EVENTS.event_time), F.lit(share)) == 0)
    found = events.groupBy(*_USER).count().where(F.col("count") * share > limit).drop("count").collect()
    crowded = events.sparkSession.createDataFrame(found, events.select(*_USER).schema) if found else None
    return Spread(n_tasks, crowded)


def events_with_sessions(events: DataFrame, gap: timedelta) -> DataFrame:
    """EVENTS rows with the session_id that `sessionize` gives the session they lie in; the view for whoever needs both.

    events: EVENTS rows in any order; all of a user's, for a session begins with its first event.
    One shuffle and one sort, by user: what follows looks at the event before.
    Raises ConfigError where gap is not positive.
    """
    time = F.unix_micros(EVENTS.event_time)
    started = _with_session_start(events.withColumns({_START: time, _END: time}), _microseconds_of(gap))
    found = started.withColumn(_START, F.col(_SESSION)).withColumn(SESSIONS.session_id, _session_id())
    return found.drop(_START, _END, _SESSION)


def find_touched(stored: DataFrame, new: DataFrame, gap: timedelta, newest_us: int, oldest_new_us: int) -> Touched:
    """What new events touch of the sessions that are there.

    stored: SESSIONS rows of the source. new: the EVENTS rows that arrived. newest_us: the newest event time of the
    source, µs since 1970. oldest_new_us: the smallest of `new`: what ended long before it is left unread.
    """
    gap_us = _microseconds_of(gap)
    arrived = _sum_by_bucket(new, gap_us).select(*_USER, _START, _END)
    return Touched(_touched(stored, arrived, gap_us, newest_us, oldest_new_us), arrived)


def find_endless(touched: Touched) -> list[Row]:
    """The _USER columns of whoever has a touched session of many days: of a robot that never sleeps, of a key that is
    never given up. None where they are not few.
    """
    is_long = F.datediff(SESSIONS.session_end, SESSIONS.session_start) > _MANY_DAYS
    found = touched.sessions.where(is_long).select(*_USER).distinct().limit(_MOST_ENDLESS + 1).collect()
    return found if len(found) <= _MOST_ENDLESS else []


def update_sessions(
    touched: Touched,
    events: DataFrame,
    new: DataFrame,
    gap: timedelta,
    newest_us: int,
    endless: Sequence[Row] = (),
) -> SessionChanges:
    """Sessions after new events arrived, made again only where an event touched one, or where an open one has closed.

    events: EVENTS rows of the source, the new ones among them; only the days and users of the touched sessions are
    needed. new: the EVENTS rows that arrived, with `_commit_version`. newest_us: the newest event time of the source.
    endless: of `find_endless`: of the days that only their sessions touch no other user's events are read.
    The touched sessions are made from their events, not added up, so that repeating an update changes nothing.
    """
    spans = touched.sessions.select(*_USER, *_microseconds()).unionByName(touched.arrived)
    changed = sessionize(_inside_some(events, spans, endless) if endless else _inside(events, spans), gap, newest_us)
    stale = touched.sessions.join(changed, SESSIONS.session_id, "left_anti")
    return SessionChanges(changed, stale, _aliases(stale, changed, new))


def session_events(sessions: DataFrame, events: DataFrame) -> DataFrame:
    """EVENTS rows with the session_id of the SESSIONS row that they lie in; events of no given session are left out."""
    spans = sessions.select(*_USER, *_microseconds(), SESSIONS.session_id)
    return (
        events.join(_prefixed(spans), _same_user() & _in_span())
        .select(*events.columns, f"_{SESSIONS.session_id}")
        .withColumnRenamed(f"_{SESSIONS.session_id}", SESSIONS.session_id)
    )


def _microseconds_of(gap: timedelta) -> int:
    microseconds = gap // timedelta(microseconds=1)
    if microseconds <= 0:
        raise ConfigError("session_gap is not positive", value=str(gap), mend="write 30m, 1h or the like")
    return microseconds


def _one_by_one(events: DataFrame) -> DataFrame:
    """Each event as a part of a session."""
    time = F.unix_micros(EVENTS.event_time)
    return events.select(
        *_USER,
        EVENTS.event_type,
        time.alias(_START),
        time.alias(_END),
        F.lit(1).cast("bigint").alias(_COUNT),
        F.col(EVENTS.item_id).alias(_ITEM),
        exact_value().alias(_VALUE),
    )


def _sum_by_bucket(events: DataFrame, gap_us: int) -> DataFrame:
    """One part a user, bucket and event type. Two events of one bucket are never further apart than the gap."""
    time = F.unix_micros(EVENTS.event_time)
    bucket = F.when(F.col(EVENTS.session_key).isNull(), F.floor(time / gap_us)).otherwise(F.lit(0))
    sums = events.groupBy(*_USER, bucket.alias("_bucket"), EVENTS.event_type).agg(
        F.min(time).alias(_START),
        F.max(time).alias(_END),
        F.count("*").alias(_COUNT),
        F.collect_set(EVENTS.item_id).alias(_ITEMS),
        F.try_sum(exact_value()).alias(_VALUE),
    )
    return sums.drop("_bucket")


def settings_hash(gap: timedelta) -> str:
    """Tells apart what decides sessions beside the events, in the ledger."""
    return hashlib.sha256(f"session_gap {gap.total_seconds()}".encode()).hexdigest()[:16]


def _with_session_start(parts: DataFrame, gap_us: int) -> DataFrame:
    """Parts of sessions, single events among them, with `_session`: the start of the session they lie in, in µs.

    One shuffle unless they lie together by user, and one sort.
    """
    in_order = Window.partitionBy(*_USER).orderBy(_START)
    silence = F.col(_START) - F.max(_END).over(in_order.rowsBetween(Window.unboundedPreceding, -1))
    is_first = silence.isNull() | (F.col(EVENTS.session_key).isNull() & (silence > gap_us))
    marked = parts.withColumn(_SESSION, F.when(is_first, F.col(_START)))
    start = F.last(_SESSION, ignorenulls=True).over(in_order.rowsBetween(Window.unboundedPreceding, 0))
    return marked.withColumn(_SESSION, start)


def _join_parts(parts: DataFrame, gap_us: int, newest_us: int) -> DataFrame:
    """One SESSIONS row a user and start. No shuffle: the parts lie together by user already."""
    items = F.collect_set(_ITEM)
    if _ITEMS in parts.columns:
        items = F.array_union(items, F.flatten(F.collect_list(_ITEMS)))
    sessions = parts.groupBy(*_USER, F.col(_SESSION).alias(_START)).agg(
        F.max(_END).alias(_END),
        F.sum(_COUNT).alias(SESSIONS.n_events),
        F.size(items).cast("bigint").alias(SESSIONS.n_items),
        F.collect_list(F.struct(EVENTS.event_type, _COUNT)).alias(SESSIONS.events_by_type),
        F.try_sum(_VALUE).cast("double").alias(SESSIONS.value_sum),
    )
    by_type = _sum_by_type(F.col(SESSIONS.events_by_type))
    start, end = F.timestamp_micros(_START), F.timestamp_micros(_END)
    return sessions.withColumns(
        {
            SESSIONS.session_id: _session_id(),
            SESSIONS.events_by_type: by_type,
            SESSIONS.session_start: start,
            SESSIONS.session_end: end,
            SESSIONS.is_open: F.col(_END) + gap_us >= newest_us,
            SESSIONS.session_date: F.to_date(start),
        }
    ).select(*SESSIONS.column_names)


def _sum_by_type(counts: Column) -> Column:
    """Map of event type → count, in the order of the types, of an array of types with counts."""
    types = F.array_sort(F.array_distinct(F.transform(counts, lambda part: part[EVENTS.event_type])))

    def entry(name: Column) -> Column:
        own = F.filter(counts, lambda part: part[EVENTS.event_type] == name)
        total = F.aggregate(own, F.lit(0).cast("bigint"), lambda sum_, part: sum_ + part[_COUNT])
        return F.struct(name.alias("key"), total.alias("value"))

    return F.map_from_entries(F.transform(types, entry))


def _session_id() -> Column:
    """First 32 hex digits of SHA-256 over the source's own session key, or else over the start."""
    key = F.col(SESSIONS.session_key)
    identity = F.when(key.isNull(), F.concat(F.lit("start\x1f"), F.col(_START).cast("string"))).otherwise(
        F.concat(F.lit("key\x1f"), key)
    )
    return F.substring(F.sha2(F.concat_ws("\x1f", SESSIONS.source, SESSIONS.user_id, identity), 256), 1, 32)


def _touched(stored: DataFrame, arrived: DataFrame, gap_us: int, newest_us: int, oldest_new_us: int) -> DataFrame:
    """Stored sessions that a new event joins, and open ones that have closed."""
    # A literal: Delta then skips the files whose newest session ended before it. Keys know no distance in time.
    is_in_reach = F.col(SESSIONS.session_end) >= F.timestamp_micros(F.lit(oldest_new_us - gap_us))
    start, end = F.unix_micros(SESSIONS.session_start), F.unix_micros(SESSIONS.session_end)
    is_near = (F.col(f"_{_START}") <= end + gap_us) & (F.col(f"_{_END}") >= start - gap_us)
    joins = _same_user() & (F.col(SESSIONS.session_key).isNotNull() | is_near)
    near = stored.where(F.col(SESSIONS.session_key).isNotNull() | is_in_reach).join(
        _prefixed(arrived), joins, "left_semi"
    )
    closed = stored.where(F.col(SESSIONS.is_open) & (end + gap_us < newest_us))
    return near.unionByName(closed).dropDuplicates([SESSIONS.session_id])


def _inside_some(events: DataFrame, spans: DataFrame, endless: Sequence[Row]) -> DataFrame:
    """`_inside`, where the days of a few users are many: theirs are looked for by user, those of all others by day."""
    columns = spans.select(*_USER)
    users = F.broadcast(_prefixed(spans.sparkSession.createDataFrame(list(endless), columns.schema)))
    theirs, others = (spans.join(users, _same_user(), kind) for kind in ("left_semi", "left_anti"))
    # As literals: files are sorted by user, and of pages without these users Parquet reads nothing.
    own = events.where(F.col(EVENTS.user_id).isin([row[SESSIONS.user_id] for row in endless]))
    return _inside(events, others).unionByName(_inside(own, theirs, are_few=True))


def _inside(events: DataFrame, spans: DataFrame, *, are_few: bool = False) -> DataFrame:
    """Events that lie in a span of their user. The days are few and sent ahead, so that Spark reads those days only.

    are_few: the spans are sent ahead too, and no event is shuffled.
    """
    days = F.sequence(F.to_date(F.timestamp_micros(_START)), F.to_date(F.timestamp_micros(_END)))
    daily = _prefixed(spans.withColumn(_DAY, F.explode(days)))
    same_day = F.col(EVENTS.event_date) == F.col(f"_{_DAY}")
    near = events.join(F.broadcast(daily.select(f"_{_DAY}").distinct()), same_day, "left_semi")
    spans_of_day = F.broadcast(daily) if are_few else daily
    return near.join(spans_of_day, _same_user() & same_day & _in_span(), "left_semi")


def _aliases(stale: DataFrame, changed: DataFrame, new: DataFrame) -> DataFrame:
    """SESSION_ALIAS rows: each stale id, and the id of the session that its first event lies in now."""
    spans = _prefixed(changed.select(*_USER, *_microseconds(), SESSIONS.session_id))
    start = F.unix_micros(SESSIONS.session_start)
    holds = (F.col(f"_{_START}") <= start) & (F.col(f"_{_END}") >= start)
    moved = stale.join(spans, _same_user() & holds).select(
        F.col(SESSIONS.session_id).alias(SESSION_ALIAS.old_session_id),
        F.col(f"_{SESSIONS.session_id}").alias(SESSION_ALIAS.session_id),
    )
    brought = session_events(changed, new).groupBy(SESSION_ALIAS.session_id)
    newest = brought.agg(
        F.max_by(EVENTS.batch_id, F.struct("_commit_version", EVENTS.batch_id)).alias(SESSION_ALIAS.batch_id)
    )
    return moved.join(newest, SESSION_ALIAS.session_id).select(*SESSION_ALIAS.column_names)


def _microseconds() -> tuple[Column, Column]:
    start, end = F.unix_micros(SESSIONS.session_start), F.unix_micros(SESSIONS.session_end)
    return start.alias(_START), end.alias(_END)


def _prefixed(frame: DataFrame) -> DataFrame:
    """The frame with `_` before each name, so that a join's condition says which side it means."""
    return frame.select(*(F.col(name).alias(f"_{name}") for name in frame.columns))


def _same_user() -> Column:
    """A user's sessions in one source; a null session_key equals a null one."""
    source, user, key = _USER
    same_key = F.col(key).eqNullSafe(F.col(f"_{key}"))
    return (F.col(source) == F.col(f"_{source}")) & (F.col(user) == F.col(f"_{user}")) & same_key


def _in_span() -> Column:
    return F.unix_micros(EVENTS.event_time).between(F.col(f"_{_START}"), F.col(f"_{_END}"))

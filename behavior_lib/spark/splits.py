"""Where histories end: at one time for everybody, or before each user's last events."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from behavior_lib.config.schema import SplitConfig
from behavior_lib.config.source import SourceSplit
from behavior_lib.errors import ConfigError, DataRefused
from behavior_lib.spark.sequences import Asked, Shape, Vocabulary, newest_first, rows_of_cuts, target_array, targets
from behavior_lib.tables import EVENTS, ITEMS, SEQUENCES
from behavior_lib.tables.items import UNKNOWN_INDEX
from behavior_lib.tables.sequences import TEST, VALIDATION

_FEWEST = 3  # events with an item, of whoever has events held out
_PLACE, _START, _END, _CUT = "_place", "_start", "_end", (SEQUENCES.as_of, SEQUENCES.held_out_id)


def cuts(config: SplitConfig, source: SourceSplit, newest: datetime) -> tuple[datetime, datetime]:
    """The validation cut and the test cut, UTC.

    Each is the configuration's, else the source's, else `days` before what follows it. newest: the newest event time.
    Raises ConfigError where a cut is no time or the validation cut is not before the test cut.
    """
    window = timedelta(days=config.days)
    end = datetime(newest.year, newest.month, newest.day) + timedelta(days=1)
    test = _time(config.test or source.test, "split.test") or end - window
    validation = _time(config.validation or source.validation, "split.validation") or test - window
    if validation >= test:
        raise ConfigError("split.validation is not before split.test", value=f"{validation} and {test}")
    return validation, test


def newest_event(events: DataFrame, source: str) -> datetime:
    """The newest event time of EVENTS rows, UTC. source: whose they are. Raises DataRefused where there is none."""
    row = events.agg(F.max(EVENTS.event_time)).first()
    if row is None or row[0] is None:
        raise DataRefused("there is no event", where=f"source {source}", mend="run ingest first")
    newest: datetime = row[0]
    return newest


def global_rows(
    events: DataFrame,
    sessions: DataFrame,
    vocabulary: Vocabulary,
    shape: Shape,
    validation: datetime,
    test: datetime,
    refit: bool = False,
) -> DataFrame:
    """SEQUENCES rows of the global split, not padded yet: nothing at or after a cut is in the arrays of its rows.

    events, sessions: EVENTS and SESSIONS rows. Train and validation end at the validation cut, test and refit at the
    test cut. refit: whether its rows are made.
    """
    time = F.col(EVENTS.event_time)
    earlier = events.where(time < F.lit(validation))
    later = events.where((time >= F.lit(validation)) & (time < F.lit(test)))

    def asked(cut: datetime, until: datetime | None) -> Asked:
        return Asked(targets(events, sessions, vocabulary.items, cut, until, shape.length), cut)

    return rows_of_cuts(earlier, later, vocabulary, (asked(validation, test), asked(test, None)), shape, refit)


def leave_one_out_rows(events: DataFrame, vocabulary: Vocabulary, shape: Shape, refit: bool = False) -> DataFrame:
    """SEQUENCES rows of leave-one-out, the split of most published tables: a target is one event of each user.

    events: EVENTS rows. See `held_out`. A history holds what comes before the event that is held out, in the order of
    (event_time, event_id), also of its instant. Train holds what comes before the validation event, and everything of
    users of whom nothing is held out; their as_of is 1 µs after their newest event. refit: whether rows are made that
    are like those of train, and go up to the test event. Arrays are not padded yet.
    """
    held = held_out(events)
    ends = [held.where(F.col(SEQUENCES.split) == judged) for judged in (VALIDATION, TEST)]

    def asked(of_cut: DataFrame, is_taught: bool) -> Asked:
        index = target_array(F.array(F.coalesce(ITEMS.item_index, F.lit(UNKNOWN_INDEX))), shape.length)
        numbered = of_cut.join(vocabulary.items.select(ITEMS.item_id, ITEMS.item_index), ITEMS.item_id, "left")
        target = numbered.select(SEQUENCES.user_id, *_CUT, index)
        return Asked(_ends_of_all(events, target) if is_taught else target)

    later = before(events, ends[1], ends[0])
    return rows_of_cuts(
        before(events, ends[0]), later, vocabulary, (asked(ends[0], True), asked(ends[1], refit)), shape, refit
    )


def held_out(events: DataFrame) -> DataFrame:
    """user_id, split, as_of, held_out_id and item_id of what leave-one-out holds out.

    Of the events with an item, in the order of (event_time, event_id), each user's last is of the test split and the
    one before it of the validation split. Of a user with fewer than three nothing is held out.
    """
    last = (
        events.where(F.col(EVENTS.item_id).isNotNull())
        .select(EVENTS.user_id, EVENTS.event_time, EVENTS.event_id, EVENTS.item_id)
        .withColumn(_PLACE, F.row_number().over(newest_first()))
        .where(F.col(_PLACE) <= _FEWEST)
    )
    has_enough = F.max(_PLACE).over(Window.partitionBy(EVENTS.user_id)) == _FEWEST
    split = F.when(F.col(_PLACE) == 1, TEST).when(F.col(_PLACE) == 2, VALIDATION)
    chosen = last.withColumn(SEQUENCES.split, F.when(has_enough, split)).where(F.col(SEQUENCES.split).isNotNull())
    renamed = {EVENTS.event_time: SEQUENCES.as_of, EVENTS.event_id: SEQUENCES.held_out_id}
    return chosen.drop(_PLACE).withColumnsRenamed(renamed)


def before(events: DataFrame, ends: DataFrame, since: DataFrame | None = None) -> DataFrame:
    """The EVENTS rows before the event that is held out of their user; all of a user without one.

    ends: user_id, as_of and held_out_id, one row a user. since: the same of earlier events, from which on rows are
    wanted; then there are none of a user without one.
    """
    place = F.struct(EVENTS.event_time, EVENTS.event_id)
    joined = events.join(_as_end(ends, _END), EVENTS.user_id, "left")
    rows = joined.where(F.col(_END).isNull() | (place < F.col(_END))).drop(_END)
    if since is not None:
        rows = rows.join(_as_end(since, _START), EVENTS.user_id).where(place >= F.col(_START)).drop(_START)
    return rows


def _as_end(ends: DataFrame, name: str) -> DataFrame:
    return ends.select(EVENTS.user_id, F.struct(*_CUT).alias(name))


def _ends_of_all(events: DataFrame, target: DataFrame) -> DataFrame:
    """user_id, as_of, held_out_id and target_index of every user: of those without a target what train says of them."""
    newest = events.groupBy(EVENTS.user_id).agg(F.max(F.unix_micros(EVENTS.event_time)).alias(_END))
    as_of = F.coalesce(SEQUENCES.as_of, F.timestamp_micros(F.col(_END) + 1)).alias(SEQUENCES.as_of)
    joined = newest.join(target, EVENTS.user_id, "left")
    return joined.select(EVENTS.user_id, as_of, SEQUENCES.held_out_id, SEQUENCES.target_index)


def _time(text: str | None, key: str) -> datetime | None:
    try:
        time = None if text is None else datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"{key} is no date or time", value=text, mend="write 2017-11-01 or 2017-11-01T06:00:00"
        ) from None
    if time is None or time.tzinfo is None:
        return time
    return time.astimezone(timezone.utc).replace(tzinfo=None)

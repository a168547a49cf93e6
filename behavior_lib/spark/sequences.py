"""Events → rows of SEQUENCES: each user's events before two cuts, as arrays of one fixed length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import Column, DataFrame, Window, WindowSpec
from pyspark.sql import functions as F

from behavior_lib.errors import ConfigError
from behavior_lib.spark.placement import key_of_task
from behavior_lib.spark.sessionize import session_events
from behavior_lib.spark.values import filled_value
from behavior_lib.spark.vocabulary import bucket_index, known_from
from behavior_lib.tables import EVENT_TYPES, EVENTS, ITEMS, SEQUENCES, SESSIONS
from behavior_lib.tables.buckets import Buckets
from behavior_lib.tables.items import UNKNOWN_INDEX
from behavior_lib.tables.sequences import REFIT, TEST, TRAIN, VALIDATION

# Of the session that runs `rows_of_cuts`: Spark's other way to collect values hashes 128 users and sorts what comes
# then, while rows are in the order of users already.
IN_ORDER_OF_USERS = {"spark.sql.execution.useObjectHashAggregateExec": "false"}
_MAX_INT = 2**31 - 1
_MOST_SENT_AROUND = 1_000_000  # items whose numbers every executor gets, some 120 MB: more are shuffled with the events
_PLACE, _INDEX, _LATER_INDEX, _TYPE, _GAP = "_place", "_index", "_later_index", "_type", "_gap"
_EVENTS, _LATER = "_events", "_later"

_TOLD = (SEQUENCES.target_index, SEQUENCES.as_of, SEQUENCES.held_out_id)
_ASKED = tuple(f"{name}_{number}" for number in (0, 1) for name in _TOLD)
_ARRAY_COLUMNS = (SEQUENCES.item_index, SEQUENCES.event_type, SEQUENCES.gap_seconds, SEQUENCES.value)


@dataclass(frozen=True)
class Vocabulary:
    """Frames of ITEMS and EVENT_TYPES, whose numbers the arrays hold, and the buckets of rare items, if any.

    n_items: how many rows ITEMS has; None: unknown.
    """

    items: DataFrame
    event_types: DataFrame
    buckets: Buckets | None = None
    n_items: int | None = None


@dataclass(frozen=True)
class Shape:
    """How a user's history is cut into chunks.

    length: events of a chunk. max_events: how many of a user's newest events are kept. stride: from one chunk's newest
    event back to the next chunk's; less than `length` makes chunks overlap; None: `length`.
    Raises ConfigError where stride is not in 1 … length.
    """

    length: int
    max_events: int
    stride: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.step <= self.length:
            mend = f"give 1 to sequences.length ({self.length}), or null"
            raise ConfigError("sequences.stride would leave events out", value=self.stride, mend=mend)

    @property
    def step(self) -> int:
        """The stride in events."""
        return self.length if self.stride is None else self.stride


def histories(events: DataFrame, vocabulary: Vocabulary, as_of: datetime | None, shape: Shape) -> DataFrame:
    """Chunks of each user's newest events before `as_of` (None: all events), as train has them, and padded.

    events: EVENTS rows. Returns user_id, chunk_id, item_index, event_type, gap_seconds and value (arrays of
    `shape.length`), length and first_event_time.
    """
    before = events if as_of is None else events.where(F.col(EVENTS.event_time) < F.lit(as_of))
    users = _pasts(before, vocabulary, (as_of, as_of), shape.max_events, 0)
    chunks = users.select(EVENTS.user_id, F.inline(_cut_up(TRAIN, F.col(_EVENTS), shape)))
    rows = chunks.select(EVENTS.user_id, SEQUENCES.chunk_id, *_of_events(_values(SEQUENCES.item_index)))
    return _padded_arrays(rows, _ARRAY_COLUMNS, shape.length)


@dataclass(frozen=True)
class Asked:
    """What is asked at a cut.

    targets: user_id, once each, and target_index, null where there is no target. as_of: the cut of all users; None:
    each has one of its own, and `targets` has as_of and held_out_id too, of every user who is taught.
    """

    targets: DataFrame
    as_of: datetime | None = None


def rows_of_cuts(
    earlier: DataFrame,
    later: DataFrame,
    vocabulary: Vocabulary,
    asked: tuple[Asked, Asked],
    shape: Shape,
    refit: bool = False,
) -> DataFrame:
    """SEQUENCES rows of two cuts, not padded yet: arrays of at most `shape.length`, oldest event first.

    earlier: EVENTS rows before each user's first cut. later: those from there to the second cut. asked: at each cut.
    Train: chunks of each user's newest events before the first cut. Chunk c holds the events from place c * stride on,
    counted from the newest back; the last chunk is the first to hold the oldest kept event. Validation and test: the
    newest chunk before their cut of each user with a target; a user without an event there has an empty one. refit:
    whether there are rows as those of train, before the second cut.
    An event is shuffled once, by user, and a task sends no more than the newest of each user (WindowGroupLimit).
    """
    kept = shape.max_events if refit else min(shape.length, shape.max_events)
    cuts = (asked[0].as_of, asked[1].as_of)
    pasts = _pasts(earlier, vocabulary, cuts, shape.max_events, 0)
    after = _pasts(later, vocabulary, cuts, kept, None).withColumnRenamed(_EVENTS, _LATER)
    # The fewest bytes first: what a full join gives is shuffled once more for the next.
    joined = _by_user(pasts, _by_user(after, _by_user(*(_columns_of(each, n) for n, each in enumerate(asked)))))
    nothing = F.array().cast(pasts.schema[_EVENTS].dataType)
    joined = joined.withColumns({name: F.coalesce(name, nothing) for name in (_EVENTS, _LATER)})
    pieces = _pieces(F.col(_EVENTS), _newest_of(_joined(F.col(_EVENTS), F.col(_LATER)), kept), shape, refit)
    rows = joined.select(EVENTS.user_id, *_ASKED, F.inline(pieces))
    return _as_rows(rows, cuts)


def targets(
    events: DataFrame, sessions: DataFrame, items: DataFrame, cut: datetime, until: datetime | None, length: int
) -> DataFrame:
    """For each user, the distinct items of the first session that starts at or after `cut` and before `until`.

    Returns user_id and target_index (ascending, at most `length`; of a session with more distinct items the smallest
    indexes are kept). Each item without a number is one unknown item more: no ranking has it, so it is
    missed whether it gets a number later or not. Users without such a session, or whose session names no item, are left
    out.
    """
    start = F.col(SESSIONS.session_start)
    after = sessions.where(start >= F.lit(cut))
    if until is not None:
        after = after.where(start < F.lit(until))
    first = after.groupBy(SESSIONS.user_id).agg(
        F.min(F.struct(SESSIONS.session_start, SESSIONS.session_id))[SESSIONS.session_id].alias(SESSIONS.session_id)
    )
    chosen = after.join(first.select(SESSIONS.session_id), SESSIONS.session_id, "left_semi")
    bought = session_events(chosen, events.where(F.col(EVENTS.event_date) >= F.lit(cut.date())))
    named = bought.where(F.col(EVENTS.item_id).isNotNull())
    numbered = named.join(items.select(ITEMS.item_id, ITEMS.item_index), ITEMS.item_id, "left")
    item = F.struct(F.coalesce(ITEMS.item_index, F.lit(UNKNOWN_INDEX)).alias(ITEMS.item_index), ITEMS.item_id)
    indexes = F.collect_set(item)[ITEMS.item_index]
    return numbered.groupBy(EVENTS.user_id).agg(target_array(indexes, length))


def target_array(indexes: Column, length: int) -> Column:
    """target_index: the smallest `length` of the item indexes, ascending."""
    return F.slice(F.array_sort(indexes), 1, length).alias(SEQUENCES.target_index)


def without_padding(rows: DataFrame) -> DataFrame:
    """SEQUENCES rows as `lay_out` takes them."""
    trimmed = {name: F.slice(name, F.lit(1), F.col(SEQUENCES.length)) for name in _ARRAY_COLUMNS}
    return rows.withColumns({**trimmed, SEQUENCES.target_index: F.array_remove(SEQUENCES.target_index, 0)})


def lay_out(rows: DataFrame, files: int, length: int) -> DataFrame:
    """SEQUENCES rows in so many files a split, each user in the one that the hash of the id says, in a total order.

    rows: with arrays of at most `length`, target_index null for none; they are padded here, behind the shuffle, for
    most of a row is padding. The same rows lie in the same order in the same files, however they were made.
    """
    place = F.pmod(F.xxhash64(SEQUENCES.user_id), F.lit(files))
    laid = rows.repartition(files, key_of_task(place, files)).sortWithinPartitions(
        SEQUENCES.split, F.xxhash64(SEQUENCES.user_id), SEQUENCES.user_id, SEQUENCES.chunk_id
    )
    return padded(laid, length)


def padded(rows: DataFrame, length: int) -> DataFrame:
    """SEQUENCES rows of what `rows_of_cuts` gives, in its order. length: of every array."""
    return _padded_arrays(rows, (*_ARRAY_COLUMNS, SEQUENCES.target_index), length).select(*SEQUENCES.column_names)


def newest_first() -> WindowSpec:
    """Each user's EVENTS rows from the newest back, in a total order."""
    return Window.partitionBy(EVENTS.user_id).orderBy(F.col(EVENTS.event_time).desc(), F.col(EVENTS.event_id).desc())


def _pasts(
    events: DataFrame, vocabulary: Vocabulary, cuts: tuple[datetime | None, datetime | None], most: int, gap: int | None
) -> DataFrame:
    """user_id and `_events`, an array of each user's newest `most` events, oldest first. gap: that of the first one."""
    event = F.struct(
        (-F.col(_PLACE)).alias(_PLACE),
        F.col(_INDEX).alias(SEQUENCES.item_index),
        F.col(_LATER_INDEX).alias(_LATER_INDEX),
        F.col(_TYPE).alias(SEQUENCES.event_type),
        F.coalesce(_GAP, F.lit(gap).cast("int")).alias(SEQUENCES.gap_seconds),
        filled_value().cast("float").alias(SEQUENCES.value),
        F.col(EVENTS.event_time).alias(SEQUENCES.first_event_time),
    )
    numbered = _numbered(_newest(events, most), vocabulary, cuts)
    return numbered.groupBy(EVENTS.user_id).agg(F.array_sort(F.collect_list(event)).alias(_EVENTS))


def _newest(events: DataFrame, most: int) -> DataFrame:
    """The newest `most` events of each user with their place, 1 for the newest, and the seconds since the one before.

    One event more is ranked, for the gap of the oldest. The rank is filtered alone: beside another window function
    Spark would not limit the rows before the shuffle.
    """
    ranked = (
        events.select(
            EVENTS.user_id, EVENTS.event_time, EVENTS.event_id, EVENTS.item_id, EVENTS.event_type, EVENTS.value
        )
        .withColumn(_PLACE, F.row_number().over(newest_first()))
        .where(F.col(_PLACE) <= most + 1)
    )
    gap = _gap(F.col(EVENTS.event_time), F.lead(EVENTS.event_time).over(newest_first()))
    return ranked.withColumn(_GAP, gap).where(F.col(_PLACE) <= most)


def _gap(time: Column, before: Column) -> Column:
    """Seconds between times rounded down, so that a first time and a sum of gaps is each event's time to the second."""
    seconds = F.unix_seconds(time) - F.unix_seconds(before)
    return F.when(seconds.isNotNull(), F.least(seconds, F.lit(_MAX_INT)).cast("int"))


def _numbered(placed: DataFrame, vocabulary: Vocabulary, cuts: tuple[datetime | None, datetime | None]) -> DataFrame:
    """Add the numbers that the item had at both cuts, and the event type's; a rare item has its bucket's, the rest is
    unknown. cuts: None: the number that it has now.
    """
    since = known_from()
    known = {
        name: F.col(ITEMS.item_index) if cut is None else F.when(since < F.lit(cut), F.col(ITEMS.item_index))
        for name, cut in zip((_INDEX, _LATER_INDEX), cuts, strict=True)
    }
    items = vocabulary.items.select(ITEMS.item_id, *(column.alias(name) for name, column in known.items()))
    if vocabulary.n_items is not None and vocabulary.n_items <= _MOST_SENT_AROUND:
        items = F.broadcast(items)
    types = vocabulary.event_types.select(EVENT_TYPES.event_type, F.col(EVENT_TYPES.type_index).alias(_TYPE))
    joined = placed.join(items, ITEMS.item_id, "left").join(F.broadcast(types), EVENT_TYPES.event_type, "left")
    rare = [] if vocabulary.buckets is None else [bucket_index(vocabulary.buckets)]
    return joined.withColumns(
        {
            **{name: F.coalesce(name, *rare, F.lit(UNKNOWN_INDEX)) for name in known},
            _TYPE: F.coalesce(_TYPE, F.lit(UNKNOWN_INDEX)),
        }
    )


def _by_user(left: DataFrame, right: DataFrame) -> DataFrame:
    return left.join(right, EVENTS.user_id, "full_outer")


def _columns_of(asked: Asked, number: int) -> DataFrame:
    """What is asked at one of the cuts, in columns of its own."""
    targets = asked.targets
    if asked.as_of is not None:
        nothing = F.lit(None).cast("string")
        targets = targets.withColumns({SEQUENCES.as_of: F.lit(asked.as_of), SEQUENCES.held_out_id: nothing})
    return targets.select(EVENTS.user_id, *(F.col(name).alias(f"{name}_{number}") for name in _TOLD))


def _joined(events: Column, later: Column) -> Column:
    """Two arrays of a user's events as one. The first of `later` has no gap yet where the other array may tell it."""
    first, before = F.get(later, F.lit(0)), F.get(events, F.size(events) - 1)
    time = SEQUENCES.first_event_time
    gap = F.coalesce(first.getField(SEQUENCES.gap_seconds), _gap(first.getField(time), before.getField(time)), F.lit(0))
    mended = F.array(first.withField(SEQUENCES.gap_seconds, gap))
    rest = F.slice(later, F.lit(2), F.greatest(F.size(later) - 1, F.lit(0)))
    return F.when(F.size(later) > 0, F.concat(events, mended, rest)).otherwise(events)


def _newest_of(events: Column, most: int) -> Column:
    """The newest events of an array."""
    return F.slice(events, F.greatest(F.size(events) - (most - 1), F.lit(1)), F.lit(most))


def _pieces(before_first: Column, before_second: Column, shape: Shape, refit: bool) -> Column:
    """All rows of a user, each with its split, its chunk and its events. The arguments: the events before each cut."""
    parts = [_cut_up(TRAIN, before_first, shape)]
    for number, (split, events) in enumerate(((VALIDATION, before_first), (TEST, before_second))):
        is_asked = F.col(f"{SEQUENCES.target_index}_{number}").isNotNull()
        newest = _newest_of(events, shape.length)
        parts.append(F.when(is_asked, F.array(_piece(split, F.lit(0), newest))))
    if refit:
        parts.append(_cut_up(REFIT, before_second, shape))
    return F.flatten(F.array_compact(F.array(*parts)))


def _piece(split: str, chunk: Column, events: Column) -> Column:
    return F.struct(F.lit(split).alias(SEQUENCES.split), chunk.alias(SEQUENCES.chunk_id), events.alias(_EVENTS))


def _cut_up(split: str, events: Column, shape: Shape) -> Column:
    """An array of a user's events as an array of its chunks; null where there is no event."""
    size = F.size(events)
    further = F.ceil(F.greatest(F.lit(0), size - shape.length) / shape.step).cast("int")

    def chunk(number: Column) -> Column:
        newest = size - number * shape.step
        oldest = F.greatest(F.lit(1), newest - (shape.length - 1))
        return _piece(split, number, F.slice(events, oldest, newest - oldest + 1))

    return F.when(size > 0, F.transform(F.sequence(F.lit(0), further), chunk))


def _as_rows(pieces: DataFrame, cuts: tuple[datetime | None, datetime | None]) -> DataFrame:
    """The columns of SEQUENCES of rows that have those of both cuts, their split, their chunk and its events."""
    is_second = F.col(SEQUENCES.split).isin(TEST, REFIT)
    is_judged = F.col(SEQUENCES.split).isin(VALIDATION, TEST)

    def told(name: str) -> Column:
        return F.when(is_second, F.col(f"{name}_1")).otherwise(F.col(f"{name}_0"))

    index = F.when(is_second, _values(_LATER_INDEX)).otherwise(_values(SEQUENCES.item_index))
    cut = F.when(is_second, F.lit(cuts[1])).otherwise(F.lit(cuts[0])).cast("timestamp")
    return pieces.select(
        EVENTS.user_id,
        SEQUENCES.chunk_id,
        SEQUENCES.split,
        *_of_events(index),
        F.when(is_judged, told(SEQUENCES.target_index)).alias(SEQUENCES.target_index),
        F.coalesce(told(SEQUENCES.as_of), cut).alias(SEQUENCES.as_of),
        told(SEQUENCES.held_out_id).alias(SEQUENCES.held_out_id),
    )


def _of_events(index: Column) -> list[Column]:
    """The columns of SEQUENCES that say what the events of a row are. index: item_index."""
    first = F.get(_values(SEQUENCES.first_event_time), F.lit(0))
    return [
        index.alias(SEQUENCES.item_index),
        *(_values(name).alias(name) for name in _ARRAY_COLUMNS[1:]),
        F.size(_EVENTS).alias(SEQUENCES.length),
        first.alias(SEQUENCES.first_event_time),
    ]


def _values(name: str) -> Column:
    """A field of an array of structs is the array of that field."""
    return F.col(_EVENTS).getField(name)


def _padded_arrays(rows: DataFrame, names: Sequence[str], length: int) -> DataFrame:
    """The rows with these arrays of numbers right-padded with 0; null is padding alone."""
    types = {column.name: column.type for column in SEQUENCES.columns}

    def padded(name: str) -> Column:
        of_array, of_number = types[name], types[name].element
        assert of_number is not None
        values = F.coalesce(F.col(name), F.array().cast(of_array.ddl))
        missing = F.array_repeat(F.lit(0).cast(of_number.ddl), F.lit(length) - F.size(values))
        return F.concat(values, missing).cast(of_array.ddl)

    return rows.withColumns({name: padded(name) for name in names})

"""Events → the histories of SEQUENCES: each user's events before a cut, as arrays of one fixed length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import Column, DataFrame, Window, WindowSpec
from pyspark.sql import functions as F

from behavior_lib.errors import ConfigError
from behavior_lib.spark.placement import key_of_task
from behavior_lib.spark.sessionize import session_events
from behavior_lib.spark.vocabulary import bucket_index, known_before
from behavior_lib.tables import EVENT_TYPES, EVENTS, ITEMS, SEQUENCES, SESSIONS
from behavior_lib.tables.buckets import Buckets
from behavior_lib.tables.items import UNKNOWN_INDEX

_MAX_INT = 2**31 - 1
_PLACE, _INDEX, _TYPE, _GAP, _ARRAYS = "_place", "_index", "_type", "_gap", "_arrays"

_ARRAY_COLUMNS = (SEQUENCES.item_index, SEQUENCES.event_type, SEQUENCES.gap_seconds, SEQUENCES.value)


@dataclass(frozen=True)
class Vocabulary:
    """Frames of ITEMS and EVENT_TYPES, whose numbers the arrays hold, and the buckets of rare items, if any."""

    items: DataFrame
    event_types: DataFrame
    buckets: Buckets | None = None


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

    def newest(self) -> Shape:
        """The newest chunk alone."""
        return Shape(self.length, min(self.length, self.max_events))


def histories(events: DataFrame, vocabulary: Vocabulary, as_of: datetime | None, shape: Shape) -> DataFrame:
    """`chunks` with each array right-padded with 0 to `shape.length`."""
    return _padded_arrays(chunks(events, vocabulary, as_of, shape), _ARRAY_COLUMNS, shape.length)


def chunks(events: DataFrame, vocabulary: Vocabulary, as_of: datetime | None, shape: Shape) -> DataFrame:
    """Chunks of each user's newest events before `as_of` (None: all events).

    events: EVENTS rows. Returns user_id, chunk_id (0 holds the newest), item_index, event_type, gap_seconds and value
    (arrays of at most `shape.length`, oldest event first), length and first_event_time. Chunk c holds the events from
    place c * stride on, counted from the newest back; the last chunk is the first to hold the oldest kept event.
    One shuffle by user, to which a task sends no more than the newest events of each user (WindowGroupLimit).
    """
    before = events if as_of is None else events.where(F.col(EVENTS.event_time) < F.lit(as_of))
    in_chunks = _newest(before, shape.max_events).withColumn(SEQUENCES.chunk_id, _chunks_of_place(shape))
    event = F.struct(
        (-F.col(_PLACE)).alias(_PLACE),
        F.col(_INDEX).alias(SEQUENCES.item_index),
        F.col(_TYPE).alias(SEQUENCES.event_type),
        F.col(_GAP).alias(SEQUENCES.gap_seconds),
        F.coalesce(EVENTS.value, F.lit(0.0)).cast("float").alias(SEQUENCES.value),
    )
    rows = (
        _numbered(in_chunks, vocabulary, as_of)
        .groupBy(EVENTS.user_id, SEQUENCES.chunk_id)
        .agg(
            F.array_sort(F.collect_list(event)).alias(_ARRAYS),
            F.min(EVENTS.event_time).alias(SEQUENCES.first_event_time),
        )
        # What is left over at the end of overlapping chunks is in the chunk before it already.
        .where((F.col(SEQUENCES.chunk_id) == 0) | (F.size(_ARRAYS) > shape.length - shape.step))
    )
    # A field of an array of structs is the array of that field.
    arrays = [F.col(_ARRAYS).getField(name).alias(name) for name in _ARRAY_COLUMNS]
    length = F.size(_ARRAYS).alias(SEQUENCES.length)
    return rows.select(EVENTS.user_id, SEQUENCES.chunk_id, *arrays, length, SEQUENCES.first_event_time)


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


def split_rows(made: DataFrame, target: DataFrame, taught: str | None, judged: str) -> DataFrame:
    """Rows of one cut, not padded yet: all chunks in the split `taught` (None: not); in `judged` the newest chunk of
    each user with a target.

    made: as `chunks` gives them. target: user_id, once each, and target_index (null: no target), and what else all rows
    of the user are to have. A user whose first event lies after the cut is judged too: the chunk is empty, of length 0.
    One pass over the chunks: what is both taught and judged is made once.
    """
    joined = made.join(target, SEQUENCES.user_id, "right" if taught is None else "full_outer")
    has_chunk = F.col(SEQUENCES.chunk_id).isNotNull()
    is_judged = F.col(SEQUENCES.target_index).isNotNull() & F.coalesce(F.col(SEQUENCES.chunk_id) == 0, F.lit(True))
    splits = [F.when(is_judged, F.lit(judged))]
    if taught is not None:
        splits.append(F.when(has_chunk, F.lit(taught)))
    rows = joined.withColumn(SEQUENCES.split, F.explode(F.array_compact(F.array(*splits))))
    wanted = F.when(F.col(SEQUENCES.split) == judged, F.col(SEQUENCES.target_index))
    return rows.withColumn(SEQUENCES.target_index, wanted)


def without_padding(rows: DataFrame) -> DataFrame:
    """SEQUENCES rows as `lay_out` takes them."""
    trimmed = {name: F.slice(name, F.lit(1), F.col(SEQUENCES.length)) for name in _ARRAY_COLUMNS}
    return rows.withColumns({**trimmed, SEQUENCES.target_index: F.array_remove(SEQUENCES.target_index, 0)})


def lay_out(rows: DataFrame, files: int, length: int) -> DataFrame:
    """SEQUENCES rows in so many files a split, each user in the one that the hash of the id says, in a total order.

    rows: with arrays of at most `length`, null for empty; they are padded here, behind the shuffle, for most of a row
    is padding. The same rows lie in the same order in the same files, however they were made.
    """
    place = F.pmod(F.xxhash64(SEQUENCES.user_id), F.lit(files))
    laid = rows.repartition(files, key_of_task(place, files)).sortWithinPartitions(
        SEQUENCES.split, F.xxhash64(SEQUENCES.user_id), SEQUENCES.user_id, SEQUENCES.chunk_id
    )
    return padded(laid, length)


def padded(rows: DataFrame, length: int) -> DataFrame:
    """SEQUENCES rows of what `split_rows` gives, in its order. length: of every array."""
    counted = rows.withColumns({name: F.coalesce(name, F.lit(0)) for name in (SEQUENCES.chunk_id, SEQUENCES.length)})
    return _padded_arrays(counted, (*_ARRAY_COLUMNS, SEQUENCES.target_index), length).select(*SEQUENCES.column_names)


def newest_first() -> WindowSpec:
    """Each user's EVENTS rows from the newest back, in a total order."""
    return Window.partitionBy(EVENTS.user_id).orderBy(F.col(EVENTS.event_time).desc(), F.col(EVENTS.event_id).desc())


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
    # Of times rounded down, so that gaps add up: a first time and a sum of gaps is each event's time to the second.
    second = F.unix_seconds(EVENTS.event_time)
    gap = second - F.lead(second).over(newest_first())
    seconds = F.least(F.coalesce(gap, F.lit(0)), F.lit(_MAX_INT)).cast("int")
    return ranked.withColumn(_GAP, seconds).where(F.col(_PLACE) <= most)


def _chunks_of_place(shape: Shape) -> Column:
    """The chunks that an event is in: one, or where they overlap a row for each."""
    place = F.col(_PLACE) - 1
    newest = F.floor(place / shape.step).cast("int")
    if shape.step == shape.length:
        return newest
    oldest = F.greatest(F.lit(0), F.floor((place - shape.length) / shape.step).cast("int") + 1)
    return F.explode(F.sequence(oldest, newest))


def _numbered(placed: DataFrame, vocabulary: Vocabulary, as_of: datetime | None) -> DataFrame:
    """Add the numbers that item and event type had at the cut; a rare item has its bucket's, the rest is unknown."""
    known = vocabulary.items if as_of is None else known_before(vocabulary.items, as_of)
    items = known.select(ITEMS.item_id, F.col(ITEMS.item_index).alias(_INDEX))
    types = vocabulary.event_types.select(EVENT_TYPES.event_type, F.col(EVENT_TYPES.type_index).alias(_TYPE))
    joined = placed.join(items, ITEMS.item_id, "left").join(F.broadcast(types), EVENT_TYPES.event_type, "left")
    rare = [] if vocabulary.buckets is None else [bucket_index(vocabulary.buckets)]
    return joined.withColumns(
        {
            _INDEX: F.coalesce(_INDEX, *rare, F.lit(UNKNOWN_INDEX)),
            _TYPE: F.coalesce(_TYPE, F.lit(UNKNOWN_INDEX)),
        }
    )


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

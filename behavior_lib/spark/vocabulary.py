"""The stable vocabularies: every item and event type keeps the number that it got first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from behavior_lib.config.least import check_least
from behavior_lib.config.schema import VocabularyConfig
from behavior_lib.errors import Occupied
from behavior_lib.spark.failures import explain
from behavior_lib.spark.numbering import number_rows
from behavior_lib.spark.tables import Tables
from behavior_lib.tables import EVENT_TYPES, EVENTS, ITEMS
from behavior_lib.tables.buckets import HASH_HEX_DIGITS, NO_ITEM, Buckets
from behavior_lib.tables.items import FIRST_INDEX

_ATTEMPTS = 10
_SINCE, _PLACE = "_since", "_place"
_TOLD = (ITEMS.attributes, ITEMS.vectors)  # by the source's item file


def write_items(tables: Tables, events: DataFrame, dimension: DataFrame | None, config: VocabularyConfig) -> int:
    """Bring ITEMS up to the events. Returns the version after it.

    events: all EVENTS rows. dimension: as `update_items` takes it. A build beside it that gives numbers between the
    reading and the writing makes this one read again, so that no number is given twice.
    Raises ConfigError for a configuration that cannot be, Occupied where others are faster every time.
    """
    check_least("vocabulary", config, {"min_count": 1, "hash_buckets": 0})

    def attempt() -> int:
        reserved = reserved_buckets(tables)
        known = tables.pinned(ITEMS)
        first = next_number(known, ITEMS.item_index, reserved)
        if config.hash_buckets and _of_count(reserved, config.hash_buckets) is None:
            buckets = Buckets(first, config.hash_buckets)
            tables.add_check(ITEMS, *buckets.check)
            first = buckets.end
        with update_items(known, events, dimension, first, config) as rows:
            return tables.merge(ITEMS, rows, numbers=(ITEMS.item_index, first))

    return while_occupied(attempt)


def write_event_types(tables: Tables, events: DataFrame) -> int:
    """Give a number to each event type of the EVENTS rows that has none, as `write_items` does. Returns the version."""

    def attempt() -> int:
        known = tables.pinned(EVENT_TYPES)
        first = next_number(known, EVENT_TYPES.type_index)
        with new_event_types(known, events, first) as rows:
            return tables.merge(EVENT_TYPES, rows, update=False, numbers=(EVENT_TYPES.type_index, first))

    return while_occupied(attempt)


def reserved_buckets(tables: Tables) -> tuple[Buckets, ...]:
    """All buckets whose numbers the warehouse has ever reserved, in ascending order."""
    return Buckets.recorded(tables.properties(ITEMS))


def buckets_of(tables: Tables, count: int) -> Buckets | None:
    """The buckets that rare items share where so many are configured; None where none are, or before `write_items`."""
    return _of_count(reserved_buckets(tables), count)


@contextmanager
def update_items(
    known: DataFrame, events: DataFrame, dimension: DataFrame | None, first: int, config: VocabularyConfig
) -> Iterator[DataFrame]:
    """ITEMS after new events: known items with their counts of now, new ones numbered on by (known_from, item_id).

    known: ITEMS rows so far, of one version. events: all EVENTS rows. dimension: item_id, attributes and vectors, one
    row an item; None keeps the known ones. first: the first new number. Items that are rare by the configuration and
    have no number are left out. The frame is good inside the block alone.
    """
    seen = _seen(events, config).persist()  # the known items and the new ones are taken from it: one pass over events
    numbers = known.select(ITEMS.item_id, ITEMS.item_index, *_TOLD, known_from().alias(_SINCE))
    # The least of both: a late event may have moved it into the past, and nothing takes a number back.
    since = F.least(_SINCE, ITEMS.known_from)
    old = seen.join(numbers, ITEMS.item_id).withColumn(ITEMS.known_from, since).drop(_SINCE)
    new = seen.where(F.col(ITEMS.known_from).isNotNull()).join(numbers, ITEMS.item_id, "left_anti")
    try:
        with number_rows(new, [ITEMS.known_from, ITEMS.item_id], first, ITEMS.item_index) as numbered:
            items = old.unionByName(numbered, allowMissingColumns=True)
            if dimension is not None:
                items = items.drop(*_TOLD).join(dimension, ITEMS.item_id, "left")
            yield items.select(*ITEMS.column_names)
    finally:
        seen.unpersist()


@contextmanager
def new_event_types(known: DataFrame, events: DataFrame, first: int) -> Iterator[DataFrame]:
    """EVENT_TYPES rows for types that have no number yet, numbered on by name. Good inside the block alone."""
    new = events.select(EVENTS.event_type).distinct().join(known, EVENT_TYPES.event_type, "left_anti")
    with number_rows(new, [EVENT_TYPES.event_type], first, EVENT_TYPES.type_index) as numbered:
        yield numbered.select(*EVENT_TYPES.column_names)


def next_number(known: DataFrame, column: str, reserved: Sequence[Buckets] = ()) -> int:
    """The first number above all that the rows have in the column, and above the buckets'."""
    newest = known.agg(F.max(column)).first()[0]  # type: ignore[index]
    return max(FIRST_INDEX, -1 if newest is None else int(newest) + 1, *(buckets.end for buckets in reserved))


def known_from() -> Column:
    """Since when the item of an ITEMS row has a number of its own, of rows too that are older than the column."""
    return F.coalesce(ITEMS.known_from, ITEMS.first_seen)


def known_before(items: DataFrame, cut: datetime) -> DataFrame:
    """The ITEMS rows that had a number of their own by the events before the cut; all others are rare as of it."""
    return items.where(known_from() < F.lit(cut))


def bucket_index(buckets: Buckets) -> Column:
    """`Buckets.index_of` of the column item_id; null where that is null or in no bucket."""
    number = F.conv(F.substring(F.sha2(ITEMS.item_id, 256), 1, HASH_HEX_DIGITS), 16, 10).cast("bigint")
    index = F.lit(buckets.first) + number % buckets.count
    return F.when(F.col(ITEMS.item_id) != NO_ITEM, index.cast("int"))


def _seen(events: DataFrame, config: VocabularyConfig) -> DataFrame:
    """Every item of the events with n_events, first_seen, last_seen, and known_from: null for a rare one."""
    named = events.where(F.col(EVENTS.item_id).isNotNull())
    is_counted = F.col(EVENTS.event_type).isin(config.event_types) if config.event_types else F.lit(True)
    figures = [
        F.count("*").alias(ITEMS.n_events),
        F.min(EVENTS.event_time).alias(ITEMS.first_seen),
        F.max(EVENTS.event_time).alias(ITEMS.last_seen),
    ]
    by_item = named.groupBy(EVENTS.item_id)
    if config.min_count == 1:
        return by_item.agg(*figures, F.min(F.when(is_counted, F.col(EVENTS.event_time))).alias(ITEMS.known_from))
    # Spark keeps the first so many events of each item before it shuffles, so that no item is too popular for a task.
    place = F.row_number().over(Window.partitionBy(ITEMS.item_id).orderBy(ITEMS.known_from))
    placed = named.where(is_counted).select(EVENTS.item_id, F.col(EVENTS.event_time).alias(ITEMS.known_from))
    reached = placed.withColumn(_PLACE, place).where(F.col(_PLACE) == config.min_count).drop(_PLACE)
    return by_item.agg(*figures).join(reached, EVENTS.item_id, "left")


def _of_count(reserved: Sequence[Buckets], count: int) -> Buckets | None:
    return next((buckets for buckets in reserved if buckets.count == count), None)


def while_occupied(attempt: Callable[[], int]) -> int:
    """What an attempt returns; another one where a build beside it was faster."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return attempt()
        except Exception as error:
            if not isinstance(explain(error), Occupied):
                raise
    return attempt()

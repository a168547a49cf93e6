"""The stable vocabularies: every item and event type keeps the number that it got first."""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from behavior_lib.config.source import ItemsConfig
from behavior_lib.spark.numbering import number_rows
from behavior_lib.tables import EVENT_TYPES, EVENTS, ITEMS
from behavior_lib.tables.items import FIRST_INDEX


def update_items(known: DataFrame, events: DataFrame, dimension: DataFrame | None) -> DataFrame:
    """ITEMS after new events: known items with their counts of now, new ones numbered on by (first_seen, item_id).

    known: ITEMS rows so far. events: all EVENTS rows. dimension: item_id and attributes, one row an item; None keeps
    the known attributes.
    """
    seen = (
        events.where(F.col(EVENTS.item_id).isNotNull())
        .groupBy(EVENTS.item_id)
        .agg(
            F.count("*").alias(ITEMS.n_events),
            F.min(EVENTS.event_time).alias(ITEMS.first_seen),
            F.max(EVENTS.event_time).alias(ITEMS.last_seen),
        )
    )
    numbers = known.select(ITEMS.item_id, ITEMS.item_index, ITEMS.attributes)
    old = seen.join(numbers, ITEMS.item_id)
    new = seen.join(numbers, ITEMS.item_id, "left_anti")
    numbered = number_rows(
        new, [ITEMS.first_seen, ITEMS.item_id], _next_number(known, ITEMS.item_index), ITEMS.item_index
    )
    items = old.unionByName(numbered, allowMissingColumns=True)
    if dimension is not None:
        items = items.drop(ITEMS.attributes).join(dimension, ITEMS.item_id, "left")
    return items.select(*ITEMS.column_names)


def update_event_types(known: DataFrame, events: DataFrame) -> DataFrame:
    """EVENT_TYPES rows for types that have no number yet, numbered on by name."""
    new = events.select(EVENTS.event_type).distinct().join(known, EVENT_TYPES.event_type, "left_anti")
    first = _next_number(known, EVENT_TYPES.type_index)
    return number_rows(new, [EVENT_TYPES.event_type], first, EVENT_TYPES.type_index).select(*EVENT_TYPES.column_names)


def read_dimension(spark: SparkSession, items: ItemsConfig) -> DataFrame:
    """The source's item file as item_id and attributes. Of two rows of one item the smaller by attributes stands."""
    raw = spark.read.format(items.format).options(**items.options).load(items.path)
    entries = [
        part for name, sql in items.attributes.items() for part in (F.lit(name), F.expr(f"cast(({sql}) as string)"))
    ]
    attributes = F.map_filter(F.create_map(*entries), lambda _, value: value.isNotNull())
    rows = raw.select(
        F.expr(f"cast(({items.item_id}) as string)").alias(ITEMS.item_id), attributes.alias(ITEMS.attributes)
    )
    sorted_entries = F.array_sort(F.map_entries(ITEMS.attributes))
    chosen = (
        rows.where(F.col(ITEMS.item_id).isNotNull()).groupBy(ITEMS.item_id).agg(F.min(sorted_entries).alias("_entries"))
    )
    return chosen.select(ITEMS.item_id, F.map_from_entries("_entries").alias(ITEMS.attributes))


def _next_number(known: DataFrame, column: str) -> int:
    newest = known.agg(F.max(column)).first()[0]  # type: ignore[index]
    return FIRST_INDEX if newest is None else int(newest) + 1

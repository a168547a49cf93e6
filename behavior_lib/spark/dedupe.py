"""Duplicates: rows with one event_id. The first arrival wins, ties by content."""

from __future__ import annotations

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from behavior_lib.tables import EVENTS

IS_DUPLICATE = "_is_duplicate"
_ORDER = (
    EVENTS.event_time,
    EVENTS.user_id,
    EVENTS.item_id,
    EVENTS.event_type,
    EVENTS.value,
    EVENTS.session_key,
    EVENTS.attributes,
    EVENTS.flags,
)


def mark_duplicates(rows: DataFrame, earlier: DataFrame) -> DataFrame:
    """Add `_is_duplicate`: true but for one row of each event_id, and for that one too where `earlier` has the id.

    rows: canonical columns and flags, in any order. earlier: EVENTS rows of earlier batches.
    The row that stands is the smallest by event_time, then by content, so that any order of arrival leaves the same.
    One shuffle and one sort, by event_id; the join with `earlier` finds the rows where they lie.
    """
    # A map has no order: its sorted entries have one.
    ordered = rows.withColumn(EVENTS.attributes, F.sort_array(F.map_entries(EVENTS.attributes)))
    place = F.row_number().over(Window.partitionBy(EVENTS.event_id).orderBy(*_ORDER))
    placed = ordered.withColumn("_place", place)
    known = earlier.select(EVENTS.event_id, F.lit(True).alias("_is_known"))
    marked = placed.join(known, EVENTS.event_id, "left").withColumn(
        IS_DUPLICATE, (F.col("_place") > 1) | F.col("_is_known").isNotNull()
    )
    return marked.withColumn(EVENTS.attributes, F.map_from_entries(EVENTS.attributes)).drop("_place", "_is_known")

"""Duplicates: rows with one event_id. The first arrival wins, ties by content."""

from __future__ import annotations

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from behavior_lib.tables import EVENTS

IS_DUPLICATE, IS_CONFLICT = "_is_duplicate", "_is_conflict"
# Attributes have no order of their own: their hash has one.
_ORDER = (
    EVENTS.event_time,
    EVENTS.user_id,
    EVENTS.item_id,
    EVENTS.event_type,
    EVENTS.value,
    EVENTS.session_key,
    EVENTS.content_hash,
)
_KNOWN, _FIRST, _PLACE = "_known_hash", "_first_hash", "_place"


def mark_duplicates(rows: DataFrame, earlier: DataFrame) -> DataFrame:
    """Add `_is_duplicate`: true but for one row of each event_id, and for that one too where `earlier` has the id.

    rows: canonical columns, content_hash and flags, in any order. earlier: EVENTS rows of earlier batches, of which
    event_id and content_hash are read.
    The row that stands is the smallest by event_time, then by content, so that any order of arrival leaves the same.
    `_is_conflict`: a duplicate whose content is not that of the row that stands; where an earlier row was written
    before it had a content_hash, it is taken to be the same.
    One shuffle and one sort of the rows, by event_id. The log itself is shuffled only where the batch's ids are too
    many to be sent to its files.
    """
    by_id = Window.partitionBy(EVENTS.event_id).orderBy(*_ORDER)
    placed = rows.withColumns({_PLACE: F.row_number().over(by_id), _FIRST: F.first(EVENTS.content_hash).over(by_id)})
    known = earlier.select(EVENTS.event_id, F.col(EVENTS.content_hash).alias(_KNOWN), F.lit(True).alias("_is_known"))
    met = known.join(rows.select(EVENTS.event_id), EVENTS.event_id, "left_semi")
    standing = F.when(F.col("_is_known"), F.coalesce(_KNOWN, EVENTS.content_hash)).otherwise(F.col(_FIRST))
    is_duplicate = (F.col(_PLACE) > 1) | F.col("_is_known").isNotNull()
    return (
        placed.join(met, EVENTS.event_id, "left")
        .withColumns({IS_DUPLICATE: is_duplicate, IS_CONFLICT: is_duplicate & (F.col(EVENTS.content_hash) != standing)})
        .drop(_PLACE, _FIRST, _KNOWN, "_is_known")
    )

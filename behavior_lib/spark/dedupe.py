"""Duplicates: rows with one event_id. The first arrival wins, ties by content."""

from __future__ import annotations

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from behavior_lib.spark.placement import Placement
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
_KNOWN, _IS_KNOWN, _FIRST, _PLACE = "_known_hash", "_is_known", "_first_hash", "_place"


def mark_duplicates(
    rows: DataFrame, earlier: DataFrame | None, placement: Placement | None = None, *, with_user: bool = False
) -> DataFrame:
    """Add `_is_duplicate`: true but for one row of each event_id, and for that one too where `earlier` has the id.

    rows: canonical columns, content_hash and flags, in any order. earlier: EVENTS rows of earlier batches, of which
    event_id and content_hash are read; None where there is none. placement: where rows of equal ids have equal times,
    the tasks that write them; with_user: they have equal users too.
    The row that stands is the smallest by event_time, then by content, so that any order of arrival leaves the same.
    `_is_conflict`: a duplicate whose content is not that of the row that stands; where an earlier row was written
    before it had a content_hash, it is taken to be the same.
    One shuffle and one sort of the rows; with a placement they lie as they are to be written. The log itself is
    shuffled only where the batch's ids are too many to be sent to its files.
    """
    looked_up = _looked_up(rows, earlier)
    together = [EVENTS.event_id]
    if placement is not None:
        looked_up, together = placement.place(looked_up), placement.together(with_user=with_user)
    in_order = Window.partitionBy(*together).orderBy(*(name for name in _ORDER if name not in together))
    placed = looked_up.withColumns(
        {_PLACE: F.row_number().over(in_order), _FIRST: F.first(EVENTS.content_hash).over(in_order)}
    )
    standing = F.when(F.col(_IS_KNOWN), F.coalesce(_KNOWN, EVENTS.content_hash)).otherwise(F.col(_FIRST))
    is_duplicate = (F.col(_PLACE) > 1) | F.col(_IS_KNOWN).isNotNull()
    is_conflict = is_duplicate & (F.col(EVENTS.content_hash) != standing)
    return placed.withColumns({IS_DUPLICATE: is_duplicate, IS_CONFLICT: is_conflict}).drop(
        _PLACE, _FIRST, _KNOWN, _IS_KNOWN
    )


def _looked_up(rows: DataFrame, earlier: DataFrame | None) -> DataFrame:
    """Rows with `_is_known` and `_known_hash` where `earlier` has their id, else nulls."""
    if earlier is None:
        return rows.withColumns({_KNOWN: F.lit(None).cast("bigint"), _IS_KNOWN: F.lit(None).cast("boolean")})
    known = earlier.select(EVENTS.event_id, F.col(EVENTS.content_hash).alias(_KNOWN), F.lit(True).alias(_IS_KNOWN))
    met = known.join(rows.select(EVENTS.event_id), EVENTS.event_id, "left_semi")
    return rows.join(met, EVENTS.event_id, "left")

"""What judged users did next: the first instant that their history does not hold."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from behavior_lib.evaluation.upcoming import Instants
from behavior_lib.inference.vocabulary import Vocabulary
from behavior_lib.models.objectives.upcoming import NEXT_TIME, NEXT_TYPE, NEXT_VALUE
from behavior_lib.spark.collected import collect
from behavior_lib.spark.values import exact_value
from behavior_lib.tables import EVENTS, SEQUENCES

_FIRST, _NEWEST, _COUNT, _TOTAL = "_first", "_newest", "_count", "_total"
_DAY_US = 86_400_000_000


def next_instants(
    events: DataFrame, sequences: DataFrame, user_ids: NDArray[np.object_], vocabulary: Vocabulary
) -> tuple[NDArray[np.int64], Instants]:
    """int64 [m], which of the users have one and an event before it, and these instants.

    events: EVENTS rows of the source. sequences: SEQUENCES rows of the split. user_ids: theirs, in any order.
    vocabulary: whose numbers types get; of types that as many events have the first by name is taken. A row a user and
    type of the instant comes to the driver.
    """
    ends = sequences.select(SEQUENCES.user_id, SEQUENCES.as_of, SEQUENCES.held_out_id)
    judged = events.join(ends, EVENTS.user_id)
    later, micros = _is_later(), F.unix_micros(EVENTS.event_time)
    bounds = judged.groupBy(EVENTS.user_id).agg(
        F.min(F.when(later, micros)).alias(_FIRST), F.max(F.when(~later, micros)).alias(_NEWEST)
    )
    is_first = (micros == F.col(_FIRST)) & F.col(_NEWEST).isNotNull()
    instants = judged.where(later).join(bounds, EVENTS.user_id).where(is_first)
    total = F.coalesce(F.try_sum(exact_value()).cast("double"), F.lit(0.0))
    parts = instants.groupBy(EVENTS.user_id, EVENTS.event_type, _FIRST, _NEWEST)
    found = collect(parts.agg(F.count("*").alias(_COUNT), total.alias(_TOTAL)))
    ordered = found.sort_values([EVENTS.user_id, _COUNT, EVENTS.event_type], ascending=[True, False, True])
    of_user = ordered.groupby(EVENTS.user_id)
    first = of_user.first()
    return pd.Index(user_ids).get_indexer(first.index).astype(np.int64), {
        NEXT_TYPE: vocabulary.event_type_indexes(first[EVENTS.event_type]).astype(np.int64),
        NEXT_TIME: ((first[_FIRST] - first[_NEWEST]) / _DAY_US).to_numpy(np.float64),
        NEXT_VALUE: of_user[_TOTAL].sum().to_numpy(np.float64),
    }


def _is_later() -> Column:
    """Whether an event comes after the history of its user, the event that is held out among them."""
    time, held_out = F.col(EVENTS.event_time), F.col(SEQUENCES.held_out_id)
    is_behind = held_out.isNull() | (F.col(EVENTS.event_id) >= held_out)
    return (time > F.col(SEQUENCES.as_of)) | ((time == F.col(SEQUENCES.as_of)) & is_behind)

"""What the judgement of a model needs from the tables: users with their targets, and counts before a cut."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from behavior_lib.data.histories import Histories
from behavior_lib.evaluation.baselines import (
    OWN_FREQUENCY,
    POPULARITY,
    RECENT_POPULARITY,
    OwnFrequency,
    Popularity,
    Scorer,
)
from behavior_lib.inference.vocabulary import Vocabulary
from behavior_lib.spark.splits import before
from behavior_lib.spark.vocabulary import known_before
from behavior_lib.tables import EVENT_TYPES, EVENTS, ITEMS, SEQUENCES
from behavior_lib.tables.buckets import Buckets

_COUNT, _RECENT, _PAIRS = "_count", "_recent", "_pairs"


@dataclass(frozen=True)
class JudgedUsers:
    """The n users of a split, ordered by user_id.

    histories: what the model may see. targets: int32 [n, L], the distinct items of the next session, or the item of the
    event that is held out, right-padded with 0. as_of: the cut; of leave-one-out the newest. is_leave_one_out: whether
    each user has a cut of their own.
    """

    user_ids: NDArray[np.object_]
    histories: Histories
    targets: NDArray[np.int32]
    as_of: datetime
    is_leave_one_out: bool = False


@dataclass(frozen=True)
class Baselines:
    """scorers by name, and the catalogue: bool [V], the items that were known before the cut."""

    scorers: dict[str, Scorer]
    catalogue: NDArray[np.bool_]


def read_vocabulary(items: DataFrame, event_types: DataFrame, buckets: Iterable[Buckets] = ()) -> Vocabulary:
    """The names of ITEMS and EVENT_TYPES rows by their index, and the buckets whose numbers may stand between them."""
    named = _collect(items.select(ITEMS.item_id, ITEMS.item_index))
    types = [(row[0], row[1]) for row in event_types.select(EVENT_TYPES.event_type, EVENT_TYPES.type_index).collect()]
    pairs = zip(named[ITEMS.item_id].tolist(), named[ITEMS.item_index].tolist(), strict=True)
    return Vocabulary.from_pairs(pairs, types, buckets)


def judged_users(sequences: DataFrame) -> JudgedUsers | None:
    """The users of one split; None where it has none. sequences: its SEQUENCES rows.

    Everything comes to the driver: 16 bytes an event of a history, so 4 GB for a million users of 256 events.
    """
    rows = _collect(sequences.drop(SEQUENCES.chunk_id, SEQUENCES.split))
    if not len(rows):
        return None
    rows = rows.sort_values(SEQUENCES.user_id, ignore_index=True)

    def stacked(name: str) -> NDArray[np.int32]:
        return np.stack(rows[name].to_list(), dtype=np.int32)

    histories = Histories(
        stacked(SEQUENCES.item_index),
        stacked(SEQUENCES.event_type),
        stacked(SEQUENCES.gap_seconds),
        np.stack(rows[SEQUENCES.value].to_list(), dtype=np.float32),
        rows[SEQUENCES.length].to_numpy(np.int32),
    )
    user_ids, targets = rows[SEQUENCES.user_id].to_numpy(object), stacked(SEQUENCES.target_index)
    as_of, own_cuts = rows[SEQUENCES.as_of].max().to_pydatetime(), rows[SEQUENCES.held_out_id].notna()
    return JudgedUsers(user_ids, histories, targets, as_of, bool(own_cuts.any()))


def seen_events(events: DataFrame, sequences: DataFrame, users: JudgedUsers) -> DataFrame:
    """The EVENTS rows before the cut; where each user has one of their own, all that is not held out.

    sequences: the split's SEQUENCES rows; users: the same collected.
    """
    if users.is_leave_one_out:
        return before(events, sequences)
    return events.where(F.col(EVENTS.event_time) < F.lit(users.as_of))


def baselines(
    events: DataFrame, items: DataFrame, sequences: DataFrame, users: JudgedUsers, n_items: int, recent_days: int
) -> Baselines:
    """Global popularity, popularity in the `recent_days` before the cut, and the users' own frequency.

    events: EVENTS rows, also those after the cut, which are not looked at. items: ITEMS rows. sequences: the split's
    SEQUENCES rows, and users: the same collected. n_items: V, one more than the highest item index.
    Events are counted in Spark; what comes here is one number an item, and two a judged user and item.
    """
    seen = seen_events(events, sequences, users)
    known = items if users.is_leave_one_out else known_before(items, users.as_of)
    numbers = known.select(ITEMS.item_id, ITEMS.item_index)
    is_recent = F.col(EVENTS.event_time) >= F.lit(users.as_of - timedelta(days=recent_days))
    totals = seen.groupBy(EVENTS.item_id).agg(F.count("*").alias(_COUNT), F.count_if(is_recent).alias(_RECENT))
    total = _collect(totals.join(numbers, EVENTS.item_id).select(ITEMS.item_index, _COUNT, _RECENT))

    def by_index(column: str) -> NDArray[np.int64]:
        counts = np.zeros(n_items, dtype=np.int64)
        counts[total[ITEMS.item_index]] = total[column]
        return counts

    popularity = by_index(_COUNT)
    scorers: dict[str, Scorer] = {
        POPULARITY: Popularity(popularity),
        RECENT_POPULARITY: Popularity(by_index(_RECENT)),
        OWN_FREQUENCY: _own_frequency(seen, numbers, sequences, users, popularity),
    }
    return Baselines(scorers, popularity > 0)


def _own_frequency(
    seen: DataFrame, numbers: DataFrame, sequences: DataFrame, users: JudgedUsers, popularity: NDArray[np.int64]
) -> OwnFrequency:
    pairs = seen.groupBy(EVENTS.user_id, EVENTS.item_id).agg(F.count("*").alias(_COUNT)).join(numbers, EVENTS.item_id)
    together = F.collect_list(F.struct(ITEMS.item_index, _COUNT))
    by_user = pairs.groupBy(EVENTS.user_id).agg(together.alias(_PAIRS))
    judged = by_user.join(sequences.select(SEQUENCES.user_id), SEQUENCES.user_id, "left_semi")
    lists = (F.col(_PAIRS)[name].alias(name) for name in (ITEMS.item_index, _COUNT))
    own = _collect(judged.select(EVENTS.user_id, *lists))
    position = pd.Index(users.user_ids).get_indexer(own[EVENTS.user_id])
    user = np.repeat(position, own[_COUNT].str.len())
    item, count = (np.concatenate([*own[name], []]).astype(np.int64) for name in (ITEMS.item_index, _COUNT))
    return OwnFrequency.from_pairs(user, item, count, len(users.user_ids), popularity)


def _collect(frame: DataFrame) -> Any:
    """The rows as a pandas frame, moved as columns and not row by row: some fifty times faster."""
    key = "spark.sql.execution.arrow.pyspark.enabled"
    spark = frame.sparkSession
    before = spark.conf.get(key)
    spark.conf.set(key, "true")
    try:
        return frame.toPandas()
    finally:
        spark.conf.set(key, str(before))

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
from scipy.sparse import csr_array

from behavior_lib.config.schema import EvaluateConfig
from behavior_lib.data.histories import Histories
from behavior_lib.evaluation.background import Background
from behavior_lib.evaluation.baselines import (
    ALS,
    FROM_HISTORIES,
    OWN_FREQUENCY,
    POPULARITY,
    RECENT_POPULARITY,
    Factors,
    OwnFrequency,
    Popularity,
    Scorer,
)
from behavior_lib.evaluation.interactions import Interactions
from behavior_lib.inference.vocabulary import Vocabulary
from behavior_lib.spark.collected import collect, lists_by_user
from behavior_lib.spark.factors import FACTORS, implicit_factors
from behavior_lib.spark.item_attributes import groupings
from behavior_lib.spark.splits import before
from behavior_lib.spark.vocabulary import known_before
from behavior_lib.tables import EVENT_TYPES, EVENTS, ITEMS, SEQUENCES
from behavior_lib.tables.buckets import Buckets

_COUNT, _RECENT, _TIME = "_count", "_recent", "_time"


@dataclass(frozen=True)
class JudgedUsers:
    """The n users of a split, ordered by the length of their histories, then by user_id.

    histories: what the model may see. targets: int32 [n, L], the distinct items of the next session, or the item of the
    event that is held out, right-padded with 0. as_of: the cut; of leave-one-out the newest. own_cuts: datetime64 [n],
    the cut of each user; None where all have one.
    """

    user_ids: NDArray[np.object_]
    histories: Histories
    targets: NDArray[np.int32]
    as_of: datetime
    own_cuts: NDArray[np.datetime64] | None = None

    @property
    def is_leave_one_out(self) -> bool:
        """Whether each user has a cut of their own."""
        return self.own_cuts is not None

    def cut_of(self, place: int) -> datetime:
        """Where the history of the user at this place ends."""
        return self.as_of if self.own_cuts is None else pd.Timestamp(self.own_cuts[place]).to_pydatetime()


@dataclass(frozen=True)
class Baselines:
    """scorers by name, in the configured order. background: what they are told apart by. left_out: names of those
    whose histories were too many for the driver.
    """

    scorers: dict[str, Scorer]
    background: Background
    left_out: tuple[str, ...]

    @property
    def catalogue(self) -> NDArray[np.bool_]:
        """bool [V], the items that were known before the cut."""
        return self.background.popularity > 0


def read_vocabulary(items: DataFrame, event_types: DataFrame, buckets: Iterable[Buckets] = ()) -> Vocabulary:
    """The names of ITEMS and EVENT_TYPES rows by their index, and the buckets whose numbers may stand between them."""
    named = collect(items.select(ITEMS.item_id, ITEMS.item_index))
    types = [(row[0], row[1]) for row in event_types.select(EVENT_TYPES.event_type, EVENT_TYPES.type_index).collect()]
    pairs = zip(named[ITEMS.item_id].tolist(), named[ITEMS.item_index].tolist(), strict=True)
    return Vocabulary.from_pairs(pairs, types, buckets)


def judged_users(sequences: DataFrame) -> JudgedUsers | None:
    """The users of one split; None where it has none. sequences: its SEQUENCES rows.

    Everything comes to the driver: 16 bytes an event of a history, so 4 GB for a million users of 256 events.
    """
    rows = collect(sequences.drop(SEQUENCES.chunk_id, SEQUENCES.split))
    if not len(rows):
        return None
    # Histories of like length are scored together: padding is work too.
    rows = rows.sort_values([SEQUENCES.length, SEQUENCES.user_id], ignore_index=True)
    histories = as_histories(rows)
    user_ids, targets = rows[SEQUENCES.user_id].to_numpy(object), _stacked(rows[SEQUENCES.target_index])
    cuts, is_held_out = rows[SEQUENCES.as_of], rows[SEQUENCES.held_out_id].notna().any()
    own_cuts = cuts.to_numpy("datetime64[us]") if is_held_out else None
    return JudgedUsers(user_ids, histories, targets, cuts.max().to_pydatetime(), own_cuts)


def as_histories(rows: Any) -> Histories:
    """The arrays of SEQUENCES rows in a pandas frame, one at least."""
    return Histories(
        _stacked(rows[SEQUENCES.item_index]),
        _stacked(rows[SEQUENCES.event_type]),
        _stacked(rows[SEQUENCES.gap_seconds]),
        np.stack(rows[SEQUENCES.value].to_list(), dtype=np.float32),
        rows[SEQUENCES.length].to_numpy(np.int32),
        rows[SEQUENCES.first_event_time].to_numpy("datetime64[s]"),
    )


def seen_events(events: DataFrame, sequences: DataFrame, users: JudgedUsers) -> DataFrame:
    """The EVENTS rows before the cut; where each user has one of their own, all that is not held out.

    sequences: the split's SEQUENCES rows; users: the same collected.
    """
    if users.is_leave_one_out:
        return before(events, sequences)
    return events.where(F.col(EVENTS.event_time) < F.lit(users.as_of))


def baselines(
    events: DataFrame,
    items: DataFrame,
    sequences: DataFrame,
    users: JudgedUsers,
    n_items: int,
    config: EvaluateConfig,
) -> Baselines:
    """The baselines that the configuration names, of what was seen before the cut.

    events: EVENTS rows, also those after the cut, which are not looked at. items: ITEMS rows. sequences: the split's
    SEQUENCES rows, and users: the same collected. n_items: V, one more than the highest item index.
    Counts are taken in Spark: one number an item comes here, and two a judged user and item. Where a baseline needs
    whole histories every event comes too (some 70 bytes each), up to `evaluate.most_events`. Raises ConfigError for an
    attribute to judge by that no item has.
    """
    seen = seen_events(events, sequences, users)
    known = items if users.is_leave_one_out else known_before(items, users.as_of)
    numbers = known.select(ITEMS.item_id, ITEMS.item_index)
    popularity, recent = _popularity(seen, numbers, n_items, users.as_of - timedelta(days=config.recent_days))
    named = [name for name in config.baselines if name in FROM_HISTORIES]
    left_out = tuple(named) if popularity.sum() > config.most_events else ()
    pairs = seen.groupBy(EVENTS.user_id, EVENTS.item_id).agg(F.count("*").alias(_COUNT)).join(numbers, EVENTS.item_id)
    attributes = groupings(items, config.calibration_attributes, n_items)
    own = _own_counts(pairs, sequences, users, n_items)
    background = Background(popularity, own, users.histories.length > 0, attributes)
    scorers: dict[str, Scorer] = {
        POPULARITY: Popularity(popularity),
        RECENT_POPULARITY: Popularity(recent),
        OWN_FREQUENCY: OwnFrequency(background.own, popularity),
    }
    if named and not left_out:
        histories = interactions(seen.join(numbers, EVENTS.item_id), users)
        scorers |= {name: FROM_HISTORIES[name](histories, n_items) for name in named}
    if ALS in config.baselines and popularity.any():
        scorers[ALS] = _als(pairs, sequences, users, popularity, config.checkpoints)
    chosen = {name: scorers[name] for name in config.baselines if name in scorers}
    return Baselines(chosen, background, left_out)


def interactions(numbered: DataFrame, users: JudgedUsers) -> Interactions:
    """The histories of all users: of the judged by their ids, then of the others.

    numbered: EVENTS rows with item_index.
    """
    histories = lists_by_user(numbered.withColumn(_TIME, F.unix_micros(EVENTS.event_time)), ITEMS.item_index, _TIME)
    by_id = np.argsort(users.user_ids)
    number = pd.Index(users.user_ids[by_id]).get_indexer(histories[EVENTS.user_id]).astype(np.int64)
    n_judged, others = len(users.user_ids), number < 0
    number[others] = n_judged + np.arange(others.sum())
    user = np.repeat(number, histories[_TIME].str.len())
    item, time = _joined(histories[ITEMS.item_index]), _joined(histories[_TIME])
    return Interactions.from_events(user, item, time, n_judged + int(others.sum()), np.argsort(by_id))


def _popularity(
    seen: DataFrame, numbers: DataFrame, n_items: int, since: datetime
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """int64 [V] twice: events of each item, and those from `since` on."""
    is_recent = F.col(EVENTS.event_time) >= F.lit(since)
    totals = seen.groupBy(EVENTS.item_id).agg(F.count("*").alias(_COUNT), F.count_if(is_recent).alias(_RECENT))
    total = collect(totals.join(numbers, EVENTS.item_id).select(ITEMS.item_index, _COUNT, _RECENT))
    counts = np.zeros((2, n_items), dtype=np.int64)
    counts[:, total[ITEMS.item_index]] = total[_COUNT], total[_RECENT]
    return counts[0], counts[1]


def _own_counts(pairs: DataFrame, sequences: DataFrame, users: JudgedUsers, n_items: int) -> csr_array:
    """int64 CSR [n, V]: how often each judged user had each item."""
    judged = pairs.join(sequences.select(SEQUENCES.user_id), SEQUENCES.user_id, "left_semi")
    own = lists_by_user(judged, ITEMS.item_index, _COUNT)
    user = np.repeat(pd.Index(users.user_ids).get_indexer(own[EVENTS.user_id]), own[_COUNT].str.len())
    place = user, _joined(own[ITEMS.item_index])
    return csr_array((_joined(own[_COUNT]), place), shape=(len(users.user_ids), n_items))


def _als(
    pairs: DataFrame, sequences: DataFrame, users: JudgedUsers, popularity: NDArray[np.int64], checkpoints: str
) -> Factors:
    of_users, of_items = implicit_factors(pairs, _COUNT, checkpoints)
    of_judged = of_users.join(sequences.select(SEQUENCES.user_id), SEQUENCES.user_id, "left_semi")

    found, items = collect(of_judged), collect(of_items)
    rows = pd.Index(users.user_ids).get_indexer(found[EVENTS.user_id])
    vectors = np.stack(items[FACTORS].to_list())
    item_factors = np.zeros((len(popularity), vectors.shape[1]), dtype=np.float32)
    item_factors[items[ITEMS.item_index]] = vectors
    user_factors = np.full((len(users.user_ids), vectors.shape[1]), np.nan, dtype=np.float32)
    user_factors[rows] = np.reshape(found[FACTORS].to_list(), (len(rows), vectors.shape[1]))
    return Factors(user_factors, item_factors, popularity)


def _stacked(lists: Any) -> NDArray[np.int32]:
    return np.stack(lists.to_list(), dtype=np.int32)


def _joined(lists: Any) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(0, dtype=np.int64), *lists])

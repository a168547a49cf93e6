"""What a probe needs from the tables: users as they stood at a cut, and labels that no model has seen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from behavior_lib.config.schema import ProbeConfig
from behavior_lib.config.source import ACTIVE, CHURN, SPEND
from behavior_lib.errors import ConfigError, DataRefused
from behavior_lib.evaluation.probes import Label
from behavior_lib.evaluation.probes_features import Panel, UserEvents, aggregates
from behavior_lib.spark.collected import collect, lists_by_user
from behavior_lib.spark.embed import Serving, user_embeddings
from behavior_lib.spark.labels import LABEL, KnownLabels, as_labels, choose_users
from behavior_lib.spark.values import exact_value, filled_value
from behavior_lib.tables import EVENTS, USER_EMBEDDINGS

_TIME, _ITEM, _TYPE, _FILLED = "_time", "_item", "_type", "_filled"


@dataclass(frozen=True)
class Gathered:
    """The users of a probe and all labels of them. aggregates: the names of the panel's."""

    panel: Panel
    labels: tuple[Label, ...]
    aggregates: tuple[str, ...]


def future_labels(events: DataFrame, cut: datetime, days: int) -> DataFrame:
    """user_id, ACTIVE, SPEND and CHURN of every user with an event in the `days` before the cut or in those from it on.

    ACTIVE: 1.0 for a user with an event from the cut on, else 0.0. SPEND: log(1 + the sum of the values from the cut
    on), 0 where that sum is not positive. CHURN: of those with an event in the days before, 1.0 for whom none comes
    after, else 0.0; null for others. Users who are not in it have 0 of ACTIVE and SPEND, and no CHURN.
    events: EVENTS rows.
    """
    time, span = F.col(EVENTS.event_time), timedelta(days=days)
    near = events.where((time >= F.lit(cut - span)) & (time < F.lit(cut + span)))
    is_after = time >= F.lit(cut)
    came, stays = F.bool_or(~is_after), F.bool_or(is_after)
    total = F.try_sum(F.when(is_after, exact_value())).cast("double")
    spend = F.log1p(F.greatest(F.coalesce(total, F.lit(0.0)), F.lit(0.0)))
    figures = {ACTIVE: stays.cast("double"), SPEND: spend, CHURN: F.when(came, (~stays).cast("double"))}
    return near.groupBy(EVENTS.user_id).agg(*(figure.alias(LABEL + name) for name, figure in figures.items()))


def gather(
    events: DataFrame, cut: datetime, known: KnownLabels | None, serving: Serving, config: ProbeConfig, seed: int
) -> Gathered:
    """Users as they stood at the cut, and their labels. events: the source's EVENTS rows, also those after the cut.

    Only the labels of FUTURE look at or after the cut. The events of the chosen users come to the driver, some 100
    bytes each. Raises DataRefused where nobody has an event before the cut, ConfigError where there are more than
    `probe.most_events`.
    """
    before = events.where(F.col(EVENTS.event_time) < F.lit(cut))
    users = choose_users(before, known, config.most_users, seed).persist()
    try:
        own = before.join(users.select(EVENTS.user_id), EVENTS.user_id, "left_semi")
        _check_size(own.count(), config.most_events)
        labels = users.join(future_labels(events, cut, config.horizon_days), EVENTS.user_id, "left")
        facts = collect(labels.fillna(0.0, subset=[LABEL + ACTIVE, LABEL + SPEND]))
        vectors = user_embeddings(own, serving, cut).select(EVENTS.user_id, USER_EMBEDDINGS.embedding)
        facts = facts.merge(collect(vectors), on=EVENTS.user_id).sort_values(EVENTS.user_id, ignore_index=True)
        history = _history(own, facts[EVENTS.user_id], cut)
    finally:
        users.unpersist()
    figures = aggregates(history)
    panel = Panel(
        facts[EVENTS.user_id].to_numpy(object),
        np.stack(facts[USER_EMBEDDINGS.embedding].to_list()).astype(np.float32),
        np.stack(list(figures.values()), axis=1),
        history.item_counts(),
    )
    is_binary = {**({} if known is None else known.is_binary), ACTIVE: True, SPEND: False, CHURN: True}
    class_of = {} if known is None else known.class_of
    return Gathered(panel, as_labels(facts, is_binary, class_of), tuple(figures))


def _history(own: DataFrame, user_ids: Any, cut: datetime) -> UserEvents:
    """The events of the users before the cut. user_ids: ascending."""
    # A hash tells items and types apart as well as a number does, and needs no vocabulary; 0 stands for none.
    item = F.when(F.col(EVENTS.item_id).isNotNull(), F.xxhash64(EVENTS.item_id)).otherwise(F.lit(0))
    named = own.withColumns(
        {
            _TIME: F.unix_micros(EVENTS.event_time),
            _ITEM: item,
            _TYPE: F.xxhash64(EVENTS.event_type),
            _FILLED: filled_value(),
        }
    )
    lists = lists_by_user(named, _TIME, _ITEM, _FILLED, _TYPE)
    user = np.repeat(pd.Index(user_ids).get_indexer(lists[EVENTS.user_id]), lists[_TIME].str.len()).astype(np.int64)
    return UserEvents.from_columns(
        user,
        np.concatenate(lists[_TIME].to_list()).astype(np.int64),
        np.concatenate(lists[_ITEM].to_list()).astype(np.int64),
        np.concatenate(lists[_FILLED].to_list()).astype(np.float64),
        np.concatenate(lists[_TYPE].to_list()).astype(np.int64),
        len(user_ids),
        int(cut.replace(tzinfo=timezone.utc).timestamp()) * 1_000_000 + cut.microsecond,
    )


def _check_size(n_events: int, most: int) -> None:
    if n_events == 0:
        raise DataRefused("nobody has an event before the cut", where="table events", mend="move the cut: split.test")
    if n_events > most:
        mend = "lower probe.most_users, or raise probe.most_events where the driver has the memory"
        raise ConfigError("the users have more events than probe.most_events", value=n_events, mend=mend)

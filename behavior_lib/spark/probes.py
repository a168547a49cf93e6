"""What a probe needs from the tables: users as they stood at a cut, and labels that no model has seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import BooleanType, DataType, NumericType

from behavior_lib.config.schema import PrivacyConfig, ProbeConfig
from behavior_lib.config.source import ACTIVE, SPEND, UsersConfig
from behavior_lib.errors import ConfigError, DataRefused
from behavior_lib.evaluation.probes import Label
from behavior_lib.evaluation.probes_features import Panel, UserEvents, aggregates
from behavior_lib.privacy.keys import Keyring
from behavior_lib.spark.collected import collect, lists_by_user
from behavior_lib.spark.embed import Serving, user_embeddings
from behavior_lib.spark.pseudonyms import keyed_hash, with_keys
from behavior_lib.tables import EVENTS, USER_EMBEDDINGS

_TIME, _ITEM, _TYPE, _FILLED, _TOGETHER = "_time", "_item", "_type", "_filled", "_together"
_LABEL = "_label_"  # before a label's name in a frame, so that none is taken for a column of the tables


@dataclass(frozen=True)
class KnownLabels:
    """Labels of users that a source has. rows: user_id and, by `columns`, one double a label. is_binary: by name."""

    rows: DataFrame
    is_binary: Mapping[str, bool]

    @property
    def columns(self) -> list[str]:
        """The columns that hold them, in the order of `is_binary`."""
        return [_LABEL + name for name in self.is_binary]


@dataclass(frozen=True)
class Gathered:
    """The users of a probe and all labels of them. aggregates: the names of the panel's."""

    panel: Panel
    labels: tuple[Label, ...]
    aggregates: tuple[str, ...]


def read_labels(spark: SparkSession, users: UsersConfig, privacy: PrivacyConfig) -> KnownLabels:
    """The source's labels, one row a user id of the tables. Of two rows of one user the smaller by labels stands.

    Where ids are pseudonyms, a user has one under each key. Raises ConfigError for a label that is neither a boolean
    nor a number.
    """
    raw = spark.read.format(users.format).options(**users.options).load(users.path)
    user_id = F.expr(f"cast(({users.user_id}) as string)").alias(EVENTS.user_id)
    found = raw.select(user_id, *(F.expr(f"({sql})").alias(_LABEL + name) for name, sql in users.labels.items()))
    is_binary = {name: _is_binary(name, found.schema[_LABEL + name].dataType) for name in users.labels}
    numbers = [F.col(_LABEL + name).cast("double").alias(_LABEL + name) for name in is_binary]
    columns = [_LABEL + name for name in is_binary]
    rows = found.where(F.col(EVENTS.user_id).isNotNull()).select(EVENTS.user_id, *numbers)
    if privacy.pseudonymize:
        keys = Keyring.read(privacy).keys.values()
        pseudonyms = F.explode(F.array(*(keyed_hash(key, F.col(EVENTS.user_id)) for key in keys)))
        rows = with_keys(rows, keys).select(pseudonyms.alias(EVENTS.user_id), *columns)
    chosen = rows.groupBy(EVENTS.user_id).agg(F.min(F.struct(*columns)).alias(_TOGETHER))
    return KnownLabels(chosen.select(EVENTS.user_id, f"{_TOGETHER}.*"), is_binary)


def future_labels(events: DataFrame, cut: datetime, days: int) -> DataFrame:
    """user_id, ACTIVE (1.0) and SPEND of every user with an event in the `days` from the cut on.

    SPEND is log(1 + the sum of their values), 0 where that sum is not positive. Users who are not in it have 0 of both.
    events: EVENTS rows.
    """
    time = F.col(EVENTS.event_time)
    after = events.where((time >= F.lit(cut)) & (time < F.lit(cut + timedelta(days=days))))
    # Decimal: a sum of doubles depends on the order of its terms.
    total = F.sum(F.col(EVENTS.value).cast("decimal(38,9)")).cast("double")
    spend = F.log1p(F.greatest(F.coalesce(total, F.lit(0.0)), F.lit(0.0)))
    return after.groupBy(EVENTS.user_id).agg(F.lit(1.0).alias(_LABEL + ACTIVE), spend.alias(_LABEL + SPEND))


def choose_users(before: DataFrame, known: KnownLabels | None, most: int, seed: int) -> DataFrame:
    """user_id of those with an event before the cut, and the source's labels of them; at most so many.

    Above that, those with labels come first, and the rest is drawn by a hash of the seed and the id.
    """
    users = before.select(EVENTS.user_id).distinct()
    if known is None:
        first: list[Column] = []
    else:
        users = users.join(known.rows, EVENTS.user_id, "left")
        first = [F.coalesce(*known.columns).isNull()]
    drawn = F.xxhash64(F.lit(seed), EVENTS.user_id)
    return users.orderBy(*first, drawn, EVENTS.user_id).limit(most)


def gather(
    events: DataFrame, cut: datetime, known: KnownLabels | None, serving: Serving, config: ProbeConfig, seed: int
) -> Gathered:
    """Users as they stood at the cut, and their labels. events: the source's EVENTS rows, also those after the cut.

    Only the labels ACTIVE and SPEND look at or after the cut. The events of the chosen users come to the driver, some
    100 bytes each. Raises DataRefused where nobody has an event before the cut, ConfigError where there are more than
    `probe.most_events`.
    """
    before = events.where(F.col(EVENTS.event_time) < F.lit(cut))
    users = choose_users(before, known, config.most_users, seed).persist()
    try:
        own = before.join(users.select(EVENTS.user_id), EVENTS.user_id, "left_semi")
        _check_size(own.count(), config.most_events)
        labels = users.join(future_labels(events, cut, config.horizon_days), EVENTS.user_id, "left")
        facts = collect(labels.fillna(0.0, subset=[_LABEL + ACTIVE, _LABEL + SPEND]))
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
    is_binary = {**({} if known is None else known.is_binary), ACTIVE: True, SPEND: False}
    told = (Label(name, facts[_LABEL + name].to_numpy(np.float64), binary) for name, binary in is_binary.items())
    return Gathered(panel, tuple(told), tuple(figures))


def _history(own: DataFrame, user_ids: Any, cut: datetime) -> UserEvents:
    """The events of the users before the cut. user_ids: ascending."""
    # A hash tells items and types apart as well as a number does, and needs no vocabulary; 0 stands for none.
    item = F.when(F.col(EVENTS.item_id).isNotNull(), F.xxhash64(EVENTS.item_id)).otherwise(F.lit(0))
    named = own.withColumns(
        {
            _TIME: F.unix_micros(EVENTS.event_time),
            _ITEM: item,
            _TYPE: F.xxhash64(EVENTS.event_type),
            _FILLED: F.coalesce(EVENTS.value, F.lit(0.0)),
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


def _is_binary(name: str, kind: DataType) -> bool:
    if not isinstance(kind, BooleanType | NumericType):
        mend = "write a condition, or cast it to a number"
        where = f"users.labels.{name} of the source"
        raise ConfigError(
            "a label is neither a boolean nor a number", where=where, value=kind.simpleString(), mend=mend
        )
    return isinstance(kind, BooleanType)


def _check_size(n_events: int, most: int) -> None:
    if n_events == 0:
        raise DataRefused("nobody has an event before the cut", where="table events", mend="move the cut: split.test")
    if n_events > most:
        mend = "lower probe.most_users, or raise probe.most_events where the driver has the memory"
        raise ConfigError("the users have more events than probe.most_events", value=n_events, mend=mend)

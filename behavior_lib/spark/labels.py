"""Labels of users that a source has, and the users whose labels are asked for."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import BooleanType, DataType, NumericType

from behavior_lib.config.schema import PrivacyConfig
from behavior_lib.config.source import UsersConfig
from behavior_lib.errors import ConfigError
from behavior_lib.evaluation.probes import Label
from behavior_lib.privacy.keys import Keyring
from behavior_lib.spark.pseudonyms import keyed_hash, with_keys
from behavior_lib.tables import EVENTS

MOST_CLASSES = 20  # of one label
LABEL = "_label_"  # before a label's name in a frame, so that none is taken for a column of the tables
_TOGETHER = "_together"


@dataclass(frozen=True)
class KnownLabels:
    """Labels of users that a source has. rows: user_id and, by `columns`, one double a label. is_binary: by name.

    class_of: by the name of a label that is one of several classes, of which a user has exactly one, theirs.
    """

    rows: DataFrame
    is_binary: Mapping[str, bool]
    class_of: Mapping[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """The columns that hold them, in the order of `is_binary`."""
        return [LABEL + name for name in self.is_binary]


def read_labels(spark: SparkSession, users: UsersConfig, privacy: PrivacyConfig) -> KnownLabels:
    """The source's labels, one row a user id of the tables. Of two rows of one user the smaller by labels stands.

    Where ids are pseudonyms, a user has one under each key. Raises ConfigError for a label that is neither a boolean
    nor a number, and for classes that are too many, too few, or have one name.
    """
    raw = spark.read.format(users.format).options(**users.options).load(users.path)
    user_id = F.expr(f"cast(({users.user_id}) as string)").alias(EVENTS.user_id)
    texts = (F.expr(f"cast(({sql}) as string)").alias(LABEL + name) for name, sql in users.classes.items())
    labels = (F.expr(f"({sql})").alias(LABEL + name) for name, sql in users.labels.items())
    found = raw.select(user_id, *labels, *texts)
    is_binary = {name: _is_binary(name, found.schema[LABEL + name].dataType) for name in users.labels}
    told = {name: F.col(LABEL + name) for name in is_binary}
    class_of: dict[str, str] = {}
    for name in users.classes:
        own = _classes(name, found, told)
        told, class_of = {**told, **own}, {**class_of, **dict.fromkeys(own, name)}
    is_binary |= dict.fromkeys(class_of, True)
    numbers = [condition.cast("double").alias(LABEL + name) for name, condition in told.items()]
    columns = [LABEL + name for name in is_binary]
    rows = found.where(F.col(EVENTS.user_id).isNotNull()).select(EVENTS.user_id, *numbers)
    if privacy.pseudonymize:
        keys = Keyring.read(privacy).keys.values()
        pseudonyms = F.explode(F.array(*(keyed_hash(key, F.col(EVENTS.user_id)) for key in keys)))
        rows = with_keys(rows, keys).select(pseudonyms.alias(EVENTS.user_id), *columns)
    chosen = rows.groupBy(EVENTS.user_id).agg(F.min(F.struct(*columns)).alias(_TOGETHER))
    return KnownLabels(chosen.select(EVENTS.user_id, f"{_TOGETHER}.*"), is_binary, class_of)


def as_labels(rows: pd.DataFrame, is_binary: Mapping[str, bool], class_of: Mapping[str, str]) -> tuple[Label, ...]:
    """The labels in the columns of a frame, one row a user. is_binary, class_of: as of KnownLabels."""
    return tuple(
        Label(name, rows[LABEL + name].to_numpy(np.float64), binary, class_of.get(name))
        for name, binary in is_binary.items()
    )


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


def _classes(name: str, found: DataFrame, taken: Collection[str]) -> dict[str, Column]:
    """By label which of the texts of this name it is, null where none is known; in the order of the texts."""
    where, mend = f"users.classes.{name} of the source", "write conditions into users.labels"
    text = F.col(LABEL + name)
    values = [row[0] for row in found.where(text.isNotNull()).select(text).distinct().limit(MOST_CLASSES + 1).collect()]
    if not 2 <= len(values) <= MOST_CLASSES:
        told = f"{len(values)}" if len(values) < 2 else f"more than {MOST_CLASSES}"
        raise ConfigError(f"a label of classes has 2 to {MOST_CLASSES} of them", where=where, value=told, mend=mend)
    labels: dict[str, Column] = {}
    for value in sorted(values):
        label = f"{name}_is_{re.sub(r'[^0-9A-Za-z]+', '_', value).strip('_').lower()}"
        if label in taken or label in labels:
            raise ConfigError(f"two labels would be called {label}", where=where, value=value, mend=mend)
        labels[label] = text == F.lit(value)
    return labels


def _is_binary(name: str, kind: DataType) -> bool:
    if not isinstance(kind, BooleanType | NumericType):
        mend = "write a condition, or cast it to a number"
        where = f"users.labels.{name} of the source"
        raise ConfigError(
            "a label is neither a boolean nor a number", where=where, value=kind.simpleString(), mend=mend
        )
    return isinstance(kind, BooleanType)

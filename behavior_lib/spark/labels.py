"""Labels of users that a source has, and the users whose labels are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import BooleanType, DataType, NumericType

from behavior_lib.config.schema import PrivacyConfig
from behavior_lib.config.source import UsersConfig
from behavior_lib.errors import ConfigError
from behavior_lib.privacy.keys import Keyring
from behavior_lib.spark.pseudonyms import keyed_hash, with_keys
from behavior_lib.tables import EVENTS

LABEL = "_label_"  # before a label's name in a frame, so that none is taken for a column of the tables
_TOGETHER = "_together"


@dataclass(frozen=True)
class KnownLabels:
    """Labels of users that a source has. rows: user_id and, by `columns`, one double a label. is_binary: by name."""

    rows: DataFrame
    is_binary: Mapping[str, bool]

    @property
    def columns(self) -> list[str]:
        """The columns that hold them, in the order of `is_binary`."""
        return [LABEL + name for name in self.is_binary]


def read_labels(spark: SparkSession, users: UsersConfig, privacy: PrivacyConfig) -> KnownLabels:
    """The source's labels, one row a user id of the tables. Of two rows of one user the smaller by labels stands.

    Where ids are pseudonyms, a user has one under each key. Raises ConfigError for a label that is neither a boolean
    nor a number.
    """
    raw = spark.read.format(users.format).options(**users.options).load(users.path)
    user_id = F.expr(f"cast(({users.user_id}) as string)").alias(EVENTS.user_id)
    found = raw.select(user_id, *(F.expr(f"({sql})").alias(LABEL + name) for name, sql in users.labels.items()))
    is_binary = {name: _is_binary(name, found.schema[LABEL + name].dataType) for name in users.labels}
    numbers = [F.col(LABEL + name).cast("double").alias(LABEL + name) for name in is_binary]
    columns = [LABEL + name for name in is_binary]
    rows = found.where(F.col(EVENTS.user_id).isNotNull()).select(EVENTS.user_id, *numbers)
    if privacy.pseudonymize:
        keys = Keyring.read(privacy).keys.values()
        pseudonyms = F.explode(F.array(*(keyed_hash(key, F.col(EVENTS.user_id)) for key in keys)))
        rows = with_keys(rows, keys).select(pseudonyms.alias(EVENTS.user_id), *columns)
    chosen = rows.groupBy(EVENTS.user_id).agg(F.min(F.struct(*columns)).alias(_TOGETHER))
    return KnownLabels(chosen.select(EVENTS.user_id, f"{_TOGETHER}.*"), is_binary)


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


def _is_binary(name: str, kind: DataType) -> bool:
    if not isinstance(kind, BooleanType | NumericType):
        mend = "write a condition, or cast it to a number"
        where = f"users.labels.{name} of the source"
        raise ConfigError(
            "a label is neither a boolean nor a number", where=where, value=kind.simpleString(), mend=mend
        )
    return isinstance(kind, BooleanType)

"""What the source's item file says of items."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, NumericType

from behavior_lib.config.source import ItemsConfig
from behavior_lib.errors import ConfigError
from behavior_lib.tables import ITEMS

_CONTENT = "_content"


def read_dimension(spark: SparkSession, items: ItemsConfig) -> DataFrame:
    """The source's item file as item_id, attributes and vectors, null where the source declares none.

    Of two rows of one item the smaller by attributes, then by vectors, stands. Raises ConfigError for a vector that is
    no array of numbers.
    """
    raw = spark.read.format(items.format).options(**items.options).load(items.path)
    _check_vectors(raw, items.vectors)
    rows = raw.select(
        F.expr(f"cast(({items.item_id}) as string)").alias(ITEMS.item_id),
        _by_name(items.attributes, ITEMS.attributes),
        _by_name(items.vectors, ITEMS.vectors),
    )
    content = F.struct(
        F.array_sort(F.map_entries(ITEMS.attributes)).alias(ITEMS.attributes),
        F.map_entries(ITEMS.vectors).alias(ITEMS.vectors),
    )
    chosen = rows.where(F.col(ITEMS.item_id).isNotNull()).groupBy(ITEMS.item_id).agg(F.min(content).alias(_CONTENT))
    told = (F.map_from_entries(F.col(_CONTENT)[name]).alias(name) for name in (ITEMS.attributes, ITEMS.vectors))
    return chosen.select(ITEMS.item_id, *told)


def _by_name(expressions: Mapping[str, str], column: str) -> Column:
    """The map column of ITEMS with what the expressions give, but for nulls; null where there are none."""
    kind = ITEMS.column(column).type
    if not expressions or kind.key_and_value is None:
        return F.lit(None).cast(kind.ddl).alias(column)
    to = kind.key_and_value[1].ddl
    pairs = ((F.lit(name), F.expr(f"cast(({sql}) as {to})")) for name, sql in expressions.items())
    values = F.create_map(*(part for pair in pairs for part in pair))
    return F.map_filter(values, lambda _, value: value.isNotNull()).alias(column)


def _check_vectors(raw: DataFrame, vectors: Mapping[str, str]) -> None:
    for name, sql in vectors.items():
        kind = raw.select(F.expr(sql)).schema[0].dataType
        if not (isinstance(kind, ArrayType) and isinstance(kind.elementType, NumericType)):
            where, mend = f"items.vectors.{name}", "give an expression of one, as from_json(column, 'array<float>')"
            raise ConfigError("a vector is no array of numbers", where=where, value=kind.simpleString(), mend=mend)

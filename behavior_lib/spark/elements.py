"""Raw rows that hold an array of events → one raw row an element."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType

from behavior_lib.config.source import SourceConfig
from behavior_lib.errors import ConfigError
from behavior_lib.spark.raw_files import UNREADABLE

ELEMENT, POSITION = "element", "position"
NO_ELEMENT = "_no_element"


def one_row_an_element(raw: DataFrame, source: SourceConfig) -> DataFrame:
    """`raw` once for each element of the array that `explode` gives, with `element` and `position` (int, from 0).

    A row whose array is null or empty stays as one row with both of them null, and so does an unreadable one.
    `_no_element` is true for the former.
    Raises ConfigError where `explode` is no array, or where a raw column has one of the two names.
    """
    where = f"source {source.name}"
    array = F.expr(f"({source.explode})")
    found = raw.select(array).schema[0].dataType
    if not isinstance(found, ArrayType):
        mend = f"explode {source.explode} is not one; give an array column or an expression that makes one"
        raise ConfigError("explode needs an array", where=where, value=found.simpleString(), mend=mend)
    for name in (ELEMENT, POSITION):
        if name in raw.columns:
            mend = "explode gives its own column of that name; leave it out of the schema"
            raise ConfigError("a raw column has the name of a column of explode", where=where, value=name, mend=mend)
    rows = raw.select("*", F.posexplode_outer(array).alias(POSITION, ELEMENT))
    return rows.withColumn(NO_ELEMENT, F.col(POSITION).isNull() & F.col(UNREADABLE).isNull())

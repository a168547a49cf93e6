"""Frames whose values stand in no plan: for keys, and for the ids of people who are to be forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import _parse_datatype_string


def hidden_frame(spark: SparkSession, ddl: str, rows: Iterable[Sequence[str | bytes]]) -> DataFrame:
    """A frame of a few rows of strings and binaries, its columns as `ddl` says.

    A literal is printed wherever a plan is: explain, the Spark UI, the event log, Delta's commit. A local relation
    prints its columns alone. `spark.createDataFrame` would pass the rows through a file in the temporary folder.
    """
    jvm, gateway = spark._jvm, spark.sparkContext._gateway
    assert jvm is not None
    assert gateway is not None
    listed = jvm.java.util.ArrayList()
    for row in rows:
        values = gateway.new_array(jvm.java.lang.Object, len(row))
        for place, value in enumerate(row):
            values[place] = value
        listed.add(jvm.org.apache.spark.sql.RowFactory.create(values))
    session = spark._jsparkSession
    schema = session.parseDataType(_parse_datatype_string(ddl).json())
    return DataFrame(session.createDataFrame(listed, schema), spark)

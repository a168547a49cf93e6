"""Frames brought to the driver, as pandas frames."""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from behavior_lib.tables import EVENTS

_TOGETHER = "_together"


def collect(frame: DataFrame) -> Any:
    """The rows as a pandas frame, moved as columns and not row by row: some fifty times faster."""
    key = "spark.sql.execution.arrow.pyspark.enabled"
    spark = frame.sparkSession
    before = spark.conf.get(key)
    spark.conf.set(key, "true")
    try:
        return frame.toPandas()
    finally:
        spark.conf.set(key, str(before))


def lists_by_user(rows: DataFrame, *columns: str) -> Any:
    """A pandas row a user, in the order of user_id, with a list for each column: an id travels once."""
    by_user = rows.groupBy(EVENTS.user_id).agg(F.collect_list(F.struct(*columns)).alias(_TOGETHER))
    lists = (F.col(_TOGETHER)[name].alias(name) for name in columns)
    return collect(by_user.select(EVENTS.user_id, *lists)).sort_values(EVENTS.user_id, ignore_index=True)

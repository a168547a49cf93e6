"""Append-only numbers for new keys, without a global window."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

_PARTITION = "_partition"


@contextmanager
def number_rows(rows: DataFrame, order: list[str], first: int, name: str) -> Iterator[DataFrame]:
    """The rows with `name`: first, first + 1, … in the given total order. The frame is good inside the block alone.

    Rows are range-partitioned by the order, numbered inside each partition, and moved on by the size of those before:
    the numbers do not depend on where the partitions' bounds fall. Counting the partitions runs a job, and until the
    block ends Spark's cache holds the rows where they were counted.
    """
    ranged = rows.repartitionByRange(*order).withColumn(_PARTITION, F.spark_partition_id()).persist()
    try:
        yield _numbered(ranged, order, first, name)
    finally:
        ranged.unpersist()


def _numbered(ranged: DataFrame, order: list[str], first: int, name: str) -> DataFrame:
    counts = sorted((row[0], row[1]) for row in ranged.groupBy(_PARTITION).count().collect())
    offsets, total = {}, first
    for number, count in counts:
        offsets[number] = total - 1
        total += count
    offset = F.element_at(F.create_map(*(F.lit(x) for pair in offsets.items() for x in pair)), F.col(_PARTITION))
    place = F.row_number().over(Window.partitionBy(_PARTITION).orderBy(*order))
    numbered = ranged.withColumn(name, (place + (offset if offsets else F.lit(0))).cast("int"))
    return numbered.drop(_PARTITION)

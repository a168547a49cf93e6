"""Append-only numbers for new keys, without a global window."""

from __future__ import annotations

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F


def number_rows(rows: DataFrame, order: list[str], first: int, name: str) -> DataFrame:
    """Add `name`: first, first + 1, … in the given total order.

    Rows are range-partitioned by the order, numbered inside each partition, and moved on by the size of those before:
    the numbers do not depend on where the partitions' bounds fall. Counting the partitions runs a job.
    """
    partition = "_partition"
    ranged = rows.repartitionByRange(*order).withColumn(partition, F.spark_partition_id()).persist()
    counts = sorted((row[0], row[1]) for row in ranged.groupBy(partition).count().collect())
    offsets, total = {}, first
    for number, count in counts:
        offsets[number] = total - 1
        total += count
    offset = F.element_at(F.create_map(*(F.lit(x) for pair in offsets.items() for x in pair)), F.col(partition))
    place = F.row_number().over(Window.partitionBy(partition).orderBy(*order))
    numbered = ranged.withColumn(name, (place + (offset if offsets else F.lit(0))).cast("int"))
    return numbered.drop(partition)

"""How Spark shares files among the tasks that read them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pyspark.sql import SparkSession

from behavior_lib.spark.files import list_files
from behavior_lib.spark.session import session_settings
from behavior_lib.spark.tables import Tables
from behavior_lib.tables import TableSpec

# Opening a file costs some milliseconds: as much as parsing or decoding this.
_OPENING_BYTES = 64 << 10
_FEWEST_BYTES_OF_A_TASK, _MOST_BYTES_OF_A_TASK = 1 << 20, 128 << 20
_TASKS_OF_A_CORE = 4


def even_tasks(sizes: Sequence[int], cores: int) -> dict[str, str]:
    """Settings of a session in which Spark reads files by tasks of about the same load, as far as files are cut.

    Without them a task gets 128 MB and a file counts 4 MB more than it has: where one day holds nearly all rows, a task
    then takes ten to twenty times the median. sizes: of the files, bytes. cores: how many tasks run at once.
    """
    of_a_task = math.ceil((sum(sizes) + _OPENING_BYTES * len(sizes)) / (_TASKS_OF_A_CORE * cores))
    return {
        "spark.sql.files.openCostInBytes": str(_OPENING_BYTES),
        "spark.sql.files.maxPartitionBytes": str(min(max(of_a_task, _FEWEST_BYTES_OF_A_TASK), _MOST_BYTES_OF_A_TASK)),
    }


@contextmanager
def read_evenly(spark: SparkSession, tables: Tables, spec: TableSpec) -> Iterator[None]:
    """Inside, Spark shares the table's files, as they are now, evenly among tasks."""
    sizes = [file.size_bytes for file in list_files(tables, spec)]
    with session_settings(spark, even_tasks(sizes, spark.sparkContext.defaultParallelism)):
        yield

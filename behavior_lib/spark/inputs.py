"""What a run of ingest is given to read: files that no batch has taken, or those that the command names."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import SparkSession

from behavior_lib.config.source import SourceConfig
from behavior_lib.errors import BatchConflict
from behavior_lib.spark.batches import Batch
from behavior_lib.spark.delta_source import covers, new_data_files
from behavior_lib.spark.raw_files import RawFile, find_files


def new_files(spark: SparkSession, source: SourceConfig, known: Sequence[Batch]) -> list[RawFile]:
    """The source's files that none of the known batches has.

    A file that has grown since it was taken is taken again: its old rows are duplicates then.
    """
    taken = [file for batch in known for file in batch.files]
    if source.format == "delta":
        return new_data_files(spark, source, source.path, taken)
    known_files = set(taken)
    return [file for file in find_files(spark, source.path) if file not in known_files]


def named_files(
    spark: SparkSession, source: SourceConfig, pattern: str, known: Sequence[Batch], batch_id: str | None
) -> list[RawFile]:
    """The files that `run.input` names: a folder or glob; of a Delta table what is new up to now, or up to `@vN`.

    A registered batch of a Delta table keeps its range of versions: it comes back as it was.
    Raises BatchConflict where another table or version is asked for under its id.
    """
    if source.format != "delta":
        return find_files(spark, pattern)
    registered = next((batch for batch in known if batch.batch_id == batch_id), None)
    if registered is None:
        return new_data_files(spark, source, pattern, [file for batch in known for file in batch.files])
    if not covers(registered.files, pattern):
        mend = "give another table or version a batch_id of its own"
        raise BatchConflict(f"batch {batch_id} was taken with other files", value=pattern, mend=mend)
    return list(registered.files)

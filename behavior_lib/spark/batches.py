"""Which raw files belong to which batch. A batch is registered before any of its rows is written."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from behavior_lib.errors import BatchConflict
from behavior_lib.spark.raw import RawFile
from behavior_lib.spark.schema import rows_frame
from behavior_lib.spark.tables import Tables
from behavior_lib.tables import INGEST_FILES as FILES


@dataclass(frozen=True)
class Batch:
    """Some raw files of one source. number: its place among the source's batches, from 1. accepted_at: UTC."""

    batch_id: str
    number: int
    accepted_at: datetime
    files: tuple[RawFile, ...]


class BatchRegistry:
    """Reads and appends INGEST_FILES for one source."""

    def __init__(self, spark: SparkSession, tables: Tables, source: str) -> None:
        self._spark, self._tables, self._source = spark, tables, source

    def batches(self) -> list[Batch]:
        """All batches in the order in which they were first accepted."""
        rows = self._tables.read(FILES).where(F.col(FILES.source) == self._source).orderBy(FILES.path).collect()
        batches: dict[str, Batch] = {}
        for row in rows:
            file = RawFile(row[FILES.path], row[FILES.size_bytes])
            known = batches.get(row[FILES.batch_id])
            files = (*known.files, file) if known else (file,)
            number, accepted_at = row[FILES.batch_number], row[FILES.accepted_at].replace(tzinfo=timezone.utc)
            batches[row[FILES.batch_id]] = Batch(row[FILES.batch_id], number, accepted_at, files)
        return sorted(batches.values(), key=lambda batch: batch.number)

    def propose(self, batch_id: str | None, files: Sequence[RawFile], now: datetime) -> Batch:
        """The batch of these files: the registered one where there is one, else a new one, not yet registered.

        Without a batch_id it is made from the files, so that the same files make the same batch.
        Raises BatchConflict where the id is registered with other files.
        """
        name = batch_id if batch_id is not None else _id_of(files)
        registered = self.batches()
        for batch in registered:
            if batch.batch_id == name:
                _check_same(batch, files)
                return batch
        number = max((batch.number for batch in registered), default=0) + 1
        return Batch(name, number, now, tuple(sorted(files)))

    def register(self, batch: Batch) -> None:
        """Append the batch's files, once."""
        batch_values = {
            FILES.source: self._source,
            FILES.batch_id: batch.batch_id,
            FILES.batch_number: batch.number,
            FILES.accepted_at: batch.accepted_at,
        }
        rows = [{**batch_values, FILES.path: file.path, FILES.size_bytes: file.size_bytes} for file in batch.files]
        frame = rows_frame(self._spark, FILES, rows)
        self._tables.append(FILES, frame, writer=f"{self._source}/{batch.batch_id}", number=1)


def _id_of(files: Sequence[RawFile]) -> str:
    text = "\n".join(f"{file.path} {file.size_bytes}" for file in sorted(files))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _check_same(batch: Batch, files: Sequence[RawFile]) -> None:
    other = sorted(set(files) ^ set(batch.files))
    if other:
        mend = "give other files a batch_id of their own, or restore the files"
        raise BatchConflict(f"batch {batch.batch_id} was taken with other files", value=other[0].path, mend=mend)

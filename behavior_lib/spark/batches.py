"""Which raw files belong to which batch. A batch is registered before any of its rows is written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pyspark.sql import SparkSession

from behavior_lib.errors import BatchConflict
from behavior_lib.spark.raw_files import RawFile
from behavior_lib.spark.schema import rows_frame
from behavior_lib.spark.tables import Tables
from behavior_lib.tables import INGEST_FILES as FILES


@dataclass(frozen=True)
class Batch:
    """Some raw files of one source.

    number: its place among the source's batches, from 1. accepted_at: when it was first accepted, UTC. late_before:
    older events of it are late. newest_event_time: of its sound rows, once they are judged; UTC.
    """

    batch_id: str
    number: int
    accepted_at: datetime
    files: tuple[RawFile, ...]
    late_before: datetime | None = None
    newest_event_time: datetime | None = None


class BatchRegistry:
    """Reads and appends INGEST_FILES for one source."""

    def __init__(self, spark: SparkSession, tables: Tables, source: str) -> None:
        self._spark, self._tables, self._source = spark, tables, source

    def batches(self) -> list[Batch]:
        """All batches in the order in which they were first accepted."""
        files: dict[str, list[Mapping[str, Any]]] = {}
        for row in self._tables.rows(FILES):
            if row[FILES.source] == self._source:
                files.setdefault(row[FILES.batch_id], []).append(row)
        return sorted((_batch(own) for own in files.values()), key=lambda batch: batch.number)

    def propose(self, batch_id: str | None, files: Sequence[RawFile], now: datetime, late_days: int) -> Batch:
        """The batch of these files: the registered one where there is one, else a new one, not yet registered.

        Without a batch_id it is made from the files, so that the same files make the same batch. late_days: events of
        a new batch that are older than the source's newest event by more are late.
        Raises BatchConflict where the id is registered with other files.
        """
        name = batch_id if batch_id is not None else _id_of(files)
        registered = self.batches()
        for batch in registered:
            if batch.batch_id == name:
                _check_same(batch, files)
                return batch
        number = max((batch.number for batch in registered), default=0) + 1
        newest = max((batch.newest_event_time for batch in registered if batch.newest_event_time), default=None)
        late_before = None if newest is None else newest - timedelta(days=late_days)
        return Batch(name, number, now, tuple(sorted(files)), late_before)

    def register(self, batch: Batch) -> None:
        """Append the batch's files, once. Raises BatchConflict where another run has taken the batch's number."""
        batch_values = {
            FILES.source: self._source,
            FILES.batch_id: batch.batch_id,
            FILES.batch_number: batch.number,
            FILES.accepted_at: batch.accepted_at,
            FILES.late_before: batch.late_before,
            FILES.newest_event_time: batch.newest_event_time,
        }
        rows = [{**batch_values, FILES.path: file.path, FILES.size_bytes: file.size_bytes} for file in batch.files]
        frame = rows_frame(self._spark, FILES, rows)
        self._tables.append(FILES, frame, writer=f"ingest/{self._source}", number=batch.number)
        of_number = next((known for known in self.batches() if known.number == batch.number), None)
        if of_number is None or of_number.batch_id != batch.batch_id:
            mend = "run again: it will be the next one"
            raise BatchConflict(f"another run took batch number {batch.number}", value=batch.batch_id, mend=mend)


def _batch(rows: Sequence[Mapping[str, Any]]) -> Batch:
    """One batch from its rows of INGEST_FILES."""
    first = rows[0]
    files = tuple(sorted(RawFile(row[FILES.path], row[FILES.size_bytes]) for row in rows))
    return Batch(
        batch_id=first[FILES.batch_id],
        number=first[FILES.batch_number],
        accepted_at=first[FILES.accepted_at],
        files=files,
        late_before=first[FILES.late_before],
        newest_event_time=first[FILES.newest_event_time],
    )


def _id_of(files: Sequence[RawFile]) -> str:
    text = "\n".join(f"{file.path} {file.size_bytes}" for file in sorted(files))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _check_same(batch: Batch, files: Sequence[RawFile]) -> None:
    other = sorted(set(files) ^ set(batch.files))
    if other:
        mend = "give other files a batch_id of their own, or restore the files"
        raise BatchConflict(f"batch {batch.batch_id} was taken with other files", value=other[0].path, mend=mend)

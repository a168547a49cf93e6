"""The ledger of job runs: what each read, wrote and counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from pyspark.sql import SparkSession

from behavior_lib.errors import LawBroken
from behavior_lib.spark.schema import rows_frame
from behavior_lib.spark.tables import Tables
from behavior_lib.tables import PIPELINE_RUNS as RUNS
from behavior_lib.tables import TableSpec

SUCCEEDED, UNCHANGED, FAILED = "succeeded", "unchanged", "failed"
STOPPED = "stopped"  # asked to end before it was done; the same command goes on
TRIED = "tried"  # told what it would do
BUILD = "build_sequences"  # the job that makes SEQUENCES, of one source at a time


@dataclass(frozen=True)
class RowCounts:
    """Where the rows of a batch went. The law of conservation: read = accepted + duplicate + quarantined + late.

    conflict: those of quarantined whose event_id another row has with other content.
    """

    read: int
    accepted: int
    duplicate: int
    quarantined: int
    late: int
    conflict: int = 0

    def check(self, batch_id: str) -> None:
        """Raises LawBroken where the sum is off."""
        told = self.accepted + self.duplicate + self.quarantined + self.late
        if told != self.read:
            mend = "the batch is not done; report it with the ledger's row"
            raise LawBroken(f"{told} rows came out of {self.read}", where=f"batch {batch_id}", value=self, mend=mend)


@dataclass(frozen=True)
class Summary:
    """What a job did. rows, tables and metrics stand in the JSON line; extra keys are the job's own.

    config_hash: of the configuration that decides what the job makes; None where no rerun asks for it. afterwards: what
    may only be done once the run stands in the ledger.
    """

    status: str = SUCCEEDED
    rows: RowCounts | None = None
    inputs: Mapping[str, int] = field(default_factory=dict)
    tables: Mapping[str, int] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    batch_id: str | None = None
    config_hash: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    afterwards: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class RunRecord:
    """The identity of one run, as the ledger stores it."""

    run_id: str
    job: str
    source: str
    started_at: datetime


class Ledger:
    """Reads and appends PIPELINE_RUNS."""

    def __init__(self, spark: SparkSession, tables: Tables) -> None:
        self._spark, self._tables = spark, tables

    def write(self, run: RunRecord, summary: Summary, config_hash: str, error: str | None = None) -> int:
        """Append one run that ends now. Returns the ledger's version."""
        rows = summary.rows
        values = {
            RUNS.run_id: run.run_id,
            RUNS.job: run.job,
            RUNS.source: run.source,
            RUNS.batch_id: summary.batch_id,
            RUNS.started_at: run.started_at,
            RUNS.finished_at: datetime.now(timezone.utc),
            RUNS.status: FAILED if error is not None else summary.status,
            RUNS.rows_read: rows.read if rows else None,
            RUNS.rows_accepted: rows.accepted if rows else None,
            RUNS.rows_duplicate: rows.duplicate if rows else None,
            RUNS.rows_quarantined: rows.quarantined if rows else None,
            RUNS.rows_late: rows.late if rows else None,
            RUNS.rows_conflict: rows.conflict if rows else None,
            RUNS.input_versions: dict(summary.inputs),
            RUNS.output_versions: dict(summary.tables),
            RUNS.config_hash: config_hash,
            RUNS.error: error,
        }
        return self._tables.insert(RUNS, rows_frame(self._spark, RUNS, [values]))

    def last_success(
        self, job: str, source: str, *, wrote: TableSpec | None = None, before: datetime | None = None
    ) -> Mapping[str, Any] | None:
        """The newest run of the job on the source that was done, or None.

        wrote: only a run that wrote that table. before: only a run that had ended by then.
        """
        runs = sorted(self._successes(job, source), key=lambda run: run[RUNS.run_id])
        if wrote is not None:
            runs = [run for run in runs if wrote.name in run[RUNS.output_versions]]
        if before is not None:
            runs = [run for run in runs if run[RUNS.finished_at] <= before]
        return max(runs, key=lambda run: run[RUNS.finished_at], default=None)

    def newest_source(self, job: str, wrote: TableSpec) -> str | None:
        """The source of the newest good run of the job that wrote the table; None where there is none."""
        runs = [run for run in self._good() if run[RUNS.job] == job and wrote.name in run[RUNS.output_versions]]
        newest = max(runs, key=lambda run: (run[RUNS.finished_at], run[RUNS.run_id]), default=None)
        return None if newest is None else str(newest[RUNS.source])

    def finished_batches(self, job: str, source: str) -> set[str]:
        """Ids of the batches that a run of the job has taken: one that found no file has read no row, not even none."""
        taken = [run for run in self._successes(job, source) if run[RUNS.rows_read] is not None]
        return {run[RUNS.batch_id] for run in taken if run[RUNS.batch_id] is not None}

    def _successes(self, job: str, source: str) -> list[Mapping[str, Any]]:
        return [run for run in self._good() if (run[RUNS.job], run[RUNS.source]) == (job, source)]

    def _good(self) -> list[Mapping[str, Any]]:
        return [run for run in self._tables.rows(RUNS) if run[RUNS.status] not in (FAILED, STOPPED, TRIED)]

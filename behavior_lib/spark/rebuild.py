"""A source's part of the log made anew from its raw files, beside the present one, and put in its place."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Sequence
from datetime import datetime, timezone

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import MapType

from behavior_lib.config.schema import PrivacyConfig
from behavior_lib.config.source import SourceConfig
from behavior_lib.errors import DataRefused
from behavior_lib.progress import Progress
from behavior_lib.spark.batches import Batch, BatchRegistry
from behavior_lib.spark.folders import delete_folder
from behavior_lib.spark.ingest import BatchIngest, lay_out
from behavior_lib.spark.ledger import Ledger, RowCounts, RunRecord, Summary
from behavior_lib.spark.raw_files import RawFile, find_files
from behavior_lib.spark.tables import Tables
from behavior_lib.spark.values import EXACT_TIMES
from behavior_lib.tables import BATCH_STATISTICS, EVENTS, EVENTS_QUARANTINE, INGEST_FILES, PIPELINE_RUNS

# Readers of events see the new ones only when all that explains them is there.
_SWAPPED = (INGEST_FILES, BATCH_STATISTICS, EVENTS_QUARANTINE, EVENTS)
_JOB = "rebuild"


class LogRebuild:
    """Replays every batch of a source, in the order in which they were accepted, into tables of its own.

    Killed and run again, it goes on with the first batch that was not done. The present tables are touched only at the
    end, each in one commit, so that readers see all of the old rows or all of the new ones; a table whose rows would be
    the same is not written.
    """

    def __init__(
        self,
        spark: SparkSession,
        tables: Tables,
        warehouse: str,
        source: SourceConfig,
        privacy: PrivacyConfig,
        progress: Progress,
        digest: str,
    ) -> None:
        """warehouse: where a folder for the work can be made. digest: of the configuration that decides the rows."""
        self._spark, self._tables, self._source, self._progress = spark, tables, source, progress
        self._privacy = privacy
        self._batches = BatchRegistry(spark, tables, source.name).batches()
        plan = hashlib.sha256(f"{digest} {[_identity(batch) for batch in self._batches]}".encode()).hexdigest()[:16]
        folder = re.sub(r"[^\w.-]", "_", source.name)
        self._folder = f"{staging_root(warehouse)}/{folder}-{plan}"
        self._staging = Tables(spark, self._folder)

    def replay(self) -> RowCounts:
        """Take all batches into the tables beside. Returns where the rows went. Raises DataRefused for a lost file."""
        if not self._batches:
            mend = "run ingest first"
            raise DataRefused("there is no batch to replay", where=f"source {self._source.name}", mend=mend)
        self._check_files()
        ledger = Ledger(self._spark, self._staging)
        ingest = BatchIngest(
            self._spark, self._staging, self._source, self._privacy, self._progress, original=self._tables
        )
        done = ledger.finished_batches(_JOB, self._source.name)
        for batch in self._batches:
            if batch.batch_id not in done:
                rows = ingest.take(batch)
                run = RunRecord(uuid.uuid4().hex, _JOB, self._source.name, datetime.now(timezone.utc))
                ledger.write(run, Summary(rows=rows, batch_id=batch.batch_id), "")
        return self._totals()

    def swap(self) -> dict[str, int]:
        """Put the rows in the place of the present ones. Returns the versions of the tables that were written."""
        own, written = f"source = '{self._source.name}'", {}
        for spec in _SWAPPED:
            new = self._staging.read(spec)
            if fingerprint(new) != fingerprint(self._tables.read(spec).where(own)):
                rows = lay_out(new) if spec is EVENTS else new
                with self._progress.step(f"replacing the source's rows of {spec.name}"):
                    written[spec.name] = self._tables.replace(spec, rows, own)
        delete_folder(self._spark, self._folder)
        return written

    def _check_files(self) -> None:
        """A file that grew was taken twice, and counts as it was taken last. The files of a Delta table never change:
        one that is gone is told when it is read.
        """
        if self._source.format == "delta":
            return
        newest: dict[str, RawFile] = {file.path: file for batch in self._batches for file in batch.files}
        for folder in sorted({path.rsplit("/", 1)[0] for path in newest}):
            wanted = {file for path, file in newest.items() if path.rsplit("/", 1)[0] == folder}
            gone = wanted - set(find_files(self._spark, folder))
            if gone:
                mend = "restore it as it was when it was taken: the log cannot be made again without it"
                raise DataRefused("a raw file is gone or was changed", value=min(gone).path, mend=mend)

    def _totals(self) -> RowCounts:
        runs = PIPELINE_RUNS
        names = (runs.rows_read, runs.rows_accepted, runs.rows_duplicate, runs.rows_quarantined, runs.rows_late)
        sums = [F.sum(name).cast("bigint") for name in (*names, runs.rows_conflict)]
        row = self._staging.read(runs).where(F.col(runs.job) == _JOB).agg(*sums).first()
        return RowCounts(*(row or ()))


def staging_root(warehouse: str) -> str:
    """The folder in which rebuilds work; what killed ones left there is of no use to anybody else."""
    return f"{warehouse.rstrip('/')}/.rebuild"


def fingerprint(rows: DataFrame) -> tuple[int, ...]:
    """The number of rows, and two sums over hashes of theirs that do not depend on their order."""
    columns = [
        F.sort_array(F.map_entries(field.name)) if isinstance(field.dataType, MapType) else F.col(field.name)
        for field in sorted(rows.schema, key=lambda field: field.name)
    ]
    content = F.to_json(F.struct(*(column.alias(f"c{number}") for number, column in enumerate(columns))), EXACT_TIMES)
    hashes = (F.xxhash64(content), F.xxhash64(content, F.lit("again")))
    sums = [F.coalesce(F.sum(one.cast("decimal(38,0)")), F.lit(0)) for one in hashes]
    return tuple(int(value) for value in rows.agg(F.count("*"), *sums).first() or ())


def _identity(batch: Batch) -> tuple[str, int, str, Sequence[RawFile], str]:
    return batch.batch_id, batch.number, str(batch.accepted_at), batch.files, str(batch.late_before)

"""One batch of raw files into the event log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from pyspark import StorageLevel
from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from behavior_lib.config.source import SourceConfig
from behavior_lib.errors import ConfigError, LawBroken
from behavior_lib.progress import Progress
from behavior_lib.spark.batches import Batch, BatchRegistry
from behavior_lib.spark.canonical import canonical, key_carries_time, named_columns
from behavior_lib.spark.clean import BROKEN, accepted, is_late, judge, rejected
from behavior_lib.spark.dedupe import IS_DUPLICATE, mark_duplicates
from behavior_lib.spark.ledger import RowCounts
from behavior_lib.spark.raw import UNREADABLE, absent_columns, read_raw
from behavior_lib.spark.tables import Tables
from behavior_lib.tables import EVENTS, EVENTS_QUARANTINE


@dataclass(frozen=True)
class _Judged:
    """Counts of the judged rows of a batch, and the UTC days that the accepted ones span."""

    read: int
    quarantined: int
    late: int
    first_day: date
    last_day: date


class BatchIngest:
    """Takes batches of one source. Killed anywhere and run again, a batch ends in the same tables.

    The order makes it so: judge (nothing written), register the files, append the quarantine, append the events.
    Each append is done once for a batch, whatever is repeated.
    """

    def __init__(self, spark: SparkSession, tables: Tables, source: SourceConfig, late_days: int, progress: Progress):
        self._spark, self._tables, self._source = spark, tables, source
        self._late_days, self._progress = late_days, progress
        self.registry = BatchRegistry(spark, tables, source.name)

    def take(self, batch: Batch) -> RowCounts:
        """Take one batch. Returns where its rows went. Raises LawBroken where a row is unaccounted for."""
        raw = read_raw(self._spark, self._source, batch.files)
        rows = canonical(raw, self._source)
        earlier = self._tables.read(EVENTS).where(F.col(EVENTS.batch_id) != batch.batch_id)
        judged = judge(rows, self._source, batch.accepted_at, self._late_before(earlier))
        judged = judged.persist(StorageLevel.MEMORY_AND_DISK)
        try:
            with self._progress.step(f"reading and judging {len(batch.files)} files of batch {batch.batch_id}"):
                counts = self._count(judged)
                self._refuse_absent_columns(raw, batch, counts)
            self.registry.register(batch)
            self._write_quarantine(judged, batch, counts)
            return self._write_events(judged, raw, earlier, batch, counts)
        finally:
            judged.unpersist()

    def _late_before(self, earlier: DataFrame) -> datetime | None:
        own = earlier.where(F.col(EVENTS.source) == self._source.name)
        newest = own.agg(F.max(EVENTS.event_time)).first()[0]  # type: ignore[index]
        return None if newest is None else newest - timedelta(days=self._late_days)

    def _count(self, judged: DataFrame) -> _Judged:
        is_broken, late = F.size(BROKEN) > 0, is_late()
        day = F.when(~is_broken, F.to_date(EVENTS.event_time))
        row = judged.agg(F.count("*"), F.count_if(is_broken & ~late), F.count_if(late), F.min(day), F.max(day)).first()
        return _Judged(*row)  # type: ignore[misc]

    def _refuse_absent_columns(self, raw: DataFrame, batch: Batch, counts: _Judged) -> None:
        """A JSON file may leave a column out of a row, but a column that no row has is a mistake in the source."""
        if self._source.format != "json" or counts.read == 0:
            return
        named = {name for names in named_columns(self._source, raw.columns).values() for name in names}
        columns = sorted(named | set(self._source.key))
        present = raw.where(F.col(UNREADABLE).isNull()).agg(F.count("*"), *(F.count(f"`{name}`") for name in columns))
        readable, *values = present.first() or (0,)
        empty = [name for name, count in zip(columns, values, strict=True) if count == 0]
        absent = absent_columns(self._spark, self._source, batch.files[0], empty) if readable else []
        if absent:
            mend = "correct the source's columns or the files"
            where = f"the files of source {self._source.name}"
            raise ConfigError("a column that the source names is absent", where=where, value=absent[0], mend=mend)

    def _write_quarantine(self, judged: DataFrame, batch: Batch, counts: _Judged) -> None:
        if counts.quarantined + counts.late == 0:
            return
        with self._progress.step(f"setting {counts.quarantined + counts.late:,} rows aside"):
            rows = rejected(judged, self._source.name, batch.batch_id, batch.accepted_at)
            self._tables.append(EVENTS_QUARANTINE, rows, writer=self._writer(batch), number=1)
        if counts.read == counts.quarantined + counts.late:
            self._progress.warn(f"no row of batch {batch.batch_id} was accepted; see {EVENTS_QUARANTINE.name}")

    def _write_events(
        self, judged: DataFrame, raw: DataFrame, earlier: DataFrame, batch: Batch, counts: _Judged
    ) -> RowCounts:
        if key_carries_time(self._source, raw.columns):
            # Equal ids then lie on equal days, so no other day of the log is read.
            earlier = earlier.where(F.col(EVENTS.event_date).between(counts.first_day, counts.last_day))
        marked = mark_duplicates(accepted(judged), earlier)
        totals = F.count_if(~F.col(IS_DUPLICATE)).alias("fresh"), F.count_if(IS_DUPLICATE).alias("duplicate")
        with self._progress.step("dropping duplicates and writing events"):
            if self._stored(batch) == 0:
                counted = Observation()
                self._append(marked.observe(counted, *totals), batch)
                fresh, duplicate = counted.get["fresh"], counted.get["duplicate"]
            else:
                # Written before a crash: Delta would skip the write, and with it the counting.
                fresh, duplicate = marked.agg(*totals).first() or (0, 0)
        self._check_written(batch, fresh)
        rows = RowCounts(counts.read, fresh, duplicate, counts.quarantined, counts.late)
        rows.check(batch.batch_id)
        return rows

    def _append(self, marked: DataFrame, batch: Batch) -> None:
        events = self._complete(marked.where(~F.col(IS_DUPLICATE)), batch)
        self._tables.append(EVENTS, events, writer=self._writer(batch), number=1)

    def _complete(self, arrivals: DataFrame, batch: Batch) -> DataFrame:
        """EVENTS rows, one file a day, sorted inside."""
        return (
            arrivals.withColumns(
                {
                    EVENTS.source: F.lit(self._source.name),
                    EVENTS.batch_id: F.lit(batch.batch_id),
                    EVENTS.event_date: F.to_date(EVENTS.event_time),
                }
            )
            .select(*EVENTS.column_names)
            .repartition(EVENTS.event_date)
            .sortWithinPartitions(EVENTS.event_date, *EVENTS.sort_by)
        )

    def _check_written(self, batch: Batch, expected: int) -> None:
        """A write that Delta skipped as a repetition must have left exactly the rows of this batch."""
        stored = self._stored(batch)
        if stored != expected:
            mend = "the table and the batch's files do not belong together; run a rebuild"
            raise LawBroken(
                f"{expected} events were to be stored", where=f"batch {batch.batch_id}", value=stored, mend=mend
            )

    def _stored(self, batch: Batch) -> int:
        own = (F.col(EVENTS.batch_id) == batch.batch_id) & (F.col(EVENTS.source) == self._source.name)
        return self._tables.read(EVENTS).where(own).count()

    def _writer(self, batch: Batch) -> str:
        return f"ingest/{self._source.name}/{batch.batch_id}"

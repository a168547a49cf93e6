"""One batch of raw files into the event log."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, timezone
from functools import reduce
from operator import or_

from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from behavior_lib.config.schema import PrivacyConfig
from behavior_lib.config.source import SourceConfig
from behavior_lib.errors import LawBroken
from behavior_lib.progress import Progress
from behavior_lib.spark.batches import Batch, BatchRegistry
from behavior_lib.spark.canonical import canonical, key_carries_time, key_carries_user
from behavior_lib.spark.clean import BROKEN, accepted, conflicting, is_late, judge, rejected
from behavior_lib.spark.dedupe import IS_CONFLICT, IS_DUPLICATE, mark_duplicates
from behavior_lib.spark.even_tasks import even_tasks
from behavior_lib.spark.ledger import RowCounts
from behavior_lib.spark.memory import StatisticsMemory
from behavior_lib.spark.placement import plan_placement
from behavior_lib.spark.presence import PRESENT, absent_json_columns, with_presence
from behavior_lib.spark.privacy import Privacy
from behavior_lib.spark.raw import read_raw
from behavior_lib.spark.rules import CONFLICT
from behavior_lib.spark.session import session_settings
from behavior_lib.spark.tables import Tables
from behavior_lib.tables import EVENTS, EVENTS_QUARANTINE, TableSpec

_REJECTED, _CONFLICTS = 1, 2
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class _Judged:
    """Counts of the judged rows of a batch: `days` of the accepted ones, by UTC day; the newest time of them.

    present: which raw columns have a value, as `absent_json_columns` takes it.
    """

    read: int
    late: int
    days: Mapping[date, int]
    newest: datetime | None
    present: Sequence[int]

    @property
    def accepted(self) -> int:
        """Rows that may become events."""
        return sum(self.days.values())

    @property
    def quarantined(self) -> int:
        """Rows that break a rule."""
        return self.read - self.late - self.accepted


@dataclass(frozen=True)
class _Written:
    """Where the accepted rows of a batch went."""

    fresh: int
    duplicate: int
    conflict: int


def as_events(rows: DataFrame, source: str, batch_id: str) -> DataFrame:
    """EVENTS rows of canonical rows that a batch has brought, laid out as the table wants them.

    Rows that have an event_date already lie in the tasks that are to write them.
    """
    origin = {EVENTS.source: F.lit(source), EVENTS.batch_id: F.lit(batch_id)}
    if EVENTS.event_date in rows.columns:
        return _sorted(rows.withColumns(origin).select(*EVENTS.column_names))
    dated = rows.withColumns({**origin, EVENTS.event_date: F.to_date(EVENTS.event_time)})
    return lay_out(dated.select(*EVENTS.column_names))


def lay_out(events: DataFrame) -> DataFrame:
    """EVENTS rows with the days together, sorted inside a file.

    A day too large for one task is split and small ones share a task: `rebalance` does it once the sizes are known.
    """
    return _sorted(events.hint("rebalance", EVENTS.event_date))


def _sorted(events: DataFrame) -> DataFrame:
    return events.sortWithinPartitions(EVENTS.event_date, *EVENTS.sort_by)


class BatchIngest:
    """Takes batches of one source. Killed anywhere and run again, a batch ends in the same tables.

    The order makes it so: judge (nothing written), register the files, keep what the batch was judged by, append the
    quarantine, append the events, append the conflicts. Each append is done once for a batch, whatever is repeated.
    """

    def __init__(
        self,
        spark: SparkSession,
        tables: Tables,
        source: SourceConfig,
        privacy: PrivacyConfig,
        progress: Progress,
        original: Tables | None = None,
    ) -> None:
        """original: for a replay into other tables, those that the batches were taken into first: what they were judged
        by, the keys of their pseudonyms, the forgotten, and the ids of other sources are looked up there.
        """
        self._spark, self._tables, self._source, self._progress = spark, tables, source, progress
        self._original = original
        self._memory = StatisticsMemory(original or tables, source)
        self._privacy = Privacy(spark, original or tables, source, privacy)
        self.registry = BatchRegistry(spark, tables, source.name)

    def take(self, batch: Batch) -> RowCounts:
        """Take one batch. Returns where its rows went. Raises LawBroken where a row is unaccounted for."""
        raw = read_raw(self._spark, self._source, batch.files, self._progress.warn)
        if self._source.format == "json":
            raw = with_presence(raw, self._source)
        privacy = self._privacy.of(batch.batch_id)
        rows = privacy.before_rules(canonical(raw, self._source))
        statistics, judged = None, None
        try:
            what = f"reading and judging {len(batch.files)} files of batch {batch.batch_id}"
            with self._progress.step(what), session_settings(self._spark, self._reading(batch)):
                statistics = self._memory.of_batch(rows, batch)
                judged = judge(rows, self._source, batch.accepted_at, batch.late_before, statistics)
                judged = privacy.after_rules(judged).persist(StorageLevel.MEMORY_AND_DISK)
                counts = self._count(judged)
                self._refuse_absent_columns(raw, batch, counts)
            is_new = batch.batch_id not in {known.batch_id for known in self.registry.batches()}
            privacy.register()
            self.registry.register(replace(batch, newest_event_time=counts.newest))
            self._memory.keep(self._tables, statistics, batch, is_new=is_new)
            self._write_quarantine(judged, batch, counts, is_new=is_new)
            marked = self._marked(judged, raw, batch, counts)
            written = self._write_events(marked, batch, counts, is_new=is_new)
            found = privacy.after_rules(conflicting(rows))
            self._write_conflicts(marked, found, batch, written, is_new=is_new)
        finally:
            for frame in (judged, statistics):
                if frame is not None:
                    frame.unpersist()
        quarantined = counts.quarantined + written.conflict
        told = RowCounts(counts.read, written.fresh, written.duplicate, quarantined, counts.late, written.conflict)
        told.check(batch.batch_id)
        return told

    def _reading(self, batch: Batch) -> dict[str, str]:
        # Compressing what is read once or twice costs more than it saves.
        kept = {"spark.sql.inMemoryColumnarStorage.compressed": "false"}
        sizes = [file.size_bytes for file in batch.files]
        return kept | even_tasks(sizes, self._spark.sparkContext.defaultParallelism)

    def _count(self, judged: DataFrame) -> _Judged:
        day = F.when(F.size(BROKEN) == 0, F.to_date(EVENTS.event_time)).alias("day")
        masks = [name for name in judged.columns if name.startswith(PRESENT)]
        newest_us = F.max(F.unix_micros(EVENTS.event_time))
        rows = judged.groupBy(day).agg(
            F.count("*").alias("rows"),
            F.count_if(is_late()).alias("late"),
            newest_us.alias("newest_us"),
            *(F.bit_or(name).alias(name) for name in masks),
        )
        found = rows.collect()
        days = {row["day"]: row["rows"] for row in found if row["day"] is not None}
        newest = max((row["newest_us"] for row in found if row["day"] is not None), default=None)
        return _Judged(
            sum(row["rows"] for row in found),
            sum(row["late"] for row in found),
            days,
            None if newest is None else _EPOCH + timedelta(microseconds=newest),
            [reduce(or_, (row[name] for row in found), 0) for name in masks],
        )

    def _refuse_absent_columns(self, raw: DataFrame, batch: Batch, counts: _Judged) -> None:
        """A JSON file may leave a column out of a row; one that no row has is refused where events need it."""
        if self._source.format != "json":
            return
        for name in absent_json_columns(self._spark, self._source, raw, batch.files, counts.present):
            self._progress.warn(f"no row of the batch has column {name} of source {self._source.name}; it is null")

    def _write_quarantine(self, judged: DataFrame, batch: Batch, counts: _Judged, *, is_new: bool) -> None:
        aside = counts.quarantined + counts.late
        stored = 0 if is_new else self._stored_aside(batch, _REJECTED)
        if stored and stored != aside:
            where, mend = f"batch {batch.batch_id}", "the rules have changed since the batch was begun: run a rebuild"
            raise LawBroken(f"{aside} rows were to be set aside", where=where, value=stored, mend=mend)
        if aside and not stored:
            with self._progress.step(f"setting {aside:,} rows aside"):
                self._set_aside(judged, batch, _REJECTED)
        if counts.read and not counts.accepted:
            self._progress.warn(f"no row of batch {batch.batch_id} was accepted; see {EVENTS_QUARANTINE.name}")

    def _set_aside(self, judged: DataFrame, batch: Batch, number: int) -> None:
        rows = rejected(judged, self._source.name, batch.batch_id, batch.accepted_at)
        self._tables.append(EVENTS_QUARANTINE, rows, writer=self._writer(batch), number=number)

    def _stored_aside(self, batch: Batch, number: int) -> int:
        """How many rows of a batch lie in the quarantine: an earlier run left them, or a rebuild while the batch was
        half done. All of them were written in one commit.
        """
        is_asked = F.array_contains(EVENTS_QUARANTINE.rules, CONFLICT) == (number == _CONFLICTS)
        rows = self._tables.read(EVENTS_QUARANTINE).where(self._is_of(batch, EVENTS_QUARANTINE) & is_asked)
        return int((rows.agg(F.sum(EVENTS_QUARANTINE.n_rows)).first() or (None,))[0] or 0)

    def _marked(self, judged: DataFrame, raw: DataFrame, batch: Batch, counts: _Judged) -> DataFrame:
        searched = self._searched(raw, batch, counts)
        earlier = None if searched.isEmpty() else searched
        if not counts.days or not key_carries_time(self._source, raw.columns):
            return mark_duplicates(accepted(judged), earlier)
        placement = plan_placement(counts.days, self._spark.sparkContext.defaultParallelism)
        with_user = key_carries_user(self._source, raw.columns)
        return mark_duplicates(accepted(judged), earlier, placement, with_user=with_user)

    def _searched(self, raw: DataFrame, batch: Batch, counts: _Judged) -> DataFrame:
        """The part of the log in which an event of the batch may stand already."""
        earlier = self._tables.read(EVENTS).where(~self._is_of(batch, EVENTS))
        if self._original is not None:
            others = self._original.read(EVENTS).where(F.col(EVENTS.source) != self._source.name)
            earlier = earlier.unionByName(others)
        # Where the key holds the time, equal ids lie on equal days.
        reach = timedelta(0) if key_carries_time(self._source, raw.columns) else self._source.reach_of_duplicates
        if reach is None or not counts.days:
            return earlier
        days = timedelta(days=math.ceil(reach / timedelta(days=1)))
        return earlier.where(F.col(EVENTS.event_date).between(min(counts.days) - days, max(counts.days) + days))

    def _write_events(self, marked: DataFrame, batch: Batch, counts: _Judged, *, is_new: bool) -> _Written:
        """is_new: the batch was registered by this run, so that none of its events is stored."""
        if not counts.accepted:
            return _Written(0, 0, 0)
        is_fresh, is_conflict = ~F.col(IS_DUPLICATE), F.col(IS_CONFLICT)
        totals = {"fresh": is_fresh, "duplicate": ~is_fresh & ~is_conflict, "conflict": is_conflict}
        counted = [F.count_if(test).alias(name) for name, test in totals.items()]
        with self._progress.step("dropping duplicates and writing events"):
            seen, stored = None, 0 if is_new else self._stored(batch, counts)
            if stored == 0:
                observation = Observation()
                self._append(marked.observe(observation, *counted), batch)
                stored = self._stored(batch, counts)
                # A write that Delta skipped as a repetition has counted nothing.
                seen = observation.get if stored else None
                # Where an executor was lost, tasks in front of a shuffle ran and counted twice.
                if seen is not None and sum(seen.values()) != counts.accepted:
                    seen = None
            written = _Written(*(seen[name] for name in totals)) if seen else _Written(*marked.agg(*counted).first())  # type: ignore[misc]
        if stored != written.fresh:
            # A write that Delta skipped as a repetition must have left exactly the rows of this batch.
            what, where = f"{written.fresh} events were to be stored", f"batch {batch.batch_id}"
            mend = "the table and the batch's files do not belong together; run a rebuild"
            raise LawBroken(what, where=where, value=stored, mend=mend)
        return written

    def _append(self, marked: DataFrame, batch: Batch) -> None:
        events = as_events(marked.where(~F.col(IS_DUPLICATE)), self._source.name, batch.batch_id)
        self._tables.append(EVENTS, events, writer=self._writer(batch), number=1)

    def _write_conflicts(
        self, marked: DataFrame, rows: DataFrame, batch: Batch, written: _Written, *, is_new: bool
    ) -> None:
        """Rows whose id another row has with other content. They are few: the raw rows are read again to find them."""
        if not written.conflict or (not is_new and self._stored_aside(batch, _CONFLICTS)):
            return
        with self._progress.step(f"setting {written.conflict:,} rows in conflict aside"):
            # Under pseudonyms the hash leaves the user out, and a row that is rejected for having none is no conflict.
            identity = [EVENTS.event_id, EVENTS.content_hash, EVENTS.user_id]
            found = marked.where(F.col(IS_CONFLICT)).select(*identity).distinct()
            self._set_aside(rows.join(found, identity, "left_semi"), batch, _CONFLICTS)

    def _stored(self, batch: Batch, counts: _Judged) -> int:
        own = self._is_of(batch, EVENTS)
        days = F.col(EVENTS.event_date).between(F.lit(min(counts.days)), F.lit(max(counts.days)))
        return self._tables.read(EVENTS).where(days & own).count()

    def _is_of(self, batch: Batch, spec: TableSpec) -> Column:
        """Whether a row of the table was brought by the batch."""
        return (F.col(spec.source) == self._source.name) & (F.col(spec.batch_id) == batch.batch_id)

    def _writer(self, batch: Batch) -> str:
        return f"ingest/{self._source.name}/{batch.batch_id}"

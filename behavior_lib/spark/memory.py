"""What batches were judged by: kept beside them, so that a replay judges alike."""

from __future__ import annotations

import json

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from behavior_lib.config.source import SourceConfig
from behavior_lib.spark.batches import Batch
from behavior_lib.spark.clean import measure
from behavior_lib.spark.statistics import WHOLE_BATCH, wanted_statistics
from behavior_lib.spark.tables import Tables
from behavior_lib.tables import BATCH_STATISTICS as STATISTICS

# Rules may have been measured and found nothing (no robots): this row of a batch names all that were.
_MEASURED = "measured"


class StatisticsMemory:
    """Reads and appends BATCH_STATISTICS for one source."""

    def __init__(self, tables: Tables, source: SourceConfig) -> None:
        self._tables, self._source = tables, source
        self._wanted = wanted_statistics(source)

    def of_batch(self, rows: DataFrame, batch: Batch) -> DataFrame | None:
        """The statistics of a batch: kept ones for the rules that are still what they were, the others measured.

        rows: the batch's canonical rows. None where the source needs no statistic. The frame is persisted.
        """
        if not self._wanted:
            return None
        kept = self._tables.pinned(STATISTICS).where(self._is_own(batch)).drop(STATISTICS.source, STATISTICS.batch_id)
        marker = kept.where(F.col(STATISTICS.rule_id) == _MEASURED).select(STATISTICS.definition).first()
        known = set() if marker is None else set(json.loads(marker[0]))
        found = kept.where(F.col(STATISTICS.definition).isin([s.definition for s in self._wanted]))
        new = [statistic for statistic in self._wanted if statistic.definition not in known]
        if new:
            found = found.unionByName(measure(rows, self._source, batch.accepted_at, new))
        return found.persist()

    def keep(self, tables: Tables, statistics: DataFrame | None, batch: Batch, *, is_new: bool) -> None:
        """Append the statistics of a batch to BATCH_STATISTICS of `tables`, once. is_new: it cannot have any there."""
        if statistics is None or (not is_new and self._is_kept(tables, batch)):
            return
        measured = json.dumps(sorted(statistic.definition for statistic in self._wanted), ensure_ascii=False)
        marker = {
            STATISTICS.rule_id: F.lit(_MEASURED),
            STATISTICS.definition: F.lit(measured),
            STATISTICS.user_id: F.lit(""),
            STATISTICS.group_value: F.lit(WHOLE_BATCH),
            STATISTICS.n_rows: F.lit(0).cast("bigint"),
        }
        row = statistics.sparkSession.range(1, numPartitions=1).select(*(v.alias(name) for name, v in marker.items()))
        rows = statistics.unionByName(row, allowMissingColumns=True).withColumns(
            {STATISTICS.source: F.lit(self._source.name), STATISTICS.batch_id: F.lit(batch.batch_id)}
        )
        writer = f"ingest/{self._source.name}/{batch.batch_id}"
        tables.append(STATISTICS, rows.select(*STATISTICS.column_names), writer=writer, number=1)

    def _is_kept(self, tables: Tables, batch: Batch) -> bool:
        """By an earlier run, or by a rebuild while the batch was half done."""
        is_marker = F.col(STATISTICS.rule_id) == _MEASURED
        return not tables.read(STATISTICS).where(self._is_own(batch) & is_marker).isEmpty()

    def _is_own(self, batch: Batch) -> Column:
        return (F.col(STATISTICS.source) == self._source.name) & (F.col(STATISTICS.batch_id) == batch.batch_id)

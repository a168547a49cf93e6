"""Care for one table: properties, small files, the log's checkpoint, files that no version needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import deltalake
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from behavior_lib.config.schema import MaintainConfig
from behavior_lib.errors import ConfigError, LawBroken
from behavior_lib.spark.files import (
    FileReport,
    Partition,
    TableFile,
    by_partition,
    commits_since_checkpoint,
    condition,
    list_files,
    report,
)
from behavior_lib.spark.history import REARRANGED, commits
from behavior_lib.spark.session import session_settings
from behavior_lib.spark.tables import Tables
from behavior_lib.tables import PIPELINE_RUNS, TableSpec
from behavior_lib.tables.ddl import table_properties

SAFE_RETENTION_HOURS = 168
# Delta writes a checkpoint itself after so many commits; a log with more has lost one.
CHECKPOINT_INTERVAL = 10
# Each run adds a file to the ledger, this job's own included: joined at every run, nothing would ever be unchanged.
_LEDGER_FILES = 10
_MEGABYTE = 1024 * 1024


@dataclass(frozen=True)
class TableCare:
    """What was done for a table, and its files before and after."""

    before: FileReport
    after: FileReport
    partitions_rewritten: int
    properties_set: int
    files_removed: int
    has_new_checkpoint: bool

    @property
    def is_unchanged(self) -> bool:
        """Whether there was nothing to do."""
        done = self.partitions_rewritten or self.properties_set or self.files_removed or self.has_new_checkpoint
        return not done


def check_retention(config: MaintainConfig) -> None:
    """Raises ConfigError where files would be removed that a running reader may still need."""
    if config.target_file_mb <= 0 or config.partitions_per_commit <= 0 or config.retention_hours < 0:
        raise ConfigError("a key of maintain is not positive", where="maintain", value=vars(config))
    if config.retention_hours < SAFE_RETENTION_HOURS and not config.allow_short_retention:
        mend = (
            f"give {SAFE_RETENTION_HOURS} or more, or set maintain.allow_short_retention=true while nothing else runs"
        )
        where = "maintain.retention_hours"
        raise ConfigError(
            "files that running readers need would be removed", where=where, value=config.retention_hours, mend=mend
        )


def crowded(files: Sequence[TableFile], target: int, patience: int = 1) -> dict[Partition, int]:
    """Partitions with more than `patience` files below `target` bytes that fewer files could hold → how many could.

    A partition is given whole files of the target's size, so that what is joined once is not joined again.
    """
    found = {}
    for partition, own in by_partition(files).items():
        wanted = max(1, sum(file.size_bytes for file in own) // target)
        if sum(file.size_bytes < target for file in own) > patience and wanted < len(own):
            found[partition] = wanted
    return found


class Caretaker:
    """Cares for the tables of one warehouse. A second call finds nothing to do and writes no version."""

    def __init__(self, spark: SparkSession, tables: Tables, config: MaintainConfig) -> None:
        check_retention(config)
        self._spark, self._tables, self._config = spark, tables, config
        self._target = config.target_file_mb * _MEGABYTE

    def care(self, spec: TableSpec) -> TableCare:
        """Care for one table, which exists. Raises LawBroken where rows are missing after files were joined."""
        before = self._report(spec)
        properties = self._set_properties(spec)
        rewritten = 0 if spec.keeps_files else self._join_small_files(spec)
        checkpoint = self._write_checkpoint(spec)
        removed = self._vacuum(spec)
        return TableCare(before, self._report(spec), rewritten, properties, removed, checkpoint)

    def _report(self, spec: TableSpec) -> FileReport:
        return report(list_files(self._tables, spec), self._target, len(commits(self._spark, self._tables, spec)))

    def _set_properties(self, spec: TableSpec) -> int:
        """A table made by an earlier release gets the properties of today. Returns how many differed."""
        name = self._tables.sql_name(spec)
        present = {row["key"]: row["value"] for row in self._spark.sql(f"SHOW TBLPROPERTIES {name}").collect()}
        missing = {key: value for key, value in table_properties(spec).items() if present.get(key) != value}
        if missing:
            told = ", ".join(f"'{key}' = '{value}'" for key, value in missing.items())
            self._spark.sql(f"ALTER TABLE {name} SET TBLPROPERTIES ({told})")
        return len(missing)

    def _join_small_files(self, spec: TableSpec) -> int:
        """Returns how many partitions were rewritten."""
        files = list_files(self._tables, spec)
        plan = crowded(files, self._target, _LEDGER_FILES if spec == PIPELINE_RUNS else 1)
        into_one = [partition for partition, wanted in plan.items() if wanted == 1]
        step = self._config.partitions_per_commit
        groups = [into_one[start : start + step] for start in range(0, len(into_one), step)]
        groups += [[partition] for partition, wanted in plan.items() if wanted > 1]
        for group in groups:
            self._rewrite(spec, group, plan[group[0]], files)
        return len(plan)

    def _rewrite(
        self, spec: TableSpec, partitions: Sequence[Partition], wanted: int, files: Sequence[TableFile]
    ) -> None:
        where = condition(spec, partitions)
        rows = self._tables.read(spec)
        frame = arranged(rows if where is None else rows.where(where), spec, wanted)
        before = _rows_of(files, partitions)
        version = self._tables.rearrange(spec, frame, where, REARRANGED)
        after = _rows_of(list_files(self._tables, spec), partitions)
        if before is not None and after is not None and after < before:
            mend = f"RESTORE TABLE {self._tables.sql_name(spec)} TO VERSION AS OF {version - 1}"
            raise LawBroken(f"{before} rows became {after}", where=f"table {spec.name}", value=where, mend=mend)

    def _write_checkpoint(self, spec: TableSpec) -> bool:
        folder = self._tables.local_folder(spec)
        if folder is None or commits_since_checkpoint(folder) <= CHECKPOINT_INTERVAL:
            return False
        deltalake.DeltaTable(folder).create_checkpoint()
        return True

    def _vacuum(self, spec: TableSpec) -> int:
        """Remove files that no version younger than the retention needs. Returns how many."""
        hours = self._config.retention_hours
        statement = f"VACUUM {self._tables.sql_name(spec)} RETAIN {hours} HOURS"
        settings = {
            # A vacuum changes no row: commits of its own would only make the history longer.
            "spark.databricks.delta.vacuum.logging.enabled": "false",
            # Folders are listed in so many tasks; Spark's 10,000 take a minute on two cores, whatever there is to list.
            "spark.sql.sources.parallelPartitionDiscovery.parallelism": str(
                self._spark.sparkContext.defaultParallelism
            ),
        }
        if hours < SAFE_RETENTION_HOURS:
            settings["spark.databricks.delta.retentionDurationCheck.enabled"] = "false"
        with session_settings(self._spark, settings):
            removable = self._spark.sql(f"{statement} DRY RUN").count()
            if removable:
                self._spark.sql(statement)
        return removable


def arranged(rows: DataFrame, spec: TableSpec, files: int) -> DataFrame:
    """A table's rows, so that each partition is written as `files` files, each sorted as the table says.

    With more than one file the rows must be of one partition; then each file holds a range of the sort order.
    """
    if files > 1 or not spec.partition_by:
        order = [F.col(name) for name in spec.sort_by]
        spread = rows.repartitionByRange(files, *order) if order else rows.repartition(files)
    else:
        spread = rows.repartition(*spec.partition_by)
    return spread.sortWithinPartitions(*spec.partition_by, *spec.sort_by) if spec.sort_by else spread


def _rows_of(files: Sequence[TableFile], partitions: Sequence[Partition]) -> int | None:
    """Rows of the partitions; None where a file's entry in the log does not say."""
    chosen = set(partitions)
    rows = [file.rows for file in files if file.partition in chosen]
    return None if any(count is None for count in rows) else sum(count or 0 for count in rows)

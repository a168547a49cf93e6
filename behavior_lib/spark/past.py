"""The past of a table: older versions, change feed and log, and how all of it is made to go."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from behavior_lib.spark.storage import Files
from behavior_lib.spark.tables import Tables
from behavior_lib.tables import EVENTS, TableSpec
from behavior_lib.tables import INGEST_FILES as FILES

# Table property: the version that history starts at. Older ones cannot be read, nor changes that they made.
HISTORY_FROM = "behavior.history_from"
_VERSIONED = re.compile(r"^(\d{20})\.")
_COMMIT = "_commit_version"


def new_events(tables: Tables, source: str, after: int, until: int) -> DataFrame:
    """EVENTS rows of a source that versions in (after, until] brought, with `_commit_version`, which orders batches.

    All events of the source where history does not reach back to `after`; the batch's number then orders them.
    """
    own = F.col(EVENTS.source) == source
    if after >= int(tables.properties(EVENTS).get(HISTORY_FROM, "0")):
        return tables.inserted_since(EVENTS, after, until).where(own)
    batches = tables.read(FILES).where(F.col(FILES.source) == source)
    numbers = batches.groupBy(FILES.batch_id).agg(F.max(FILES.batch_number).cast("bigint").alias(_COMMIT))
    return tables.read(EVENTS, until).where(own).join(F.broadcast(numbers), EVENTS.batch_id)


def users_with_changes(tables: Tables, source: str, after: int, until: int) -> DataFrame:
    """user_id of the source's EVENTS rows that versions in (after, until] brought or took away; a user may come twice.

    History has to reach back to `after`.
    """
    if after >= until:
        return tables.read(EVENTS, until).limit(0).select(EVENTS.user_id)
    own = F.col(EVENTS.source) == source
    return tables.changed_since(EVENTS, after, until).where(own).select(EVENTS.user_id)


class History:
    """Erases the past of tables. Nothing else may read or write them meanwhile: a reader of an older version fails."""

    def __init__(self, spark: SparkSession, tables: Tables) -> None:
        self._spark, self._tables, self._files = spark, tables, Files(spark)

    def announce(self, spec: TableSpec) -> None:
        """Say that the past is about to go, before the first row does, so that no job trusts the change feed."""
        version = self._tables.version(spec) + 1
        self._spark.sql(f"ALTER TABLE {self._tables.sql_name(spec)} SET TBLPROPERTIES ('{HISTORY_FROM}' = '{version}')")

    def erase(self, spec: TableSpec) -> None:
        """Leave the newest version alone: its files, one checkpoint, and the commit that says so.

        Files of data and of the change feed that the newest version does not name are deleted first; then the log,
        whose commits hold the smallest and largest user id of each file, starts anew with a checkpoint. Killed
        anywhere and repeated it ends the same.
        """
        with self._for_vacuum():
            self._spark.sql(f"VACUUM {self._tables.sql_name(spec)} RETAIN 0 HOURS")
        # A commit of its own: the one that deleted the rows names the files that held them.
        self.announce(spec)
        location, version = self._tables.location(spec), self._tables.version(spec)
        self._checkpoint(location)
        # What the JVM remembers of the log names the older files: it has to find the checkpoint before they go.
        self._log_class().clearCache()
        self._files.delete(path for path in self._files.list(f"{location}/_delta_log") if _is_older(path, version))
        self._log_class().clearCache()
        # A frame that somebody persisted may hold their rows, and would read files that are gone.
        self._spark.catalog.clearCache()

    def _checkpoint(self, location: str) -> None:
        """SQL has no statement for it, and delta-rs knows fewer table features than the writer of the log."""
        self._log_class().forTable(self._spark._jsparkSession, location).checkpoint()

    def _log_class(self) -> Any:
        jvm = self._spark._jvm
        assert jvm is not None
        return jvm.org.apache.spark.sql.delta.DeltaLog

    @contextmanager
    def _for_vacuum(self) -> Iterator[None]:
        """No retention; and as many listing tasks as cores can use, in place of 10,000 for every folder level."""
        parallelism = 4 * self._spark.sparkContext.defaultParallelism
        wanted = {
            "spark.databricks.delta.retentionDurationCheck.enabled": "false",
            "spark.sql.sources.parallelPartitionDiscovery.parallelism": str(parallelism),
        }
        before = {key: self._spark.conf.get(key, None) for key in wanted}
        for key, value in wanted.items():
            self._spark.conf.set(key, value)
        try:
            yield
        finally:
            for key, old in before.items():
                if old is None:
                    self._spark.conf.unset(key)
                else:
                    self._spark.conf.set(key, old)


def _is_older(path: str, version: int) -> bool:
    """Whether a file of the log is of an older version: commit, checksum, checkpoint or compacted commits."""
    name = path.rsplit("/", 1)[-1].removeprefix(".")
    found = _VERSIONED.match(name)
    return found is not None and int(found[1]) < version

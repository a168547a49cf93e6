"""Reading and writing the tables. The only place that knows whether a table is a folder or a name."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timezone
from functools import reduce
from pathlib import Path
from typing import Any

import deltalake
from delta.tables import DeltaMergeBuilder, DeltaTable
from pyspark.sql import Column, DataFrame, DataFrameReader, DataFrameWriter, SparkSession, Window
from pyspark.sql import functions as F

from behavior_lib.errors import ContractBroken
from behavior_lib.locks import hold, lock_path
from behavior_lib.spark.schema import struct_type
from behavior_lib.spark.session import session_settings
from behavior_lib.spark.small_tables import local_rows
from behavior_lib.tables import TableSpec
from behavior_lib.tables.ddl import CHECK_PREFIX, add_check, add_column, create_table


class Tables:
    """The tables of one warehouse.

    warehouse: a table is the Delta folder <warehouse>/<name>; catalog: where given, a table is `<catalog>.<name>`.
    """

    def __init__(self, spark: SparkSession, warehouse: str, catalog: str | None = None) -> None:
        self._spark = spark
        is_path = "://" not in warehouse
        # SQL takes delta.`path` only where the path is absolute.
        self._warehouse = str(Path(warehouse.removeprefix("file:")).absolute()) if is_path else warehouse.rstrip("/")
        self._catalog = catalog
        self._created: set[str] = set()
        self._rows: dict[str, tuple[int, Sequence[Mapping[str, Any]]]] = {}
        self._is_local = catalog is None and is_path

    def read(self, spec: TableSpec, version: int | None = None) -> DataFrame:
        """The table at a version, or now. A table that was never written is empty."""
        self._ensure(spec)
        reader = self._spark.read.format("delta")
        if version is not None:
            reader = reader.option("versionAsOf", version)
        return self._open(reader, spec)

    def pinned(self, spec: TableSpec) -> DataFrame:
        """The table as it is now, for frames that are persisted: Spark makes a persisted frame anew when a table that
        it reads without a version is written.
        """
        return self.read(spec, self.version(spec))

    def rows(self, spec: TableSpec) -> Sequence[Mapping[str, Any]]:
        """All rows of a small table on the driver; times carry their zone, UTC.

        Of a local table the rows are kept until it has another version.
        """
        if not self._is_local or spec.partition_by:
            return self._collected(spec)
        version = self.version(spec)
        known = self._rows.get(spec.name)
        if known is None or known[0] != version:
            found = local_rows(self._path(spec), spec, version)
            known = self._rows[spec.name] = (version, self._collected(spec) if found is None else found)
        return known[1]

    def inserted_since(self, spec: TableSpec, after: int, until: int) -> DataFrame:
        """Rows that the versions in (after, until] appended, with the `_commit_version` that brought each."""
        changes = self.changed_since(spec, after, until)
        return changes.where("_change_type = 'insert'").drop("_change_type", "_commit_timestamp")

    def changed_since(self, spec: TableSpec, after: int, until: int) -> DataFrame:
        """Rows that the versions in (after, until] brought or took away, with the columns of Delta's change feed."""
        reader = self._spark.read.format("delta").option("readChangeFeed", "true")
        return self._open(reader.option("startingVersion", after + 1).option("endingVersion", until), spec)

    def exists(self, spec: TableSpec) -> bool:
        """Whether the table was ever written or read; asking does not create it."""
        if spec.name in self._created:
            return True
        if self._catalog is not None:
            return self._spark.catalog.tableExists(self._name(spec))
        return DeltaTable.isDeltaTable(self._spark, self._path(spec))

    def version(self, spec: TableSpec) -> int:
        """The newest version of the table, which is created where it is missing."""
        self._ensure(spec)
        if self._is_local:
            # The log of a local folder is read in milliseconds; asking Spark for it runs a job.
            return int(deltalake.DeltaTable(self._path(spec)).version())
        return int(self._delta(spec).history(1).select("version").first()["version"])  # type: ignore[index]

    def location(self, spec: TableSpec) -> str:
        """The URI or path of the table's folder, for readers that are not Spark."""
        self._ensure(spec)
        if self._catalog is None:
            return self._path(spec)
        return str(self._delta(spec).detail().first()["location"])  # type: ignore[index]

    def local_folder(self, spec: TableSpec) -> str | None:
        """The folder of a table on a local disk, whose log can be read without Spark; None for every other table."""
        return self._path(spec) if self._is_local else None

    def sql_name(self, spec: TableSpec) -> str:
        """How a SQL statement names the table."""
        return self._name(spec) if self._catalog is not None else f"delta.`{self._path(spec)}`"

    def rearrange(self, spec: TableSpec, frame: DataFrame, where: str | None, note: str) -> int:
        """Put the same rows into other files, in one commit with a note, of which the change feed tells nothing.

        frame: the table's rows that meet `where` (on partition columns; None: all rows), read without a version: Delta
        then reads them again inside the commit, so that rows appended meanwhile are not lost. Returns the version.
        """
        self._check(spec, frame)
        writer = (
            frame.write.format("delta").mode("overwrite").option("dataChange", "false").option("userMetadata", note)
        )
        with self._alone(spec):
            self._save(spec, writer.option("replaceWhere", where) if where is not None else writer)
        return self.version(spec)

    def properties(self, spec: TableSpec) -> dict[str, str]:
        """The table's properties."""
        self._ensure(spec)
        if self._is_local:
            return dict(deltalake.DeltaTable(self._path(spec)).metadata().configuration)
        return dict(self._delta(spec).detail().first()["properties"])  # type: ignore[index]

    def append(self, spec: TableSpec, frame: DataFrame, *, writer: str, number: int) -> int:
        """Append once: a second append with the same writer and number, or a lower one, writes nothing.

        Returns the table's version after it.
        """
        self._check(spec, frame)
        once = {"spark.databricks.delta.write.txnAppId": writer, "spark.databricks.delta.write.txnVersion": str(number)}
        # They must not outlive the write: a transaction's number that is left behind makes Delta skip the next one.
        with self._alone(spec), session_settings(self._spark, once):
            self._save(spec, frame.write.format("delta").mode("append"))
        return self.version(spec)

    def insert(self, spec: TableSpec, frame: DataFrame) -> int:
        """Append rows as they are: for rows whose key is new by construction. Returns the version after it."""
        self._check(spec, frame)
        with self._alone(spec):
            self._save(spec, frame.write.format("delta").mode("append"))
        return self.version(spec)

    def replace(
        self, spec: TableSpec, frame: DataFrame, where: str | None = None, *, row_group: int | None = None
    ) -> int:
        """Replace the rows that meet `where` (all rows without it) in one commit. Returns the version after it.

        row_group: rows of a row group of the files, but for each file's last; None: what fits into Parquet's 128 MB.
        """
        self._check(spec, frame)
        writer = frame.write.format("delta").mode("overwrite")
        row_groups = _row_groups_of(row_group) if row_group is not None else {}
        with self._alone(spec), session_settings(self._spark, row_groups):
            self._save(spec, writer.option("replaceWhere", where) if where is not None else writer)
        return self.version(spec)

    def merge(
        self,
        spec: TableSpec,
        frame: DataFrame,
        stale: DataFrame | None = None,
        *,
        update: bool = True,
        within: Sequence[date] | None = None,
        numbers: tuple[str, int] | None = None,
    ) -> int:
        """Insert or update by key, in one commit. Returns the version after it. Fails where two rows have one key.

        stale: rows to delete, at least the key columns, none of them with a key that `frame` has.
        update: False keeps what is there and only inserts. within: the folders (days) in which a row of the table may
        have a key that is given; None: any. Without it the whole table is read. numbers: a column, and the first
        number that the frame gives in it: nothing is written (`explain` calls it Occupied) where the table by now holds
        one as high that the frame does not give to the same key.
        """
        self._check(spec, frame)
        flag = "_is_stale"
        # The join by key needs the rows of a key together anyway.
        of_key = F.count("*").over(Window.partitionBy(*spec.key))
        source = frame.withColumn(flag, F.when(of_key > 1, _twins(spec)).otherwise(F.lit(False)))
        if stale is not None:
            gone = stale.select(*spec.key, F.lit(True).alias(flag))
            source = source.unionByName(gone, allowMissingColumns=True)
        values: dict[str, str | Column] = {name: F.col(f"new.{name}") for name in spec.column_names}
        is_same = _same(spec.key)
        if within is not None:
            # As literals: Delta then leaves the files of other days unread.
            is_same &= F.col(f"old.{spec.partition_by[0]}").isin(list(within))
        merge = self._delta(spec).alias("old").merge(source.alias("new"), is_same)
        if stale is not None:
            merge = merge.whenMatchedDelete(F.col(f"new.{flag}"))
        if numbers is not None:
            merge = _refuse_taken(merge, spec, *numbers)
        if update:
            merge = merge.whenMatchedUpdate(set=values)
        with self._alone(spec):
            merge.whenNotMatchedInsert(~F.col(f"new.{flag}"), values).execute()
        return self.version(spec)

    def delete(self, spec: TableSpec, keys: DataFrame) -> int:
        """Delete the rows that equal a row of `keys` in its columns. Returns the version after it.

        By a join and not by a condition: Delta writes conditions into the log, and the keys may be what is to go.
        """
        merge = self._delta(spec).alias("old").merge(keys.alias("new"), _same(keys.columns))
        with self._alone(spec):
            merge.whenMatchedDelete().execute()
        return self.version(spec)

    def add_check(self, spec: TableSpec, name: str, condition: str) -> None:
        """Have Delta refuse rows that do not meet the condition. Fails where there is one, or a check of that name."""
        with self._alone(spec):
            self._spark.sql(add_check(self.sql_name(spec), name, condition))

    def allow_nulls(self, spec: TableSpec) -> None:
        """Take over nullable columns of the spec into a table that was made before they were."""
        stored = {field.name: field.nullable for field in self.read(spec).schema}
        for column in spec.columns:
            if column.nullable and not stored[column.name]:
                self._spark.sql(f"ALTER TABLE {self.sql_name(spec)} ALTER COLUMN {column.name} DROP NOT NULL")

    def _collected(self, spec: TableSpec) -> Sequence[Mapping[str, Any]]:
        rows = (row.asDict() for row in self.read(spec).select(*spec.column_names).collect())
        return [{name: _with_zone(value) for name, value in row.items()} for row in rows]

    def _check(self, spec: TableSpec, frame: DataFrame) -> None:
        self._ensure(spec)
        expected = {field.name: field.dataType for field in struct_type(spec)}
        given = {field.name: field.dataType for field in frame.schema}
        for name in expected.keys() | given.keys():
            left, right = expected.get(name), given.get(name)
            if left is None or right is None or left.simpleString() != right.simpleString():
                shown = right.simpleString() if right is not None else "absent"
                mend = f"the table has {left.simpleString() if left is not None else 'no such column'}"
                raise ContractBroken(f"column {name}", where=f"a frame for table {spec.name}", value=shown, mend=mend)

    def _ensure(self, spec: TableSpec) -> None:
        """Make the table where it is missing, and give an older one what its spec has gained since."""
        if spec.name in self._created:
            return
        target = self.sql_name(spec)
        with self._alone(spec):
            self._clear_half_made(spec)
            self._spark.sql(create_table(spec, target))
            for statement in self._migrations(spec, target):
                self._spark.sql(statement)
        self._created.add(spec.name)

    def _clear_half_made(self, spec: TableSpec) -> None:
        """A run that was killed while it made a table leaves a log without a commit, which Delta takes for a table."""
        log = Path(self._path(spec), "_delta_log")
        if self._is_local and log.is_dir() and not any(log.glob("[0-9]*")):
            shutil.rmtree(log)

    def _migrations(self, spec: TableSpec, target: str) -> list[str]:
        found = self._open(self._spark.read.format("delta"), spec).schema
        stored = {field.name: field.dataType.simpleString() for field in found}
        for column in spec.columns:
            type_there = stored.get(column.name)
            is_addable = type_there is None and column.nullable
            if not is_addable and type_there != column.type.ddl:
                raise ContractBroken(
                    f"column {column.name} is {type_there or 'absent'} and not {column.type.ddl}",
                    where=f"table {spec.name}",
                    mend="the table was made by another version; move it away and run rebuild",
                )
        missing = [add_column(target, column) for column in spec.columns if column.name not in stored]
        properties = self._spark.sql(f"SHOW TBLPROPERTIES {target}").collect() if spec.checks else []
        known = {row["key"].removeprefix(CHECK_PREFIX) for row in properties}
        return missing + [add_check(target, name, sql) for name, sql in spec.checks if name not in known]

    @contextmanager
    def _alone(self, spec: TableSpec) -> Iterator[None]:
        """Let one process at a time write a local table: two that commit in one instant could both take one version.

        Elsewhere the store or the catalog sees to that.
        """
        if not self._is_local:
            yield
            return
        with hold(lock_path(self._warehouse, f"table-{spec.name}"), f"a write of table {spec.name}", None):
            yield

    def _delta(self, spec: TableSpec) -> DeltaTable:
        self._ensure(spec)
        if self._catalog is not None:
            return DeltaTable.forName(self._spark, self._name(spec))
        return DeltaTable.forPath(self._spark, self._path(spec))

    def _open(self, reader: DataFrameReader, spec: TableSpec) -> DataFrame:
        return reader.table(self._name(spec)) if self._catalog is not None else reader.load(self._path(spec))

    def _save(self, spec: TableSpec, writer: DataFrameWriter) -> None:
        if self._catalog is not None:
            writer.saveAsTable(self._name(spec))
        else:
            writer.save(self._path(spec))

    def _name(self, spec: TableSpec) -> str:
        return f"{self._catalog}.{spec.name}"

    def _path(self, spec: TableSpec) -> str:
        return f"{self._warehouse}/{spec.name}"


def _row_groups_of(rows: int) -> dict[str, str]:
    """Parquet ends a row group by its bytes, which it looks at after so many rows: then one byte is too many."""
    looks = {f"parquet.page.size.row.check.{bound}": str(rows) for bound in ("min", "max")}
    return {"parquet.block.size": "1", **looks}


def _twins(spec: TableSpec) -> Column:
    """What ends a write in which two rows have one key: `failures` knows the words."""
    key = F.to_json(F.struct(*spec.key))
    return F.raise_error(F.concat(F.lit(f"two rows have one key of table {spec.name}: "), key)).cast("boolean")


def _refuse_taken(merge: DeltaMergeBuilder, spec: TableSpec, column: str, first: int) -> DeltaMergeBuilder:
    """What ends a write whose new numbers were given meanwhile. Looked for in the version that the write commits on."""
    taken = F.raise_error(F.lit(f"numbers of table {spec.name} were given meanwhile"))
    values: dict[str, str | Column] = {column: taken.cast(spec.column(column).type.ddl)}
    old, new = F.col(f"old.{column}"), F.col(f"new.{column}")
    return merge.whenMatchedUpdate(old != new, values).whenNotMatchedBySourceUpdate(old >= first, values)


def _with_zone(value: Any) -> Any:
    """Spark hands out times without a zone, in that of the process."""
    return value.astimezone(timezone.utc) if isinstance(value, datetime) else value


def _same(columns: Sequence[str]) -> Column:
    """That a row of `old` and one of `new` are equal in the columns."""
    return reduce(lambda a, b: a & b, (F.col(f"old.{name}") == F.col(f"new.{name}") for name in columns))

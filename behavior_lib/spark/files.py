"""The files of a table, as its log lists them, and what they add up to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import deltalake
import pyarrow as pa
from pyspark.sql import functions as F

from behavior_lib.spark.tables import Tables
from behavior_lib.tables import TableSpec

Partition = tuple[Any, ...]


@dataclass(frozen=True)
class TableFile:
    """One data file. partition: its values of `partition_by`, in order. rows: None where the log does not say."""

    partition: Partition
    size_bytes: int
    rows: int | None


@dataclass(frozen=True)
class FileReport:
    """What a table's files add up to. Sizes in bytes; 0 for a table without files. small: files below the target."""

    files: int
    bytes: int
    smallest: int
    median: int
    largest: int
    small: int
    partitions: int
    versions: int


def list_files(tables: Tables, spec: TableSpec) -> list[TableFile]:
    """The files of the newest version, in no promised order."""
    folder = tables.local_folder(spec)
    return _files_of_frame(tables, spec) if folder is None else _files_of_log(folder, spec)


def report(files: Sequence[TableFile], target: int, versions: int) -> FileReport:
    """Sum the files up. target: bytes below which a file counts as small. versions: length of the table's history."""
    sizes = [file.size_bytes for file in files]
    return FileReport(
        files=len(sizes),
        bytes=sum(sizes),
        smallest=min(sizes, default=0),
        median=int(median(sizes)) if sizes else 0,
        largest=max(sizes, default=0),
        small=sum(size < target for size in sizes),
        partitions=len({file.partition for file in files}),
        versions=versions,
    )


def by_partition(files: Sequence[TableFile]) -> dict[Partition, list[TableFile]]:
    """Partition values → its files."""
    grouped: dict[Partition, list[TableFile]] = {}
    for file in files:
        grouped.setdefault(file.partition, []).append(file)
    return grouped


def condition(spec: TableSpec, partitions: Sequence[Partition]) -> str | None:
    """SQL that holds for the rows of the partitions; None for a table without partitions."""
    if not spec.partition_by:
        return None

    def one(values: Partition) -> str:
        return " and ".join(
            f"{name} <=> {_literal(value)}" for name, value in zip(spec.partition_by, values, strict=True)
        )

    return " or ".join(f"({one(values)})" for values in partitions)


def commits_since_checkpoint(folder: str) -> int:
    """How many commits a reader of a local table's log must read one by one."""
    log = Path(folder, "_delta_log")
    checkpoints = [int(path.name.split(".")[0]) for path in log.glob("*.checkpoint*.parquet")]
    newest = max(checkpoints, default=-1)
    return sum(int(path.stem) > newest for path in log.glob("*.json") if path.stem.isdigit())


def _files_of_log(folder: str, spec: TableSpec) -> list[TableFile]:
    actions: list[Mapping[str, Any]] = pa.table(deltalake.DeltaTable(folder).get_add_actions(flatten=True)).to_pylist()
    return [
        TableFile(
            tuple(action[f"partition.{name}"] for name in spec.partition_by),
            action["size_bytes"],
            action["num_records"],
        )
        for action in actions
    ]


def _files_of_frame(tables: Tables, spec: TableSpec) -> list[TableFile]:
    """By Spark, where the log is out of reach: no column but the file's own is read."""
    own = F.col("_metadata.file_path").alias("_path"), F.col("_metadata.file_size").alias("_bytes")
    rows = tables.read(spec).select(*own, *spec.partition_by).groupBy("_path", "_bytes", *spec.partition_by).count()
    return [
        TableFile(tuple(row[name] for name in spec.partition_by), row["_bytes"], row["count"]) for row in rows.collect()
    ]


def _literal(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, date):
        return f"date'{value.isoformat()}'"
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return str(value)

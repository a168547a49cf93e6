"""What happened between two versions of a table: whether rows changed, or only files and properties."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import deltalake
from pyspark.sql import SparkSession

from behavior_lib.spark.tables import Tables
from behavior_lib.tables import TableSpec

REARRANGED = "behavior maintain: the same rows in other files"
_HARMLESS = {"OPTIMIZE", "SET TBLPROPERTIES", "VACUUM START", "VACUUM END"}


def commits(spark: SparkSession, tables: Tables, spec: TableSpec) -> dict[int, Mapping[str, Any]]:
    """The commits that the table's log still has: version → at least `operation` and `userMetadata` (null for most)."""
    folder = tables.local_folder(spec)
    if folder is not None:
        return {commit["version"]: commit for commit in deltalake.DeltaTable(folder).history()}
    history = spark.sql(f"DESCRIBE HISTORY {tables.sql_name(spec)}").select("version", "operation", "userMetadata")
    return {row["version"]: row.asDict() for row in history.collect()}


def has_same_rows(spark: SparkSession, tables: Tables, spec: TableSpec, one: int, other: int) -> bool:
    """Whether two versions hold the same rows, for only maintenance lies between them.

    A commit that the log no longer has counts as a change.
    """
    return one == other or has_only(spark, tables, spec, min(one, other), max(one, other), ())


def has_only(
    spark: SparkSession, tables: Tables, spec: TableSpec, after: int, until: int, operations: Collection[str]
) -> bool:
    """Whether every version in (after, until] was made by maintenance or by one of the operations, as Delta names them.

    A commit that the log no longer has was made by anything.
    """
    known = commits(spark, tables, spec)
    made = [known.get(version, {}) for version in range(after + 1, until + 1)]
    return all(_is_maintenance(commit) or commit.get("operation") in operations for commit in made)


def _is_maintenance(commit: Mapping[str, Any]) -> bool:
    return commit.get("operation") in _HARMLESS or commit.get("userMetadata") == REARRANGED

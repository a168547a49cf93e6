"""A Delta table as a source: which data files brought new rows since the last batch, and their rows.

A batch is a range of table versions, registered as the data files that they added and the log's file of the last
version, followed by # and the table's id. So a batch is the same rows whenever it is read: files that OPTIMIZE adds
change no data and are passed over, and a data file stays as it is until VACUUM removes it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import cast
from urllib.parse import unquote

from delta.tables import DeltaTable
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from behavior_lib.config.source import SKIP_CHANGES, SourceConfig
from behavior_lib.errors import ConfigError, DataRefused
from behavior_lib.spark.by_name import take_by_name
from behavior_lib.spark.presence import declared_schema
from behavior_lib.spark.raw_files import RawFile, find_files, literal, load

_COMMIT = re.compile(r"^(?P<table>.*)/_delta_log/(?P<version>[0-9]{20})[.]json(?:#(?P<id>.*))?$")
_ACTIONS = (
    "add struct<path: string, size: bigint, dataChange: boolean>, remove struct<path: string, dataChange: boolean>, "
    "commitInfo struct<operation: string>"
)


def new_data_files(spark: SparkSession, source: SourceConfig, table: str, taken: Sequence[RawFile]) -> list[RawFile]:
    """The files of the batch that follows on those taken: up to the newest version, or to N of `TABLE@vN`.

    The first batch is the table as it is; later ones are what was appended since. Empty where there is nothing new.
    Raises DataRefused where rows were changed or removed (unless the option skipChangeCommits leaves such versions
    out), where the log no longer has all versions since, or where the folder holds another table than it did.
    """
    folder, _, until = table.partition("@v")
    log = [file for file in find_files(spark, f"{folder.rstrip('/')}/_delta_log/*.json") if is_commit(file)]
    commits = {_version(file): file for file in log}
    newest = int(until) if until.isdigit() else max(commits)
    if newest not in commits or (until and not until.isdigit()):
        have = f"it has {min(commits)} to {max(commits)}"
        raise ConfigError("the source table's log has no such version", where=folder, value=until, mend=have)
    root = _table_of(commits[newest])
    detail = _detail(spark, root)
    last = max(filter(is_commit, taken), key=_version, default=None)
    if last is None:
        found = _snapshot(spark, root, newest)
    else:
        _check_goes_on(commits, last, newest, detail["id"])
        found = _appended(spark, source, root, [commits[n] for n in range(_version(last) + 1, newest + 1)])
    for file in found:
        if not all(f"/{name}=" in file.path for name in detail["partitionColumns"]):
            what, mend = "a source table has partitions without folders", "copy the table and name the copy"
            raise DataRefused(what, where=root, value=file.path, mend=mend)
    marker = RawFile(f"{commits[newest].path}#{detail['id']}", commits[newest].size_bytes)
    return sorted([*found, marker]) if found else []


def read_data_files(spark: SparkSession, source: SourceConfig, files: Sequence[RawFile]) -> DataFrame:
    """The rows of a batch's data files, and `_unreadable`. Types are the source's schema's, else the table's of now.

    Raises DataRefused where a file is gone.
    """
    root = _table_of(next(filter(is_commit, files)))
    paths = [file.path for file in files if not is_commit(file)]
    table = spark.read.format("delta").load(root).schema
    try:
        rows = load(spark.read.format("parquet").schema(table), paths, root)
    except AnalysisException as error:
        gone = re.search(r"PATH_NOT_FOUND\].*?exist: (.+?)\.?(?: SQLSTATE|\n|$)", str(error))
        if gone is None:
            raise
        mend = (
            "VACUUM removed it: restore it, and keep removed files for longer than a batch may wait or be replayed "
            "(delta.deletedFileRetentionDuration); nothing of the batch was taken"
        )
        raise DataRefused("a data file of a batch is gone", where=root, value=gone[1], mend=mend) from None
    return take_by_name(rows, declared_schema(source) or table)


def is_commit(file: RawFile) -> bool:
    """Whether a file is one of a table's log, which says the batch's last version, and no data."""
    return _COMMIT.match(file.path) is not None


def covers(files: Sequence[RawFile], table: str) -> bool:
    """Whether a registered batch is what `TABLE` or `TABLE@vN` asks for again."""
    folder, _, until = table.partition("@v")
    last = next(filter(is_commit, files))
    same_table = _bare(_table_of(last)) == _bare(folder)
    return same_table and until in ("", str(_version(last)))


def _version(commit: RawFile) -> int:
    return int(_COMMIT.sub(r"\g<version>", commit.path))


def _table_of(commit: RawFile) -> str:
    return _COMMIT.sub(r"\g<table>", commit.path)


def _bare(folder: str) -> str:
    """A folder without what Spark adds to or takes from its URI."""
    return re.sub(r"^file:/+", "/", folder).rstrip("/")


def _detail(spark: SparkSession, root: str) -> Row:
    """What Delta says of the table. Raises DataRefused where its files do not bear the columns' names."""
    detail = cast(Row, DeltaTable.forPath(spark, root).detail().first())
    mode = detail["properties"].get("delta.columnMapping.mode", "none")
    if mode != "none":
        mend = "copy the table to one without and name the copy"
        raise DataRefused("a source table has column mapping", where=root, value=mode, mend=mend)
    return detail


def _snapshot(spark: SparkSession, root: str, version: int) -> list[RawFile]:
    """The data files of one version. Raises DataRefused where some of their rows are deleted by a deletion vector."""
    rows = spark.read.format("delta").option("versionAsOf", version).load(root)
    files = rows.groupBy("_metadata.file_path", "_metadata.file_size").agg(F.count("*").alias("n")).collect()
    found = [RawFile(unquote(row["file_path"]), row["file_size"]) for row in files]
    held = spark.read.format("parquet").load([literal(file.path) for file in found]).count() if found else 0
    if held != sum(row["n"] for row in files):
        mend = "run REORG TABLE … APPLY (PURGE) on it first"
        raise DataRefused("a source table has deletion vectors", where=root, value=held, mend=mend)
    return found


def _check_goes_on(commits: Mapping[int, RawFile], last: RawFile, newest: int, table_id: str) -> None:
    root = _table_of(last)
    if not last.path.endswith(f"#{table_id}"):
        mend = "name the source anew to take the table whole"
        raise DataRefused("the folder holds another table than it did", where=root, value=table_id, mend=mend)
    lost = [number for number in range(_version(last) + 1, newest) if number not in commits]
    if lost:
        mend = "ingest within delta.logRetentionDuration; to go on, name the source anew and take the table whole"
        raise DataRefused("versions of a source table are no longer in its log", where=root, value=lost, mend=mend)


def _appended(spark: SparkSession, source: SourceConfig, root: str, commits: Sequence[RawFile]) -> list[RawFile]:
    """The data files that the commits added, those that changed no data left out."""
    if not commits:
        return []
    actions = spark.read.schema(_ACTIONS).json([literal(commit.path) for commit in commits])
    changes = actions.where("add.dataChange or remove.dataChange or commitInfo.operation is not null")
    rows = changes.select("*", F.col("_metadata.file_path").alias("commit")).collect()
    changed = {row["commit"]: _operation(rows, row["commit"]) for row in rows if row["remove"] is not None}
    if changed and source.options.get(SKIP_CHANGES, "false").lower() != "true":
        commit, operation = min(changed.items())
        mend = (
            "a source table may only grow; options: {skipChangeCommits: 'true'} leaves such versions out, "
            "with the rows that they add"
        )
        what = f"rows of a source table were changed or removed by {operation}"
        raise DataRefused(what, where=root, value=f"version {_version(RawFile(commit, 0))}", mend=mend)
    added = [row["add"] for row in rows if row["add"] is not None and row["commit"] not in changed]
    return [RawFile(_absolute(root, unquote(add["path"])), add["size"]) for add in added]


def _operation(rows: Sequence[Row], commit: str) -> str:
    named = [row["commitInfo"] for row in rows if row["commit"] == commit and row["commitInfo"] is not None]
    return str(named[0]["operation"]) if named else "a commit"


def _absolute(root: str, path: str) -> str:
    """A shallow clone's log names files of another folder by their whole URI."""
    return path if re.match(r"^[a-z0-9]+:/|^/", path) else f"{root}/{path}"

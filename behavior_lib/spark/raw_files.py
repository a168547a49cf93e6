"""Raw files of a source: which there are, and what their paths say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame, DataFrameReader, SparkSession

UNREADABLE = "_unreadable"
_DAY_FOLDERS = re.compile(r"/[^/=]+=[^/]*/")


@dataclass(frozen=True, order=True)
class RawFile:
    """One raw file: its URI and its size in bytes."""

    path: str
    size_bytes: int


def find_files(spark: SparkSession, pattern: str) -> list[RawFile]:
    """The files that a folder or glob names, sorted by path. Hidden files (`_…`, `.…`) are no data.

    Raises ConfigError where nothing is there.
    """
    rows = spark.read.format("binaryFile").load(pattern).select("path", "length").collect()
    return sorted(RawFile(row["path"], row["length"]) for row in rows)


def base_path(paths: Sequence[str]) -> str | None:
    """The folder below which `name=value` folders are columns; None where the paths share none."""
    split = [_DAY_FOLDERS.split(path, maxsplit=1) for path in paths]
    bases = {parts[0] for parts in split if len(parts) > 1}
    return bases.pop() if len(bases) == 1 and all(len(parts) > 1 for parts in split) else None


def folder_columns(paths: Sequence[str]) -> list[str]:
    """The columns that `name=value` folders give, from the outermost in."""
    base = base_path(paths)
    return [] if base is None else re.findall(r"/([^/=]+)=[^/]*(?=/)", paths[0].removeprefix(base))


def load(reader: DataFrameReader, paths: Sequence[str], base: str | None) -> DataFrame:
    """The files as a frame. base: the folder below which `name=value` folders are columns."""
    return (reader if base is None else reader.option("basePath", base)).load([literal(path) for path in paths])


def literal(path: str) -> str:
    """A path that was found, as Spark's readers want it: they take `[`, `{`, `*` and `?` for marks of a pattern."""
    return re.sub(r"([\[\]{}*?\\])", r"\\\1", path)

"""Raw files of a source: which there are, and their rows with what could not be read marked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from behavior_lib.config.source import SourceConfig
from behavior_lib.errors import ConfigError

UNREADABLE = "_unreadable"
_TEXT_FORMATS = ("json", "csv")


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


def read_raw(spark: SparkSession, source: SourceConfig, files: Sequence[RawFile]) -> DataFrame:
    """The rows of the files, with `_unreadable`: the raw line where it could not be read, else null.

    Text is never given a type that the source did not declare.
    """
    paths = [file.path for file in files]
    if source.format == "delta":
        mend = "point the source at exported Parquet files"
        raise ConfigError("Delta tables are not read as a source", where=f"source {source.name}", mend=mend)
    reader = spark.read.format(source.format).options(**source.options).options(**_base_path(paths))
    if source.format not in _TEXT_FORMATS:
        reader = reader.schema(source.schema) if source.schema is not None else reader
        return reader.load(paths).withColumn(UNREADABLE, F.lit(None).cast("string"))
    schema = _declared(spark, source) or _found(spark, source, paths)
    marked = StructType([*schema.fields, StructField(UNREADABLE, StringType())])
    # Without enforceSchema=false Spark reads CSV columns by place and ignores what a file's header says.
    options = {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": UNREADABLE, "enforceSchema": "false"}
    return reader.options(**options).schema(marked).load(paths)


def absent_columns(spark: SparkSession, source: SourceConfig, file: RawFile, columns: Sequence[str]) -> list[str]:
    """Which of the columns do not stand in the file at all. A JSON file has no header: its rows are looked through."""
    if source.format != "json" or not columns:
        return []
    found = spark.read.options(**source.options).option("primitivesAsString", "true").json(file.path).columns
    return [column for column in columns if column not in found]


def _declared(spark: SparkSession, source: SourceConfig) -> StructType | None:
    if source.schema is None:
        return None
    return spark.createDataFrame([], source.schema).schema


def _found(spark: SparkSession, source: SourceConfig, paths: Sequence[str]) -> StructType:
    """The columns that the files have, all of them text."""
    reader = spark.read.options(**source.options)
    if source.format == "json":
        return reader.option("primitivesAsString", "true").json(list(paths)).schema
    names = reader.csv(paths[0]).columns
    return StructType([StructField(name, StringType()) for name in names])


def _base_path(paths: Sequence[str]) -> dict[str, str]:
    """Reader option that makes `name=value` folders columns: the folder above the first of them."""
    split = {tuple(re.split(r"/[^/=]+=[^/]*/", path, maxsplit=1)) for path in paths}
    bases = {parts[0] for parts in split if len(parts) > 1}
    return {"basePath": bases.pop()} if len(bases) == 1 and all(len(parts) > 1 for parts in split) else {}

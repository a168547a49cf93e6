"""Raw files → their rows, with what could not be read marked. Text gets no type that the source did not declare."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StringType, StructField, StructType

from behavior_lib.config.source import SourceConfig
from behavior_lib.spark.by_name import Warn, read_by_name, with_folders
from behavior_lib.spark.delta_source import read_data_files
from behavior_lib.spark.elements import one_row_an_element
from behavior_lib.spark.log_lines import LINE, parse_lines
from behavior_lib.spark.presence import declared_schema
from behavior_lib.spark.raw_files import UNREADABLE, RawFile, base_path, folder_columns, literal, load
from behavior_lib.spark.session import local_time


def read_raw(
    spark: SparkSession, source: SourceConfig, files: Sequence[RawFile], warn: Warn = lambda text: None
) -> DataFrame:
    """The rows of the files, with `_unreadable`: the raw row as text where it could not be read, else null.

    Where the source has `explode`, one row an element, with `element` and `position`.
    warn: told of a declared column that no CSV, Parquet or ORC file of the batch has.
    Raises ConfigError where the source does not fit the files, DataRefused where a file lacks a column that the source
    needs or is gone.
    """
    # Reading the schema analyses the frame now, while the source's timezone is in force.
    with local_time(spark, source.timezone):
        raw = _read(spark, source, files, warn)
        if source.explode is not None:
            raw = one_row_an_element(raw, source)
        raw.schema  # noqa: B018
    return raw


def _read(spark: SparkSession, source: SourceConfig, files: Sequence[RawFile], warn: Warn) -> DataFrame:
    paths = [file.path for file in files]
    if source.format == "delta":
        return read_data_files(spark, source, files)
    if source.format == "text":
        return parse_lines(_read_text(spark, source, paths), str(source.pattern))
    if source.format == "json":
        return _read_json(spark, source, paths)
    return read_by_name(spark, source, paths, warn)


def _read_json(spark: SparkSession, source: SourceConfig, paths: Sequence[str]) -> DataFrame:
    found = declared_schema(source)
    if found is None:
        reader = spark.read.options(**source.options).option("primitivesAsString", "true")
        found = reader.json([literal(path) for path in paths]).schema
    fields = [StructField(field.name, field.dataType) for field in with_folders(found, folder_columns(paths))]
    schema = StructType([*fields, StructField(UNREADABLE, StringType())])
    options = {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": UNREADABLE, "timeZone": source.timezone}
    reader = spark.read.format("json").options(**options).options(**source.options).schema(schema)
    return load(reader, paths, base_path(paths)).select(*(f"`{name}`" for name in schema.names))


def _read_text(spark: SparkSession, source: SourceConfig, paths: Sequence[str]) -> DataFrame:
    schema = with_folders(StructType([StructField(LINE, StringType())]), folder_columns(paths))
    reader = spark.read.format("text").options(**source.options).schema(schema)
    return load(reader, paths, base_path(paths))

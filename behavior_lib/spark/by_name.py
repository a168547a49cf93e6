"""CSV, Parquet and ORC files whose columns differ: each is read with its own, and the source's are taken by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    ByteType,
    DataType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    MapType,
    ShortType,
    StringType,
    StructField,
    StructType,
)

from behavior_lib.config.source import SourceConfig
from behavior_lib.errors import ConfigError
from behavior_lib.spark.presence import declared_schema, refuse_missing
from behavior_lib.spark.raw_files import UNREADABLE, base_path, folder_columns, literal, load

Warn = Callable[[str], None]
_FILES_AT_ONCE = 8
_NESTED = (ArrayType, MapType, StructType)
_WHOLE, _FLOATING = (ByteType, ShortType, IntegerType, LongType), (FloatType, DoubleType)


def read_by_name(spark: SparkSession, source: SourceConfig, paths: Sequence[str], warn: Warn) -> DataFrame:
    """The rows of the files: the columns of the source's schema, or else of all files, those of folders, `_unreadable`.

    A column that a file does not have is null in its rows; what a file has beyond the schema is left out. A value of
    another type than the schema's is cast; where that fails the row is unreadable.
    warn: told of a declared column that no file has.
    Raises DataRefused where a file lacks a column that the source needs.
    """
    folders = folder_columns(paths)
    # A file without any column, not even a header, has no row either.
    columns = {path: own for path, own in _columns_of_files(spark, source, paths).items() if own.fields}
    wanted = with_folders(declared_schema(source) or _all_columns(source, columns.values()), folders)
    found = {path: [*own.names, *folders] for path, own in columns.items()}
    refuse_missing(source, wanted, found)
    if not columns:
        return take_by_name(spark.range(0).drop("id"), wanted)
    everywhere = {name.lower() for names in found.values() for name in names}
    for name in wanted.names:
        if name.lower() not in everywhere:
            warn(f"no file of the batch has column {name} of source {source.name}; it is null")
    groups: dict[str, tuple[StructType, list[str]]] = {}
    for path, own in columns.items():
        schema = _read_as(source, own, wanted, folders)
        groups.setdefault(schema.json(), (schema, []))[1].append(path)
    reader = spark.read.format(source.format).options(**_options(source))
    base = base_path(paths)
    frames = [take_by_name(load(reader.schema(schema), group, base), wanted) for schema, group in groups.values()]
    return reduce(DataFrame.unionByName, frames)


def take_by_name(rows: DataFrame, wanted: StructType) -> DataFrame:
    """The wanted columns with their types, and `_unreadable`. A column that is not there is null.

    A row in which a value cannot be cast is unreadable: its columns as JSON.
    """
    there = {field.name.lower(): field for field in rows.schema}
    columns, failures = [], []
    for field in wanted:
        own = there.get(field.name.lower())
        value = F.lit(None) if own is None else F.col(f"`{own.name}`")
        if own is None or own.dataType == field.dataType:
            columns.append(value.cast(field.dataType).alias(field.name))
            continue
        cast = F.expr(f"try_cast(`{own.name}` as {field.dataType.simpleString()})")
        columns.append(cast.alias(field.name))
        failures.append(value.isNotNull() & cast.isNull())
    unreadable = F.col(UNREADABLE) if UNREADABLE in rows.columns else F.lit(None).cast("string")
    if failures:
        failed = reduce(Column.__or__, failures)
        unreadable = F.coalesce(unreadable, F.when(failed, F.to_json(F.struct(*(f"`{n}`" for n in rows.columns)))))
    return rows.select(*columns, unreadable.alias(UNREADABLE))


def with_folders(schema: StructType, folders: Sequence[str]) -> StructType:
    """The schema and the columns that folders give, as text where it does not declare them."""
    return StructType(
        [*schema.fields, *(StructField(name, StringType()) for name in folders if name not in schema.names)]
    )


def _columns_of_files(spark: SparkSession, source: SourceConfig, paths: Sequence[str]) -> Mapping[str, StructType]:
    """What columns each file has; those of CSV are text. Costs one small job a file, which reads its first bytes."""
    reader = spark.read.format(source.format).options(**{**source.options, "inferSchema": "false"})
    if source.format == "csv" and not _has_header(source):
        # Columns without names go by their place.
        own = declared_schema(source) or reader.load(literal(paths[0])).schema
        return dict.fromkeys(paths, own)
    with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
        return dict(zip(paths, pool.map(lambda path: reader.load(literal(path)).schema, paths), strict=True))


def _has_header(source: SourceConfig) -> bool:
    return any(name.lower() == "header" and value.lower() == "true" for name, value in source.options.items())


def _read_as(source: SourceConfig, own: StructType, wanted: StructType, folders: Sequence[str]) -> StructType:
    """The schema to read a file with: its own columns, typed as the wanted ones where the reader can do that."""
    types = {field.name.lower(): field.dataType for field in wanted}
    fields = []
    for field in own:
        declared = types.get(field.name.lower())
        if source.format == "csv":
            fields.append(StructField(field.name, declared or StringType()))
        elif declared is not None:
            is_nested = isinstance(declared, _NESTED) and isinstance(field.dataType, _NESTED)
            fields.append(StructField(field.name, declared if is_nested else field.dataType))
    kept = [field for field in fields if field.name not in folders]
    kept += [StructField(name, types[name.lower()]) for name in folders]
    marker = [StructField(UNREADABLE, StringType())] if source.format == "csv" else []
    return StructType([*kept, *marker])


def _options(source: SourceConfig) -> dict[str, str]:
    if source.format != "csv":
        return source.options
    # The schema is made from the file's own header: there is nothing left to compare.
    # Without the columns that nobody asks for, a row of another width could not be told.
    own = {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": UNREADABLE, "timeZone": source.timezone}
    return {**own, **source.options, "enforceSchema": "true", "columnPruning": "false"}


def _all_columns(source: SourceConfig, files: Iterable[StructType]) -> StructType:
    """All columns of the files, in the order in which they turn up."""
    types: dict[str, list[DataType]] = {}
    names: dict[str, str] = {}
    for own in files:
        for field in own:
            names.setdefault(field.name.lower(), field.name)
            types.setdefault(field.name.lower(), []).append(field.dataType)
    return StructType([StructField(names[key], _common(source, names[key], found)) for key, found in types.items()])


def _common(source: SourceConfig, name: str, types: Sequence[DataType]) -> DataType:
    """One type that holds every value of several: the wider of whole or of floating numbers, else text."""
    if all(kind == types[0] for kind in types):
        return types[0]
    if any(isinstance(kind, _NESTED) for kind in types):
        shown = " and ".join(sorted({kind.simpleString() for kind in types}))
        mend = f"the files have {shown}; declare it in the source's schema"
        raise ConfigError("a nested column has several types", where=f"source {source.name}", value=name, mend=mend)
    for family, widest in ((_WHOLE, LongType()), (_FLOATING, DoubleType())):
        if all(isinstance(kind, family) for kind in types):
            return widest
    return StringType()

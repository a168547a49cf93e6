"""Which raw columns a source names, which of them its files must have, and which are not there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType, _parse_datatype_string

from behavior_lib.config.source import REQUIRED, SourceConfig
from behavior_lib.errors import ConfigError, DataRefused
from behavior_lib.spark.elements import ELEMENT, NO_ELEMENT, POSITION
from behavior_lib.spark.raw_files import UNREADABLE, RawFile
from behavior_lib.tables import EVENTS

_TEXT = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")


def declared_schema(source: SourceConfig) -> StructType | None:
    """The schema of the source's YAML; None where it has none. `not null` says that a file must have it.

    Raises ConfigError where it is no DDL.
    """
    if source.schema is None:
        return None
    found = _parse_datatype_string(source.schema)
    if not isinstance(found, StructType):
        raise ConfigError("the schema is no list of columns", where=f"source {source.name}", value=source.schema)
    return found


def named_columns(source: SourceConfig, raw_columns: Sequence[str]) -> dict[str, list[str]]:
    """Canonical column → the raw columns that its expression names."""
    return {name: named_in(expression, raw_columns) for name, expression in source.columns.items()}


def named_in(expression: str, raw_columns: Sequence[str]) -> list[str]:
    """The raw columns that a Spark SQL expression names. What stands in quotes or after a dot is no column."""
    bare = _TEXT.sub("''", expression)
    return [name for name in raw_columns if re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", bare)]


def needed_columns(source: SourceConfig, schema: StructType) -> list[list[str]]:
    """What a file must have, of each list at least one column.

    A column that the schema declares `not null`; one of those that each part of the key, the user, the type and the
    time of an event are made of.
    """
    expressions = [] if EVENTS.event_id in source.columns else list(source.key)
    expressions += [source.columns[name] for name in (EVENTS.event_id, *REQUIRED) if name in source.columns]
    named = [named_in(_with_array(source, expression), schema.names) for expression in expressions]
    return [[field.name] for field in schema if not field.nullable] + [names for names in named if names]


def refuse_missing(source: SourceConfig, schema: StructType, files: Mapping[str, Sequence[str]]) -> None:
    """Raises DataRefused for a file without a column that it must have. files: path → columns."""
    needed = needed_columns(source, schema)
    for path, columns in files.items():
        present = {name.lower() for name in columns}
        for names in needed:
            if not any(name.lower() in present for name in names):
                mend = f"it has {', '.join(columns) or 'none'}; write it again, or correct the source's columns"
                wanted = " or ".join(names)
                raise DataRefused("a column that the source needs is missing", where=path, value=wanted, mend=mend)


def absent_json_columns(
    spark: SparkSession, source: SourceConfig, raw: DataFrame, files: Sequence[RawFile]
) -> list[str]:
    """Columns that the source names and no row of the files has: JSON files have no header, their rows are looked at.

    Raises ConfigError where the source needs one of them.
    """
    schema = declared_schema(source) or raw.drop(UNREADABLE, ELEMENT, POSITION, NO_ELEMENT).schema
    expressions = [_with_array(source, expression) for expression in (*source.columns.values(), *source.key)]
    columns = sorted({name for expression in expressions for name in named_in(expression, schema.names)})
    present = raw.where(F.col(UNREADABLE).isNull()).agg(F.count("*"), *(F.count(f"`{name}`") for name in columns))
    readable, *values = present.first() or (0,)
    empty = [name for name, count in zip(columns, values, strict=True) if count == 0]
    if not readable or not empty:
        return []
    reader = spark.read.options(**source.options).option("primitivesAsString", "true")
    found = reader.json([file.path for file in files]).columns
    absent = [name for name in empty if name not in found]
    for names in needed_columns(source, schema):
        if set(names) <= set(absent):
            mend = "correct the source's columns or the files"
            where = f"the files of source {source.name}"
            raise ConfigError("a column that the source names is absent", where=where, value=names[0], mend=mend)
    return absent


def _with_array(source: SourceConfig, expression: str) -> str:
    """An expression over the element is one over the columns of the array, too."""
    return f"{expression} {source.explode}" if source.explode and named_in(expression, [ELEMENT]) else expression

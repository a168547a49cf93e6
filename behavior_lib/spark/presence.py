"""Which raw columns a source names, which of them its files must have, and which are not there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import reduce

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType, _parse_datatype_string

from behavior_lib.config.source import REQUIRED, SourceConfig
from behavior_lib.errors import ConfigError, DataRefused
from behavior_lib.spark.elements import ELEMENT, NO_ELEMENT, POSITION
from behavior_lib.spark.raw_files import UNREADABLE, RawFile, literal
from behavior_lib.tables import EVENTS

PRESENT = "_present_"
_BITS = 62
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
    """The raw columns that a Spark SQL expression names; as to Spark, upper and lower case are one. What stands in
    quotes or after a dot is no column.
    """
    bare = _TEXT.sub("''", expression)
    return [name for name in raw_columns if re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", bare, re.IGNORECASE)]


def personal_columns(source: SourceConfig, raw_columns: Sequence[str]) -> list[str]:
    """The raw columns that hold ids of users; what an element is taken from holds those of its neighbours too."""
    return named_in(with_array(source, source.columns[EVENTS.user_id]), raw_columns)


def needed_columns(source: SourceConfig, schema: StructType) -> list[list[str]]:
    """What a file must have, of each list at least one column.

    A column that the schema declares `not null`; one of those that each part of the key, the user, the type and the
    time of an event are made of.
    """
    expressions = [] if EVENTS.event_id in source.columns else list(source.key)
    expressions += [source.columns[name] for name in (EVENTS.event_id, *REQUIRED) if name in source.columns]
    named = [named_in(with_array(source, expression), schema.names) for expression in expressions]
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


def with_presence(raw: DataFrame, source: SourceConfig) -> DataFrame:
    """Raw rows of JSON with `_present_…`: which of the columns that the source names a readable row has.

    JSON files have no header, so their rows must be looked at; here it costs no second reading. bigint, a bit a column.
    """
    names = _named_in_source(raw, source)
    masks = {}
    for start in range(0, len(names), _BITS):
        own = names[start : start + _BITS]
        bits = [F.when(F.col(f"`{name}`").isNotNull(), F.lit(1 << bit)).otherwise(0) for bit, name in enumerate(own)]
        mask = reduce(lambda a, b: a.bitwiseOR(b), bits).cast("bigint")
        masks[f"{PRESENT}{start // _BITS}"] = F.when(F.col(UNREADABLE).isNull(), mask).otherwise(0)
    return raw.withColumns(masks)


def is_marker(name: str) -> bool:
    """Whether a column tells something about the raw row and is not of it."""
    return name in (UNREADABLE, NO_ELEMENT) or name.startswith(PRESENT)


def absent_json_columns(
    spark: SparkSession, source: SourceConfig, raw: DataFrame, files: Sequence[RawFile], masks: Sequence[int]
) -> list[str]:
    """Columns that the source names and no row of the files has.

    masks: the `_present_…` of all rows, by bitwise or. The files are read again only where a column has no value.
    Raises ConfigError where the source needs one of the columns.
    """
    names = _named_in_source(raw, source)
    empty = [name for number, name in enumerate(names) if not masks[number // _BITS] >> number % _BITS & 1]
    if not empty or not any(masks):
        return []
    reader = spark.read.options(**source.options).option("primitivesAsString", "true")
    found = reader.json([literal(file.path) for file in files]).columns
    absent = [name for name in empty if name not in found]
    for group in needed_columns(source, _raw_schema(raw, source)):
        if set(group) <= set(absent):
            mend = "correct the source's columns or the files"
            where = f"the files of source {source.name}"
            raise ConfigError("a column that the source names is absent", where=where, value=group[0], mend=mend)
    return absent


def _named_in_source(raw: DataFrame, source: SourceConfig) -> list[str]:
    expressions = [with_array(source, expression) for expression in (*source.columns.values(), *source.key)]
    columns = _raw_schema(raw, source).names
    return sorted({name for expression in expressions for name in named_in(expression, columns)})


def _raw_schema(raw: DataFrame, source: SourceConfig) -> StructType:
    names = [name for name in raw.columns if is_marker(name)]
    return declared_schema(source) or raw.drop(ELEMENT, POSITION, *names).schema


def with_array(source: SourceConfig, expression: str) -> str:
    """An expression over the element is one over the columns of the array, too."""
    return f"{expression} {source.explode}" if source.explode and named_in(expression, [ELEMENT]) else expression

"""Raw rows → the canonical columns of events, by the source's Spark SQL."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType

from behavior_lib.config.source import CANONICAL, SourceConfig
from behavior_lib.errors import ConfigError
from behavior_lib.spark.elements import POSITION
from behavior_lib.spark.presence import is_marker, named_columns, named_in
from behavior_lib.spark.session import local_time
from behavior_lib.spark.values import finite
from behavior_lib.tables import EVENTS

RAW = "_raw"
_SEPARATOR, _ABSENT = "\x1f", "\x00"
_NAME = re.compile(r"^\w+$")


def canonical(raw: DataFrame, source: SourceConfig) -> DataFrame:
    """One row a raw row: the canonical columns, content_hash, `_raw`, the raw columns, and what tells about the raw
    row: `_unreadable` and the like.

    Of a source with `explode`, a raw row is one element: `_raw` has it in the array's place, and `_no_element` tells
    the rows that had none.
    A value that its type cannot hold becomes null, for the rules to judge. Times without an offset are read in the
    source's timezone. event_id is the source's, else the first 32 hex digits of SHA-256 over source name and key.
    Raises ConfigError where a key column is not in the files.
    """
    expressions = [_typed(source, name).alias(name) for name in CANONICAL if name != EVENTS.event_id]
    markers = [name for name in raw.columns if is_marker(name)]
    with local_time(raw.sparkSession, source.timezone):
        # Reading the schema analyses the frame now, while the source's timezone is in force.
        frame = raw.select(
            _event_id(raw, source).alias(EVENTS.event_id), *expressions, *markers, _readable(raw, source)
        )
        frame.schema  # noqa: B018
    return frame.withColumn(EVENTS.content_hash, _content_hash())


def key_carries_time(source: SourceConfig, raw_columns: Sequence[str]) -> bool:
    """Whether equal event ids imply equal event times: every raw column that event_time is made of is in the key."""
    return _key_holds(EVENTS.event_time, source, raw_columns)


def key_carries_user(source: SourceConfig, raw_columns: Sequence[str]) -> bool:
    """Whether equal event ids imply equal users."""
    return _key_holds(EVENTS.user_id, source, raw_columns)


def _key_holds(column: str, source: SourceConfig, raw_columns: Sequence[str]) -> bool:
    if EVENTS.event_id in source.columns:
        return False
    names = named_columns(source, raw_columns)[column]
    return bool(names) and set(names) <= set(source.key)


def _typed(source: SourceConfig, name: str) -> Column:
    wanted = EVENTS.column(name).type.ddl
    expression = source.columns.get(name)
    if expression is None:
        return F.lit(None).cast(wanted)
    if wanted == "string":
        return F.expr(f"cast(({expression}) as string)")
    typed = F.expr(f"try_cast(({expression}) as {wanted})")
    return finite(typed) if wanted == "double" else typed


def _content_hash() -> Column:
    """A hash of all canonical columns but the event's and the user's id: a plain hash of a plain id must not be stored.

    Nulls add nothing to a hash, so that each is told apart by a bit.
    """
    names = [name for name in CANONICAL if name not in (EVENTS.event_id, EVENTS.user_id, EVENTS.attributes)]
    # A map has no order: its sorted entries have one.
    entries = F.sort_array(F.map_entries(EVENTS.attributes))
    return F.xxhash64(*names, entries, *(F.col(name).isNull() for name in names))


def _readable(raw: DataFrame, source: SourceConfig) -> Column:
    """The raw row. An element stands in the place of its array, which would be repeated with each of its elements."""
    names = [name for name in raw.columns if not is_marker(name)]
    exploded = named_in(source.explode, names) if source.explode is not None else []
    columns = []
    for name in names:
        column = F.col(f"`{name}`")
        if name in exploded and isinstance(raw.schema[name].dataType, ArrayType):
            column = F.when(F.col(POSITION).isNull(), column).alias(name)
        columns.append(column)
    return F.struct(*columns).alias(RAW)


def _event_id(raw: DataFrame, source: SourceConfig) -> Column:
    if EVENTS.event_id in source.columns:
        return _typed(source, EVENTS.event_id)
    parts = [F.coalesce(_key_part(raw, source, part).cast("string"), F.lit(_ABSENT)) for part in source.key]
    return F.substring(F.sha2(F.concat_ws(_SEPARATOR, F.lit(source.name), *parts), 256), 1, 32)


def _key_part(raw: DataFrame, source: SourceConfig, part: str) -> Column:
    """A raw column where the key's part is the name of one, else Spark SQL over them."""
    if part in raw.columns:
        return F.col(f"`{part}`")
    if _NAME.match(part):
        mend = f"the files have {', '.join(name for name in raw.columns if not is_marker(name))}"
        raise ConfigError("a key column is not in the files", where=f"source {source.name}", value=part, mend=mend)
    return F.expr(f"({part})")

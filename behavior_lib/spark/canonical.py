"""Raw rows → the canonical columns of events, by the source's Spark SQL."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from behavior_lib.config.source import CANONICAL, SourceConfig
from behavior_lib.errors import ConfigError
from behavior_lib.spark.raw import UNREADABLE
from behavior_lib.spark.session import local_time
from behavior_lib.tables import EVENTS

RAW = "_raw"
_SEPARATOR, _ABSENT = "\x1f", "\x00"


def canonical(raw: DataFrame, source: SourceConfig) -> DataFrame:
    """One row a raw row: the canonical columns, content_hash, `_unreadable`, and `_raw`, the raw columns.

    A value that its type cannot hold becomes null, for the rules to judge. Times without an offset are read in the
    source's timezone. event_id is the source's, else the first 32 hex digits of SHA-256 over source name and key.
    Raises ConfigError where a key column is not in the files.
    """
    expressions = [_typed(source, name).alias(name) for name in CANONICAL if name != EVENTS.event_id]
    readable = F.struct(*(F.col(f"`{name}`") for name in raw.columns if name != UNREADABLE)).alias(RAW)
    with local_time(raw.sparkSession, source.timezone):
        # Reading the schema analyses the frame now, while the source's timezone is in force.
        frame = raw.select(_event_id(raw, source).alias(EVENTS.event_id), *expressions, UNREADABLE, readable)
        frame.schema  # noqa: B018
    return frame.withColumn(EVENTS.content_hash, _content_hash())


def named_columns(source: SourceConfig, raw_columns: Sequence[str]) -> dict[str, list[str]]:
    """Canonical column → the raw columns that its expression names."""
    return {
        name: [column for column in raw_columns if re.search(rf"(?<!\w){re.escape(column)}(?!\w)", expression)]
        for name, expression in source.columns.items()
    }


def key_carries_time(source: SourceConfig, raw_columns: Sequence[str]) -> bool:
    """Whether equal event ids imply equal event times: every raw column that event_time is made of is in the key."""
    if EVENTS.event_id in source.columns:
        return False
    return set(named_columns(source, raw_columns)[EVENTS.event_time]) <= set(source.key)


def _typed(source: SourceConfig, name: str) -> Column:
    wanted = EVENTS.column(name).type.ddl
    expression = source.columns.get(name)
    if expression is None:
        return F.lit(None).cast(wanted)
    if wanted == "string":
        return F.expr(f"cast(({expression}) as string)")
    return F.expr(f"try_cast(({expression}) as {wanted})")


def _content_hash() -> Column:
    """A hash of all canonical columns but the id. Nulls add nothing to a hash, so that each is told apart by a bit."""
    names = [name for name in CANONICAL if name not in (EVENTS.event_id, EVENTS.attributes)]
    # A map has no order: its sorted entries have one.
    entries = F.sort_array(F.map_entries(EVENTS.attributes))
    return F.xxhash64(*names, entries, *(F.col(name).isNull() for name in names))


def _event_id(raw: DataFrame, source: SourceConfig) -> Column:
    if EVENTS.event_id in source.columns:
        return _typed(source, EVENTS.event_id)
    for name in source.key:
        if name not in raw.columns:
            mend = f"the files have {', '.join(column for column in raw.columns if column != UNREADABLE)}"
            raise ConfigError("a key column is not in the files", where=f"source {source.name}", value=name, mend=mend)
    parts = [F.coalesce(F.col(f"`{name}`").cast("string"), F.lit(_ABSENT)) for name in source.key]
    return F.substring(F.sha2(F.concat_ws(_SEPARATOR, F.lit(source.name), *parts), 256), 1, 32)

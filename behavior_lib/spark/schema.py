"""TableSpec → Spark schema, and a few rows of Python → a frame of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, StructField, StructType, _parse_datatype_string

from behavior_lib.tables import TableSpec


def struct_type(spec: TableSpec) -> StructType:
    """The Spark schema of a table, with its meanings as comments."""
    return StructType(
        [
            StructField(
                column.name, _parse_datatype_string(column.type.ddl), column.nullable, {"comment": column.meaning}
            )
            for column in spec.columns
        ]
    )


def rows_frame(spark: SparkSession, spec: TableSpec, rows: Sequence[Mapping[str, Any]]) -> DataFrame:
    """A frame of a table's rows, each a mapping of column name to value; times carry their zone.

    The rows travel as one JSON text: createDataFrame would start a Python worker to hand over a single row.
    """
    text = json.dumps([dict(row) for row in rows], default=_as_text, ensure_ascii=False)
    parsed = F.from_json(F.lit(text), ArrayType(struct_type(spec)))
    return spark.range(1, numPartitions=1).select(F.inline(parsed))


def _as_text(value: Any) -> str:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.isoformat()
    raise TypeError(f"a value that a table row cannot hold: {value!r}")

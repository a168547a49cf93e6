"""TableSpec → Arrow schema."""

from __future__ import annotations

import pyarrow as pa

from behavior_lib.tables.spec import ColumnType, TableSpec

_PLAIN = {
    "string": pa.string(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "date": pa.date32(),
}


def arrow_schema(spec: TableSpec) -> pa.Schema:
    """The Arrow schema of a table's files."""
    return pa.schema([pa.field(column.name, _arrow_type(column.type), column.nullable) for column in spec.columns])


def _arrow_type(type_: ColumnType) -> pa.DataType:
    if type_.element is not None:
        return pa.list_(_arrow_type(type_.element))
    if type_.key_and_value is not None:
        key, value = type_.key_and_value
        return pa.map_(_arrow_type(key), _arrow_type(value))
    return _PLAIN[type_.ddl]

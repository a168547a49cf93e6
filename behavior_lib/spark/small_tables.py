"""The rows of a small local table without a Spark job: Spark takes half a second to find what lies in a dozen files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import deltalake
import pyarrow as pa
import pyarrow.parquet as pq

from behavior_lib.tables import TableSpec

_SIDE_FILES = "deletionVectors"


def local_rows(folder: str, spec: TableSpec, version: int) -> list[dict[str, Any]] | None:
    """Rows of a version of an unpartitioned table; times carry UTC, maps are dicts.

    None where a row may be deleted by a side file: only Spark reads those.
    """
    table = deltalake.DeltaTable(folder, version=version)
    if _SIDE_FILES in (table.protocol().reader_features or ()):
        return None
    kinds = {column.name: column.type.ddl for column in spec.columns}
    rows: list[dict[str, Any]] = []
    for path in pa.table(table.get_add_actions(flatten=True)).column("path").to_pylist():
        # Not a data set: that would take the folder's name apart, and a file older than a column lacks it.
        file = pq.ParquetFile(Path(folder, path))
        found = file.read(columns=[name for name in kinds if name in file.schema_arrow.names]).to_pylist()
        rows += [{name: _value(row.get(name), kind) for name, kind in kinds.items()} for row in found]
    return rows


def _value(value: Any, kind: str) -> Any:
    """pyarrow tells a map as pairs."""
    return dict(value) if kind.startswith("map") and value is not None else value

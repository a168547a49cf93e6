"""The rows of a small local table without a Spark job: Spark takes half a second to find what lies in a dozen files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import deltalake
import pyarrow as pa
import pyarrow.parquet as pq

from behavior_lib.tables import TableSpec

_SIDE_FILES = "deletionVectors"


def local_rows(folder: str, spec: TableSpec, columns: Sequence[str]) -> list[dict[str, Any]] | None:
    """Rows of the newest version of an unpartitioned table, with the given columns; times carry UTC, maps are dicts.

    None where a row may be deleted by a side file: only Spark reads those.
    """
    table = deltalake.DeltaTable(folder)
    if _SIDE_FILES in (table.protocol().reader_features or ()):
        return None
    kinds = {column.name: column.type.ddl for column in spec.columns}
    rows: list[dict[str, Any]] = []
    for path in pa.table(table.get_add_actions(flatten=True)).column("path").to_pylist():
        # Not a data set: that would take the folder's name apart, and a file older than a column lacks it.
        file = pq.ParquetFile(Path(folder, path))
        found = file.read(columns=[name for name in columns if name in file.schema_arrow.names]).to_pylist()
        rows += [{name: _value(row.get(name), kinds[name]) for name in columns} for row in found]
    return rows


def _value(value: Any, kind: str) -> Any:
    return dict(value) if kind.startswith("map") and not isinstance(value, Mapping | None) else value

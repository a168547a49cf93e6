"""What tests look for on disks: everything that a job left, read without the library."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def files_below(*roots: Path) -> list[Path]:
    """Every file, hidden ones too."""
    return sorted(path for root in roots for path in root.rglob("*") if path.is_file())


def texts_of(path: Path) -> Iterator[str]:
    """The bytes of a file as text, and every decoded value of a Parquet file with the name of its column."""
    yield path.read_bytes().decode("latin-1")
    if path.suffix == ".parquet":
        for row in pq.read_table(path).to_pylist():
            for name, value in row.items():
                yield f'"{name}":"{value}"' if isinstance(value, str) else repr(value)


def files_with(pattern: str, roots: Iterable[Path]) -> list[str]:
    """The names of the files in which a regular expression is found."""
    wanted = re.compile(pattern)
    return [path.name for path in files_below(*roots) if any(wanted.search(text) for text in texts_of(path))]


def columns_with(names: set[str], roots: Iterable[Path]) -> list[str]:
    """The Parquet files whose column user_id, in a log's statistics too, holds one of the names."""
    guilty = []
    for path in files_below(*roots):
        if path.suffix == ".parquet":
            table = _flat(pq.read_table(path))
            columns = [name for name in table.column_names if name.split(".")[-1] == "user_id"]
            held = {value for name in columns for value in table.column(name).to_pylist()}
            guilty += [path.name] if held & names else []
    return guilty


def _flat(table: pa.Table) -> pa.Table:
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    return table

"""The proof of an erasure: every file that is left is read, and no id is in it."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from behavior_lib.errors import DataRefused
from behavior_lib.privacy.needles import USER_COLUMN, Needles

Open = Callable[[str], AbstractContextManager[Path]]


@dataclass(frozen=True)
class Proof:
    """What was read, and which files hold an id. bytes: of the files as they lie."""

    files: int
    bytes: int
    hits: int
    guilty: tuple[str, ...]


def scan(paths: Sequence[str], needles: Needles, fetch: Open, tell: Callable[[int], None]) -> Proof:
    """Search files for ids: the bytes of each, and the decoded texts of a Parquet file.

    fetch: gives a local copy of a path. tell: called after each file with how many are done.
    Raises DataRefused where a Parquet file cannot be read: nobody can say what is in it.
    """

    def examine(path: str) -> tuple[int, int]:
        with fetch(path) as local:
            return local.stat().st_size, hits_in(local, needles)

    size, hits, guilty = 0, 0, []
    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        for done, (path, (n_bytes, n_hits)) in enumerate(zip(paths, pool.map(examine, paths), strict=True), start=1):
            size, hits = size + n_bytes, hits + n_hits
            guilty += [path] if n_hits else []
            tell(done)
    return Proof(len(paths), size, hits, tuple(guilty))


def hits_in(path: Path, needles: Needles) -> int:
    """How often a file holds one of the ids."""
    return _in_bytes(path, needles) + (_in_parquet(path, needles) if path.suffix == ".parquet" else 0)


def _in_bytes(path: Path, needles: Needles) -> int:
    if path.stat().st_size == 0:
        return 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return needles.in_bytes(data)


def _in_parquet(path: Path, needles: Needles) -> int:
    try:
        parquet = pq.ParquetFile(path)
        names = [field.name for field in parquet.schema_arrow if _has_text(field.type)]
        groups = range(parquet.num_row_groups) if names else ()
        return sum(_in_table(parquet.read_row_group(group, columns=names), needles) for group in groups)
    except (OSError, pa.ArrowInvalid) as error:
        mend = "remove the file, or restore it, and rerun"
        raise DataRefused("a file cannot be read", where=str(path), value=type(error).__name__, mend=mend) from None


def _in_table(table: pa.Table, needles: Needles) -> int:
    count = 0
    for column, chunks in zip(table.schema.names, table.columns, strict=True):
        for chunk in chunks.chunks:
            for name, texts in _texts(column, chunk):
                count += needles.in_user_column(texts) if name == USER_COLUMN else needles.in_texts(texts)
    return count


def _has_text(kind: pa.DataType) -> bool:
    if pa.types.is_nested(kind):
        return any(_has_text(kind.field(place).type) for place in range(kind.num_fields))
    return _is_text(kind)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _texts(name: str, values: pa.Array) -> Iterator[tuple[str, pa.Array]]:
    """Every array of texts inside, with the name of the innermost field."""
    kind = values.type
    if _is_text(kind):
        yield name, values
    elif pa.types.is_struct(kind):
        for place, child in enumerate(values.flatten()):
            yield from _texts(kind.field(place).name, child)
    elif pa.types.is_map(kind):
        yield from _texts("key", values.keys)
        yield from _texts("value", values.items)
    elif pa.types.is_list(kind):
        yield from _texts(name, values.flatten())

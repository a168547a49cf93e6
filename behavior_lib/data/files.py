"""Parquet files by path or URI: local ones, and whatever fsspec opens (s3://, abfs://, gs://)."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable


def local_path(uri: str) -> str:
    """A path without its `file:` scheme; every other URI as it is. What is percent-encoded stays so."""
    return urlparse(uri).path if uri.startswith("file:") else uri


def files_of(table: DeltaTable, root: str) -> list[tuple[str, dict[str, Any]]]:
    """The data files of a version of the table at a `local_path` or URI, with what its log says of each."""
    actions = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    # A URI percent-encodes a local folder's name; the log has the path below it as it is on disk.
    local = [str(Path(root).absolute() / action["path"]) for action in actions]
    return list(zip(table.file_uris() if "://" in root else local, actions, strict=True))


def open_parquet(path: str) -> pq.ParquetFile:
    """Raises OSError where there is no such file, pyarrow.ArrowInvalid where it is no Parquet."""
    if "://" not in path:
        return pq.ParquetFile(path)
    filesystem, name = fsspec.core.url_to_fs(path)
    # pyarrow asks for the ranges that it needs, joined: reading ahead would fetch them twice.
    return pq.ParquetFile(filesystem.open(name, "rb", cache_type="none"), pre_buffer=True)


def exists(path: str) -> bool:
    """Whether there is such a file or folder now."""
    filesystem, name = fsspec.core.url_to_fs(path)
    filesystem.invalidate_cache()
    return bool(filesystem.exists(name))

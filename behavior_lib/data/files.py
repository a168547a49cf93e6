"""Parquet files by path or URI: local ones, and whatever fsspec opens (s3://, abfs://, gs://)."""

from __future__ import annotations

import fsspec
import pyarrow.parquet as pq


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

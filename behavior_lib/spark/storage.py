"""Files of a folder on any file system that Hadoop knows: list, delete, and fetch for reading."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from pyspark.sql import SparkSession


class Files:
    """Local paths stay with the operating system, so that hidden checksum files are seen too; all else is Hadoop's."""

    def __init__(self, spark: SparkSession) -> None:
        jvm, context = spark._jvm, spark._jsc
        assert jvm is not None
        self._path, self._conf = jvm.org.apache.hadoop.fs.Path, context.hadoopConfiguration()

    def list(self, root: str) -> list[str]:
        """Every file below a folder, sorted; none where there is no such folder."""
        local = local_path(root)
        if local is not None:
            return sorted(str(Path(folder) / name) for folder, _, names in os.walk(local) for name in names)
        system, path = self._open(root)
        if not system.exists(path):
            return []
        found, entries = [], system.listFiles(path, True)
        while entries.hasNext():
            found.append(entries.next().getPath().toString())
        return sorted(found)

    def delete(self, paths: Iterable[str]) -> int:
        """Delete files; one that is gone already is no error. Returns how many were there."""
        count = 0
        for each in paths:
            # Hadoop takes its own checksum file along, which os.remove would leave behind.
            system, path = self._open(each)
            count += bool(system.delete(path, False))
        return count

    @contextmanager
    def fetch(self, path: str) -> Iterator[Path]:
        """The file on this machine: itself where it is local, else a copy that is gone afterwards."""
        local = local_path(path)
        if local is not None:
            yield local
            return
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / Path(urlparse(path).path).name
            system, source = self._open(path)
            system.copyToLocalFile(False, source, self._path(str(target)), True)
            yield target

    def _open(self, path: str) -> tuple[Any, Any]:
        parsed = self._path(path)
        return parsed.getFileSystem(self._conf), parsed


def local_path(uri: str) -> Path | None:
    """The path that a path or a file: URI names on this machine; None for every other file system."""
    if uri.startswith("file:"):
        return Path(unquote(urlparse(uri).path))
    return None if "://" in uri else Path(uri)

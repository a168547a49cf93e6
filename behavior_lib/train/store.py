"""Folders of files at a path or URI, each whole or not there, whatever dies while one is written."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import fsspec

from behavior_lib.errors import DataRefused

MANIFEST = "manifest.json"


class FolderStore:
    """Named folders below one location, local or remote (any that fsspec opens: s3://, abfs://, gs://).

    A folder counts once its manifest is there, which is written last and has the size and SHA-256 of every file.
    """

    def __init__(self, location: str) -> None:
        self._files, self._root = fsspec.core.url_to_fs(location)

    def put(self, name: str, folder: Path) -> None:
        """Store the files of a local folder under a name, in place of what lies there."""
        self.remove(name)
        target = f"{self._root}/{name}"
        self._files.makedirs(target, exist_ok=True)
        told: dict[str, Any] = {}
        for path in sorted(folder.iterdir()):
            self._files.put_file(str(path), f"{target}/{path.name}")
            told[path.name] = {"bytes": path.stat().st_size, "sha256": _digest(path)}
        self._files.pipe_file(f"{target}/{MANIFEST}", json.dumps(told, indent=2).encode())

    def names(self) -> list[str]:
        """Of the folders that have a manifest, sorted."""
        self._files.invalidate_cache()
        if not self._files.exists(self._root):
            return []
        found = [entry.rstrip("/").rsplit("/", 1)[-1] for entry in self._files.ls(self._root, detail=False)]
        return sorted(name for name in found if self._files.exists(f"{self._root}/{name}/{MANIFEST}"))

    def get(self, name: str, folder: Path) -> None:
        """Bring a folder's files into a local one.

        Raises DataRefused where it is not there, or a file is not what the manifest says; OSError where the store
        cannot be reached.
        """
        source = f"{self._root}/{name}"
        folder.mkdir(parents=True, exist_ok=True)
        try:
            manifest: dict[str, Any] = json.loads(self._files.cat_file(f"{source}/{MANIFEST}"))
            for file, told in manifest.items():
                self._files.get_file(f"{source}/{file}", str(folder / file))
                if _digest(folder / file) != told["sha256"]:
                    raise DataRefused("a file is torn", where=f"{source}/{file}", mend="an older one is taken")
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError) as problem:
            mend = "an older one is taken"
            raise DataRefused("a checkpoint is not whole", where=source, value=str(problem), mend=mend) from None

    def remove(self, name: str) -> None:
        """Delete a folder, its manifest first. Nothing where it is not there."""
        target = f"{self._root}/{name}"
        for path in (f"{target}/{MANIFEST}", target):
            if self._files.exists(path):
                self._files.rm(path, recursive=True)

    def clear(self) -> None:
        """Delete everything below the location, folder by folder from the last name: what a folder needs has a name
        before its own, and is there as long as it is.
        """
        for name in reversed(self.names()):
            self.remove(name)
        if self._files.exists(self._root):
            self._files.rm(self._root, recursive=True)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""A sample's folder appears whole or not at all, is left alone while it is whole, and is mended where it is not."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from behavior_lib.errors import EnvironmentProblem

Progress = Callable[[int, int], None]
MANIFEST = "manifest.json"


def no_progress(done: int, total: int) -> None:
    """Show nothing."""


def ensure_folder(target: Path, build: Callable[[Path], dict[str, int]]) -> dict[str, int]:
    """Make `target` hold what `build` writes, and return the counts that `build` gave.

    build: fills an empty folder and returns row counts; it must write the same bytes each time.
    A folder whose files all match its manifest is not touched. Otherwise everything is built beside it and moved over:
    as one rename where there was nothing, file by file where something was damaged, so that files which somebody laid
    beside the sample's stay. Two writers of one folder wait for each other.
    Raises EnvironmentProblem where the folder cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _one_writer(target.parent):
            counts = _counts_if_whole(target)
            return _rebuild(target, build) if counts is None else counts
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot write sample data ({error.strerror or error})",
            where=str(target),
            mend="give --out a folder that you may write to, with 200 MB of free space",
        ) from error


def _rebuild(target: Path, build: Callable[[Path], dict[str, int]]) -> dict[str, int]:
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # what a killed writer left
    partial.mkdir()
    try:
        counts = build(partial)
        manifest = {"counts": counts, "files": _hashes(partial)}
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        _move_over(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return counts


def _move_over(partial: Path, target: Path) -> None:
    if not target.exists():
        partial.rename(target)
        return
    for path in _files(partial):
        destination = target / path.relative_to(partial)
        if not destination.is_file() or _hash(destination) != _hash(path):
            destination.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, destination)


def _counts_if_whole(target: Path) -> dict[str, int] | None:
    try:
        manifest = json.loads((target / MANIFEST).read_text(encoding="utf-8"))
        files, counts = dict(manifest["files"]), dict(manifest["counts"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    whole = all((target / name).is_file() and _hash(target / name) == digest for name, digest in files.items())
    return counts if whole else None


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _hashes(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): _hash(path) for path in _files(folder)}


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def _one_writer(folder: Path) -> Iterator[None]:
    """Hold a lock on the folder itself: it needs no lock file and ends with the process."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

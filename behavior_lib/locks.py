"""Locks on a local folder. The system frees one with the process that held it, however that process ended."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from behavior_lib.errors import Occupied

_POLL_SECONDS = 0.1


@contextmanager
def hold(path: Path, holder: str, wait_seconds: float | None) -> Iterator[None]:
    """Hold the lock file `path` inside the block; at most one process does at a time.

    holder: what the others are told about who holds it. wait_seconds: how long to wait for another holder; None waits
    for as long as it takes. Raises Occupied, naming the other holder, where the wait was in vain.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        _take(file.fileno(), path, holder, wait_seconds)
        # Read by those who wait; the file itself stays, for removing it would let two processes lock two files.
        file.truncate(0)
        file.write(json.dumps({"holder": holder, "pid": os.getpid(), "since": _now()}))
        file.flush()
        yield


def lock_path(warehouse: str, name: str) -> Path:
    """Where the locks of a local warehouse lie."""
    return Path(warehouse.removeprefix("file:")) / ".locks" / f"{name}.lock"


def _take(descriptor: int, path: Path, holder: str, wait_seconds: float | None) -> None:
    deadline = None if wait_seconds is None else time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if deadline is not None and time.monotonic() >= deadline:
                mend = "run again when it is done, or wait for it: --set run.wait_minutes=10"
                raise Occupied(f"{holder} cannot start beside another", value=_told(path), mend=mend) from None
        time.sleep(_POLL_SECONDS)


def _told(path: Path) -> str:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return f"{found['holder']}, process {found['pid']}, since {found['since']}"
    except (OSError, ValueError, KeyError):
        return "a process that has not said its name"


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")

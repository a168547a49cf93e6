"""What a worker tells the driver while it runs: one JSON object a line in a file of the run's folder."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from behavior_lib.train.loop import Observer
from behavior_lib.train.settings import EpochResult

MESSAGES = "messages.jsonl"
EVERY_SECONDS = 0.5


@dataclass(frozen=True)
class StepMessage:
    """done, total: steps. loss: of the newest step. tokens_per_second: of rank 0 times the ranks."""

    done: int
    total: int
    loss: float
    tokens_per_second: float


@dataclass(frozen=True)
class Note:
    """Something that a person should know."""

    sentence: str


Message = StepMessage | EpochResult | Note
_KINDS: dict[str, Callable[..., Message]] = {"step": StepMessage, "epoch": EpochResult, "note": Note}


class MessageWriter:
    """Rank 0's observer: a line an epoch, and one now and then for its steps."""

    def __init__(self, path: Path, size: int) -> None:
        self._path, self._size = path, size
        self._since, self._tokens = time.monotonic(), 0

    def step(self, done: int, total: int, loss: float, tokens: int) -> None:
        """At most one line in EVERY_SECONDS, and one for the last step."""
        self._tokens += tokens
        elapsed = time.monotonic() - self._since
        if elapsed >= EVERY_SECONDS or done == total:
            self._write("step", asdict(StepMessage(done, total, loss, self._size * self._tokens / max(elapsed, 1e-9))))
            self._since, self._tokens = time.monotonic(), 0

    def epoch(self, result: EpochResult) -> None:
        """One line."""
        self._write("epoch", asdict(result))
        self._since, self._tokens = time.monotonic(), 0

    def note(self, sentence: str) -> None:
        """One line."""
        self._write("note", asdict(Note(sentence)))

    def _write(self, kind: str, values: dict[str, Any]) -> None:
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, **values}) + "\n")


class Silent:
    """The observer of every other rank."""

    def step(self, done: int, total: int, loss: float, tokens: int) -> None:
        """Nothing."""

    def epoch(self, result: EpochResult) -> None:
        """Nothing."""

    def note(self, sentence: str) -> None:
        """Nothing."""


class MessageReader:
    """The driver's end: `new` yields what came since the last call."""

    def __init__(self, path: Path) -> None:
        self._path, self._read = path, 0

    def new(self) -> Iterator[Message]:
        """Whole lines alone; a line that is being written comes with the next call."""
        if not self._path.exists():
            return
        with open(self._path, "rb") as file:
            file.seek(self._read)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            values = json.loads(line)
            kind = values.pop("kind")
            yield _KINDS[kind](**values)


def observer(folder: Path, rank: int, size: int) -> Observer:
    """What the loop of one rank is to be given."""
    return MessageWriter(folder / MESSAGES, size) if rank == 0 else Silent()

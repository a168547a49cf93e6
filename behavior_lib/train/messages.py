"""What a worker tells the driver while it runs: one JSON object a line in a file of the run's folder."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import torch

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
class MemoryMessage:
    """What one rank holds. resident_mb: its process now. device_mb: its GPU at the highest, 0 without one."""

    rank: int
    resident_mb: float
    device_mb: float


@dataclass(frozen=True)
class Note:
    """Something that a person should know."""

    sentence: str


Message = StepMessage | MemoryMessage | EpochResult | Note
_KINDS: dict[str, Callable[..., Message]] = {
    "step": StepMessage,
    "memory": MemoryMessage,
    "epoch": EpochResult,
    "note": Note,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


class Teller:
    """An observer that makes messages: rank 0 of everything, every rank of its memory. tell: takes each."""

    def __init__(self, rank: int, size: int, tell: Callable[[Message], None]) -> None:
        self._rank, self._size, self._tell = rank, size, tell
        self._since, self._tokens = time.monotonic(), 0

    def step(self, done: int, total: int, loss: float, tokens: int) -> None:
        """At most once in EVERY_SECONDS, and for the last step."""
        self._tokens += tokens
        elapsed = time.monotonic() - self._since
        if elapsed >= EVERY_SECONDS or done == total:
            if self._rank == 0:
                self._tell(StepMessage(done, total, loss, self._size * self._tokens / max(elapsed, 1e-9)))
            self._tell(memory_of(self._rank))
            self._since, self._tokens = time.monotonic(), 0

    def epoch(self, result: EpochResult) -> None:
        """The epoch's figures are those of all ranks."""
        if self._rank == 0:
            self._tell(result)
        self._since, self._tokens = time.monotonic(), 0

    def note(self, sentence: str) -> None:
        """All ranks note the same."""
        if self._rank == 0:
            self._tell(Note(sentence))


def memory_of(rank: int) -> MemoryMessage:
    """Of this process, which is that rank."""
    device = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return MemoryMessage(rank, psutil.Process().memory_info().rss / 2**20, device / 2**20)


class Silent:
    """An observer that tells nobody."""

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
    """What the loop of one rank is to be given: its messages go into the run's folder."""

    def write(message: Message) -> None:
        line = json.dumps({"kind": _NAMES[type(message)], **asdict(message)}) + "\n"
        # One write at the file's end, so that lines of several ranks do not mix.
        with open(folder / MESSAGES, "ab", buffering=0) as file:
            file.write(line.encode())

    return Teller(rank, size, write)

"""Where each rank is: written at every collective, read by a watchdog to see whether anything moves."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor, nn

from behavior_lib.train.communicator import Communicator

_FILE = "heartbeat-{rank}.json"


@dataclass(frozen=True)
class Heartbeat:
    """calls: collectives that the rank has begun. name: the newest's. waits: it is still in it. since: seconds, UTC.

    process: the rank's process id on its machine.
    """

    calls: int
    name: str
    waits: bool
    since: float
    process: int


class WatchedCommunicator:
    """A communicator that tells a folder when it enters and leaves a collective."""

    def __init__(self, inner: Communicator, folder: Path) -> None:
        self._inner, self.rank, self.size = inner, inner.rank, inner.size
        self.local_rank = inner.local_rank
        self._calls, self._name = 0, "start"
        if inner.rank == 0:
            clear_heartbeats(folder, inner.size)  # of ranks that were lost, where a smaller group goes on
        self._file = folder / _FILE.format(rank=inner.rank)
        self._tell(self._name, waits=False)

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """The inner communicator's, as all that follow."""
        with self._waiting("broadcast"):
            self._inner.broadcast(tensors)

    def share(self, name: str, text: str) -> str:
        """See Communicator."""
        with self._waiting(name):
            return self._inner.share(name, text)

    def average_gradients(self, module: nn.Module, vote: float, half: bool = False) -> float:
        """See Communicator."""
        with self._waiting("gradients"):
            return self._inner.average_gradients(module, vote, half)

    def sum(self, name: str, values: Sequence[float]) -> list[float]:
        """See Communicator."""
        with self._waiting(name):
            return self._inner.sum(name, values)

    def minimum(self, name: str, value: int) -> int:
        """See Communicator."""
        with self._waiting(name):
            return self._inner.minimum(name, value)

    def alive(self) -> None:
        """The same place, at a later time."""
        self._tell(self._name, waits=False)

    def close(self) -> None:
        """See Communicator."""
        self._inner.close()

    @contextmanager
    def _waiting(self, name: str) -> Iterator[None]:
        self._calls, self._name = self._calls + 1, name
        self._tell(name, waits=True)
        yield
        self._tell(name, waits=False)

    def _tell(self, name: str, waits: bool) -> None:
        record = asdict(Heartbeat(self._calls, name, waits, time.time(), os.getpid()))
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps(record), encoding="utf-8")
        os.replace(part, self._file)  # a rank that stands still in the middle of this is seen where it was before


def read_heartbeats(folder: Path) -> list[Heartbeat] | None:
    """Of all ranks, in their order; None where none has told anything yet, or a rank below another has not."""
    ranks = _ranks_in(folder)
    try:
        texts = [ranks[rank].read_text(encoding="utf-8") for rank in range(len(ranks))]
        return [Heartbeat(**json.loads(text)) for text in texts] or None
    except (KeyError, OSError, ValueError):
        return None


def clear_heartbeats(folder: Path, size: int = 0) -> None:
    """Forget the ranks from `size` on: those of an earlier start, or of a larger group."""
    for rank, path in _ranks_in(folder).items():
        if rank >= size:
            path.unlink(missing_ok=True)


def _ranks_in(folder: Path) -> dict[int, Path]:
    return {int(path.stem.rsplit("-", 1)[1]): path for path in folder.glob(_FILE.format(rank="*"))}


def who_hangs(heartbeats: Sequence[Heartbeat], is_frozen: Callable[[int], bool] = lambda process: False) -> str:
    """The ranks that keep the others waiting, where no rank has moved for long.

    A rank outside a collective, or in an earlier one than the others, is what the others wait for. Ranks that wait in
    different collectives of the same number have parted ways. is_frozen: whether a process was made to stand still.
    """
    told = [f"rank {rank} {_where(beat)}" for rank, beat in enumerate(heartbeats)]
    newest = max(beat.calls for beat in heartbeats)
    behind = [rank for rank, beat in enumerate(heartbeats) if not beat.waits or beat.calls < newest]
    names = {beat.name for beat in heartbeats}
    frozen = [rank for rank, beat in enumerate(heartbeats) if is_frozen(beat.process)]
    if frozen:
        culprit = f"{_ranks(frozen)} stopped by a signal"
    elif behind:
        culprit = f"{_ranks(behind)} missing"
    elif len(names) > 1:
        culprit = "the ranks disagree"
    else:
        culprit = f"no rank comes out of {heartbeats[0].name}"
    return f"{culprit}: {', '.join(told)}"


def _ranks(ranks: Sequence[int]) -> str:
    return f"rank {ranks[0]} is" if len(ranks) == 1 else f"ranks {' and '.join(map(str, ranks))} are"


def _where(beat: Heartbeat) -> str:
    return f"{'waits in' if beat.waits else 'works after'} {beat.name} (collective {beat.calls})"

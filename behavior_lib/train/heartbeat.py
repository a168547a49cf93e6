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
_BYTES = 200  # of a record, whatever it says: a shorter one must not leave the end of a longer


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
        self._file = os.open(folder / _FILE.format(rank=inner.rank), os.O_RDWR | os.O_CREAT)
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
        os.close(self._file)

    @contextmanager
    def _waiting(self, name: str) -> Iterator[None]:
        self._calls, self._name = self._calls + 1, name
        self._tell(name, waits=True)
        yield
        self._tell(name, waits=False)

    def _tell(self, name: str, waits: bool) -> None:
        record = json.dumps(asdict(Heartbeat(self._calls, name[:80], waits, time.time(), os.getpid())))
        os.pwrite(self._file, record.ljust(_BYTES).encode(), 0)


def read_heartbeats(folder: Path, size: int) -> list[Heartbeat] | None:
    """Of ranks 0 to size - 1; None where one has not told anything yet."""
    try:
        texts = [(folder / _FILE.format(rank=rank)).read_text(encoding="utf-8") for rank in range(size)]
        return [Heartbeat(**json.loads(text)) for text in texts]
    except (OSError, ValueError):
        return None


def clear_heartbeats(folder: Path) -> None:
    """Forget the ranks of an earlier start."""
    for path in folder.glob(_FILE.format(rank="*")):
        path.unlink()


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

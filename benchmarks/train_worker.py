"""One rank of this project in the contest: the real loop on a real table, with a look at the clock around its parts.

Run as `python -m benchmarks.train_worker FOLDER`. What a step is made of, in turn: `loader` is the wait for a batch,
`forward` the model's loss, `backward` the gradients, `communication` their exchange, `optimizer` clipping, the
optimizer's step and clearing the gradients.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

from behavior_lib.data.snapshot import Snapshot, count_train
from behavior_lib.models.base import ModelSpec
from behavior_lib.models.batch import Batch
from behavior_lib.models.build import build_model
from behavior_lib.train.communicator import connect
from behavior_lib.train.loop import fit
from behavior_lib.train.settings import EpochResult, FitSettings
from behavior_lib.train.store import FolderStore
from benchmarks.train_pace import Pace, read_case


class Looker:
    """Sees when each part of a step ends, through the doors that the loop has anyway, and passes it on."""

    def __init__(self, pace: Pace | None) -> None:
        """pace: None on a rank that nobody asks."""
        self._pace, self._last = pace, time.perf_counter()
        self._positions = self._rows = 0

    def end(self, part: str) -> None:
        """A part of a step ends now."""
        now = time.perf_counter()
        if self._pace is not None:
            self._pace.add(part, now - self._last)
        self._last = now

    def look_at(self, owner: object, name: str, before: str, after: str) -> None:
        """See every call of a method: it ends the part `before`, and its own part is `after`."""
        inner = getattr(owner, name)

        def call(*arguments: Any) -> Any:
            self.end(before)
            for argument in arguments:
                if isinstance(argument, Batch):
                    self._count(argument)
            result = inner(*arguments)
            self.end(after)
            return result

        setattr(owner, name, call)

    def _count(self, batch: Batch) -> None:
        """Every event of a row but the first is a target."""
        self._positions += int(batch.length.sum()) - len(batch)
        self._rows += len(batch)

    def should_stop(self) -> bool:
        """Asked by the loop when it has its batches."""
        self.end("loader")
        return False

    def step(self, done: int, total: int, loss: float, tokens: int) -> None:
        self.end("optimizer")
        positions, rows, self._positions, self._rows = self._positions, self._rows, 0, 0
        if self._pace is not None:
            self._pace.step(positions, rows)
        self._last = time.perf_counter()

    def epoch(self, result: EpochResult) -> None:
        if self._pace is not None:
            self._pace.rest()
        self._last = time.perf_counter()

    def note(self, sentence: str) -> None:
        """Nobody reads."""


def main(folder: Path) -> None:
    case = read_case(folder)
    settings, spec = FitSettings(**case["fit"]), ModelSpec.from_json(case["spec"])
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    snapshot = Snapshot.resolve(case["table"], case["version"])
    counts = torch.from_numpy(count_train(snapshot).items)
    communicator = connect(case["communicator"], (folder / "rendezvous").as_uri())
    model = build_model(spec, torch.nn.functional.pad(counts, (0, spec.n_items - len(counts))))
    looker = Looker(Pace(folder, case["warm_up"]) if communicator.rank == 0 else None)
    looker.look_at(model, "loss", before="optimizer", after="forward")
    looker.look_at(communicator, "average_gradients", before="backward", after="communication")
    fit(model, snapshot, settings, communicator, looker, FolderStore(str(folder / "states")), looker.should_stop)
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Everything that a run needs to go on as if it had never stopped: kept in a store, read back on rank 0."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from behavior_lib.data.order import Reading
from behavior_lib.errors import DataRefused
from behavior_lib.models.base import SequenceModel
from behavior_lib.models.build import save_model
from behavior_lib.train.communicator import Communicator
from behavior_lib.train.settings import EpochResult
from behavior_lib.train.store import FolderStore

TENSORS, PROGRESS, BATCH = "state.safetensors", "progress.json", "batch.safetensors"
_STEP, _BEST, _FAILED = "step-", "best-", "failed-"
_NOT_WHOLE = (DataRefused, FileNotFoundError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError)


@dataclass
class Progress:
    """How far a run is.

    epoch: the one at work, from 0. step: its steps that these ranks have done. size: how many ranks they are. earlier:
    what groups of other sizes read of the epoch before them. done: steps of all epochs. loss, tokens: sums over the
    epoch so far, loss weighted by tokens; on rank 0 those of all ranks up to the newest checkpoint. seconds: of
    the epoch so far. epochs: those that ended. best: number of the best of them.
    """

    epoch: int = 0
    step: int = 0
    size: int = 0
    earlier: list[Reading] = field(default_factory=list)
    done: int = 0
    loss: float = 0.0
    tokens: float = 0.0
    seconds: float = 0.0
    epochs: list[EpochResult] = field(default_factory=list)
    best: int = 0

    def shared_by(self, size: int, accumulate: int) -> None:
        """From here on so many ranks share what is left of the epoch. accumulate: batches that a rank reads a step."""
        if self.step and self.size != size:
            self.earlier.append(Reading(self.size, self.step * accumulate))
            self.step = 0
        self.size = size

    def end_epoch(self, result: EpochResult, keeps_newest: bool = False) -> bool:
        """Go on to the next epoch. Returns whether the ended one is the best so far, which with keeps_newest it is."""
        self.epochs.append(result)
        is_first = keeps_newest or len(self.epochs) == 1
        is_best = is_first or result.validation_ndcg > self.epochs[self.best].validation_ndcg
        self.best = result.number if is_best else self.best
        self.epoch, self.step, self.loss, self.tokens, self.seconds = result.number + 1, 0, 0.0, 0.0, 0.0
        self.earlier = []
        return is_best

    @classmethod
    def from_json(cls, text: str) -> Progress:
        """Of the text of `to_json`."""
        values: dict[str, Any] = json.loads(text)
        epochs = [EpochResult(**epoch) for epoch in values["epochs"]]
        return cls(**{**values, "epochs": epochs, "earlier": [Reading(**reading) for reading in values["earlier"]]})

    def to_json(self) -> str:
        """As text; no figure loses a digit."""
        return json.dumps(asdict(self), indent=2)


class Checkpoints:
    """The newest states of a run, and its best model.

    tensors: all that changes in training, by name; they are read where they lie and filled in place.
    """

    def __init__(self, store: FolderStore, tensors: Mapping[str, Tensor], keep: int) -> None:
        self._store, self._tensors, self._keep = store, tensors, keep

    def save(self, progress: Progress) -> None:
        """Store the state, then delete the oldest states, and the models that are the best in no state that stays."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            save_file({key: tensor.detach().contiguous() for key, tensor in self._tensors.items()}, folder / TENSORS)
            (folder / PROGRESS).write_text(progress.to_json(), encoding="utf-8")
            self._store.put(_state_name(progress), folder)
        names = self._store.names()
        states = [name for name in names if name.startswith(_STEP)]
        needed = {best_name(int(name.rsplit("-", 1)[1])) for name in states[-self._keep :]}
        needless = [name for name in names if name.startswith(_BEST) and name not in needed]
        for name in [*states[: -self._keep], *needless]:
            self._store.remove(name)

    def save_best(self, model: SequenceModel, epoch: int) -> None:
        """Store the model of an epoch."""
        with tempfile.TemporaryDirectory() as name:
            save_model(model, Path(name))
            self._store.put(best_name(epoch), Path(name))

    def keep_batch(self, name: str, parts: Mapping[str, Tensor]) -> None:
        """Store tensors that a person may want to look at."""
        with tempfile.TemporaryDirectory() as folder:
            save_file({key: part.contiguous() for key, part in parts.items()}, Path(folder) / BATCH)
            self._store.put(name, Path(folder))

    def restore(self, communicator: Communicator) -> tuple[Progress, list[str]]:
        """Take up the newest whole state whose best model is whole, on all ranks alike; the start where there is none.

        Newer states are deleted: they would count among the newest that stay. Returns the progress, and on rank 0 a
        sentence for each of them. Raises OSError where the store cannot be reached.
        """
        progress, passed = Progress(), list[str]()
        if communicator.rank == 0:
            progress, passed = self._read_newest()
        progress = Progress.from_json(communicator.share("progress", progress.to_json()))
        communicator.broadcast(list(self._tensors.values()))
        if communicator.rank:
            progress.loss = progress.tokens = 0.0
        return progress, passed

    def _read_newest(self) -> tuple[Progress, list[str]]:
        passed: list[str] = []
        for name in reversed([name for name in self._store.names() if name.startswith(_STEP)]):
            with tempfile.TemporaryDirectory() as temporary:
                folder = Path(temporary)
                try:
                    self._store.get(name, folder)
                    progress = Progress.from_json((folder / PROGRESS).read_text(encoding="utf-8"))
                    if progress.epochs:
                        self._store.get(best_name(progress.best), folder / "best")
                    self._fill(load_file(folder / TENSORS))
                except _NOT_WHOLE as problem:
                    passed.append(f"checkpoint {name} is passed over: {problem}")
                    self._store.remove(name)
                    continue
                return progress, passed
        return Progress(), passed

    def _fill(self, stored: Mapping[str, Tensor]) -> None:
        shapes = {name: tensor.shape for name, tensor in self._tensors.items()}
        if {name: tensor.shape for name, tensor in stored.items()} != shapes:
            raise DataRefused("a checkpoint has other tensors than the model", where=TENSORS)
        with torch.no_grad():
            for name, tensor in self._tensors.items():
                tensor.copy_(stored[name])


def _state_name(progress: Progress) -> str:
    """Sorted as the states follow one another: the one at an epoch's last step comes before that after its validation.

    It ends with the epoch whose model is the best so far.
    """
    return f"{_STEP}{progress.done:09d}-{progress.epoch:04d}-{progress.best:04d}"


def failed_name(step: int, rank: int) -> str:
    """What a rank's batches of a step that failed are stored as."""
    return f"{_FAILED}{step:09d}-{rank}"


def best_name(epoch: int) -> str:
    """What the model of an epoch is stored as."""
    return f"{_BEST}{epoch:04d}"

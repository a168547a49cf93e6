"""What a training run is told and what it gives back: plain values that travel between processes as JSON."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from behavior_lib.config.train import DeviceName, PrecisionName, Scaling, StartName, TableOptimizerName
from behavior_lib.data.snapshot import Snapshot
from behavior_lib.models.base import ModelSpec
from behavior_lib.train.code import code_version

SCALES: dict[Scaling, Callable[[int], float]] = {
    Scaling.none: lambda parts: 1.0,
    Scaling.sqrt: math.sqrt,
    Scaling.linear: float,
}

# Equal batches, equal gradients, and another number of threads rounds otherwise: no reason to lose what was learned.
WITHOUT_EFFECT = ("reader", "threads", "checkpoint_steps", "keep_checkpoints", "profile", "recompute")


@dataclass(frozen=True)
class FitSettings:
    """How to train. The meaning of each key is that of TrainConfig.

    threads: torch threads of one process. tokens_per_row: mean events of a row of train. keeps_newest: the newest epoch
    counts as the best, because train has seen what validation asks for. origin: the model that the run begins with
    (Origin.identity), which lies in its store; None: none.
    """

    epochs: int
    patience: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    warmup_share: float
    clip_norm: float
    reader: str
    seed: int
    threads: int
    tokens_per_row: float
    k: int = 10
    start: str = StartName.random.value
    accumulate: int = 1
    checkpoint_steps: int = 200
    keep_checkpoints: int = 2
    highest_loss: float = 1e4
    average: float = 0.0
    half_gradients: bool = False
    profile: bool = False
    table_optimizer: str = TableOptimizerName.dense.value
    device: str = DeviceName.auto.value
    precision: str = PrecisionName.float32.value
    compile: bool = False
    recompute: bool = False
    stop_after: int | None = None
    max_steps: int | None = None
    keeps_newest: bool = False
    origin: str | None = None

    def ends_with(self, epochs: Sequence[EpochResult]) -> bool:
        """Whether a run with these epochs, one at least, has no other: by their number, their steps, or patience."""
        # Of equals the first, as in training.
        best = epochs[-1] if self.keeps_newest else max(epochs, key=lambda epoch: epoch.validation_ndcg)
        is_used_up = self.max_steps is not None and sum(epoch.steps for epoch in epochs) >= self.max_steps
        return is_used_up or not self.goes_on(len(epochs), best.number)

    def goes_on(self, done: int, best: int) -> bool:
        """Whether another epoch follows so many, of which the one of that number was the best; steps may end it too."""
        return done < (self.stop_after or self.epochs) and done - best <= self.patience


@dataclass(frozen=True)
class RunSettings:
    """One training run: what to build, how to train it, on how many processes, and where it may write.

    folder: what the processes tell each other; it also holds the snapshot's file list and the counts of the train
    split, made once by the driver. checkpoints: path or URI of the states of runs, each in a folder of its own.
    attributes: hash of the items' values and given vectors, where they are read. The others mean what they mean in
    TrainConfig.
    """

    spec: ModelSpec
    fit: FitSettings
    communicator: str
    workers: int
    timeout_minutes: float
    folder: str
    checkpoints: str
    restarts: int = 0
    stall_minutes: float = 15.0
    min_workers: int | None = None
    learning_rate_scaling: str = Scaling.none.value
    attributes: str = ""

    def fit_of(self, size: int) -> FitSettings:
        """How a group of so many ranks trains: `fit` is that of all workers."""
        scale = SCALES[Scaling(self.learning_rate_scaling)]
        planned, present = (scale(parts * self.fit.accumulate) for parts in (self.workers, size))
        return replace(self.fit, learning_rate=self.fit.learning_rate * (present / planned))

    def checkpoints_of(self, snapshot: Snapshot) -> str:
        """Where the states of this run on these files lie: a run that differs in anything that counts has others."""
        fit = {key: value for key, value in asdict(self.fit).items() if key not in WITHOUT_EFFECT}
        ranks = [Path(self.folder).name, self.communicator, self.workers]
        files = [snapshot.to_json(), self.attributes]
        text = json.dumps([self.spec.as_json(), fit, ranks, files, code_version()], sort_keys=True)
        return f"{self.checkpoints}/{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def to_json(self) -> str:
        """As text."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> RunSettings:
        """Of the text of `to_json`."""
        values: dict[str, Any] = json.loads(text)
        return cls(**{**values, "spec": ModelSpec.from_json(values["spec"]), "fit": FitSettings(**values["fit"])})


@dataclass(frozen=True)
class EpochResult:
    """One epoch, over all ranks.

    loss: mean over the events. validation_ndcg: mean NDCG@k over the users of the validation split. seconds: of the
    epoch with its validation. tokens_per_second: events read in training, without validation. steps: of one rank.
    """

    number: int
    loss: float
    validation_ndcg: float
    seconds: float
    tokens_per_second: float
    steps: int


@dataclass(frozen=True)
class FitResult:
    """A run's end. checkpoint: the best epoch's folder, as models.build.load_model reads it; a name in the run's store.

    steps: of one rank, over all epochs. seconds: of the loop since the run began or went on. peak_memory_mb: of the
    rank that took most. is_stopped: ended before it was done, with all that it needs to go on in the store.
    """

    checkpoint: str
    best_epoch: int
    steps: int
    seconds: float
    peak_memory_mb: float
    epochs: tuple[EpochResult, ...] = field(default_factory=tuple)
    is_stopped: bool = False

    @property
    def best(self) -> EpochResult:
        """The epoch whose weights the checkpoint holds."""
        return next(epoch for epoch in self.epochs if epoch.number == self.best_epoch)

    def to_json(self) -> str:
        """As text."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> FitResult:
        """Of the text of `to_json`."""
        values: dict[str, Any] = json.loads(text)
        return cls(**{**values, "epochs": tuple(EpochResult(**epoch) for epoch in values["epochs"])})

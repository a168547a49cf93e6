"""The one training loop: the same on one process and on many, for every model that has a loss."""

from __future__ import annotations

import math
import resource
import time
from itertools import islice
from pathlib import Path
from typing import Protocol

import torch

from behavior_lib.config.schema import StartName
from behavior_lib.data.loader import Loader
from behavior_lib.data.readers import Rows
from behavior_lib.data.snapshot import Snapshot
from behavior_lib.errors import DataRefused, TrainingFailed
from behavior_lib.models.base import SequenceModel
from behavior_lib.models.batch import Batch
from behavior_lib.tables.sequences import TRAIN, VALIDATION
from behavior_lib.train.checkpoint import CHECKPOINT, write_checkpoint
from behavior_lib.train.communicator import Communicator
from behavior_lib.train.settings import EpochResult, FitResult, FitSettings
from behavior_lib.train.start import start_from_cooccurrence
from behavior_lib.train.validation import rows_at_once, validation_ndcg


class Observer(Protocol):
    """Told of what happens on its rank."""

    def step(self, done: int, total: int, loss: float, tokens: int) -> None:
        """A step ended. done, total: steps over all epochs. tokens: events of this rank in this step."""

    def epoch(self, result: EpochResult) -> None:
        """An epoch ended."""


def fit(
    model: SequenceModel,
    snapshot: Snapshot,
    settings: FitSettings,
    communicator: Communicator,
    observer: Observer,
    folder: Path,
) -> FitResult:
    """Train on the train split until `epochs` are done or validation NDCG@k has not grown for `patience` epochs.

    model: rank 0's weights count. folder: rank 0 writes the best epoch's checkpoint into it. All ranks return the same
    result; one seed and world size give the same weights on a CPU.
    Raises DataRefused without rows to train or validate on, TrainingFailed for a loss that is not a number.
    """
    for split in (TRAIN, VALIDATION):
        if not snapshot.rows(split):
            raise DataRefused(f"there is no {split} row", where=snapshot.location, mend="move the cuts: split.days")
    started = time.monotonic()
    trainer = _Trainer(model, snapshot, settings, communicator, observer)
    epochs: list[EpochResult] = []
    best = 0
    for number in range(settings.epochs):
        epochs.append(trainer.epoch(number))
        if number == 0 or epochs[number].validation_ndcg > epochs[best].validation_ndcg:
            best = number
            if communicator.rank == 0:
                write_checkpoint(model, folder)
        observer.epoch(epochs[number])
        if number - best >= settings.patience:
            break
    # Kilobytes on Linux; the largest, as the smallest of the negatives.
    memory = -communicator.minimum("memory", -resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 1024
    seconds = time.monotonic() - started
    return FitResult(str(folder / CHECKPOINT), best, trainer.done, seconds, memory, tuple(epochs))


def learning_rate(step: int, total: int, settings: FitSettings) -> float:
    """Linear warm-up over the first share of the steps, then a cosine down to 0 after the last."""
    warmup = max(1, round(settings.warmup_share * total))
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, total - warmup)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


class _Trainer:
    """Everything that lives from the first step to the last, on one rank."""

    def __init__(
        self,
        model: SequenceModel,
        snapshot: Snapshot,
        settings: FitSettings,
        communicator: Communicator,
        observer: Observer,
    ) -> None:
        rank, size = communicator.rank, communicator.size
        self._model, self._settings, self._observer = model, settings, observer
        self._communicator = communicator
        self._train = Loader(snapshot, TRAIN, settings.batch_size, settings.reader, settings.seed, rank, size)
        at_once = rows_at_once(model.spec.n_items)
        self._validation = Loader(snapshot, VALIDATION, at_once, settings.reader, settings.seed, rank, size)
        if settings.start == StartName.cooccurrence.value and rank == 0:
            start_from_cooccurrence(model, snapshot, settings)
        communicator.broadcast(model)
        # Dropout draws from torch's global generator, losses from their own; both differ by rank.
        torch.manual_seed(settings.seed * 1009 + rank)
        self._generator = torch.Generator().manual_seed(settings.seed * 1013 + rank)
        self._optimizer = torch.optim.AdamW(model.parameters(), weight_decay=settings.weight_decay)
        # Ranks with more rows than the others leave some for the next epoch's order to pick up.
        self._steps = [
            communicator.minimum(f"steps.{number}", self._train.batches_in(number)) for number in range(settings.epochs)
        ]
        self.done = 0

    def epoch(self, number: int) -> EpochResult:
        """Train one epoch and validate. The figures are those of all ranks."""
        began = time.monotonic()
        self._model.train()
        loss, tokens = 0.0, 0
        for rows in islice(self._train.epoch(number), self._steps[number]):
            value, seen = self._step(rows), int(rows.histories.length.sum())
            loss, tokens = loss + value, tokens + seen
            self._observer.step(self.done, sum(self._steps), value, seen)
        trained = time.monotonic() - began
        ndcg = validation_ndcg(self._model, self._validation, self._communicator, self._settings.k)
        all_loss, all_tokens = self._communicator.sum("epoch", [loss, float(tokens)])
        mean = all_loss / (self._steps[number] * self._communicator.size)
        return EpochResult(number, mean, ndcg, time.monotonic() - began, all_tokens / trained, self._steps[number])

    def _step(self, rows: Rows) -> float:
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self.done, sum(self._steps), self._settings)
        self._optimizer.zero_grad(set_to_none=False)
        loss = self._model.loss(Batch.from_histories(rows.histories), self._generator)
        value = float(loss)
        if not math.isfinite(value):
            mend = "lower train.learning_rate"
            raise TrainingFailed("the loss is not a number", where=f"step {self.done}", value=value, mend=mend)
        loss.backward()  # type: ignore[no-untyped-call]
        self._communicator.average_gradients(self._model)
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._settings.clip_norm)
        self._optimizer.step()
        self.done += 1
        return value

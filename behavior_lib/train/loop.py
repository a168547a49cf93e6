"""The one training loop: the same on one process and on many, for every model that has a loss."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from itertools import accumulate, count, islice
from typing import Protocol

import numpy as np

from behavior_lib.config.train import StartName
from behavior_lib.data.loader import Loader, NumberedHistories
from behavior_lib.data.prefetch import Prefetch
from behavior_lib.data.snapshot import Snapshot
from behavior_lib.errors import DataRefused, TrainingFailed
from behavior_lib.models.base import SequenceModel
from behavior_lib.tables.sequences import TRAIN, VALIDATION
from behavior_lib.train.communicator import Communicator
from behavior_lib.train.device import PlacedModel, Prepared
from behavior_lib.train.optimizer import Optimizer
from behavior_lib.train.peak import peak_memory_mb
from behavior_lib.train.settings import EpochResult, FitResult, FitSettings
from behavior_lib.train.start import start_from_cooccurrence, start_item_graph
from behavior_lib.train.state import Checkpoints, Progress, best_name, failed_name
from behavior_lib.train.store import FolderStore
from behavior_lib.train.successors import start_successors
from behavior_lib.train.trace import tracing
from behavior_lib.train.transfer import start_from_model
from behavior_lib.train.validation import rows_at_once, validation_ndcg

AHEAD = 2  # batches that are made before they are needed


class Observer(Protocol):
    """Told of what happens on its rank."""

    def step(self, done: int, total: int, loss: float, tokens: int) -> None:
        """A step ended. done, total: steps over all epochs. tokens: events of this rank in this step."""

    def epoch(self, result: EpochResult) -> None:
        """An epoch ended."""

    def note(self, sentence: str) -> None:
        """Something that a person should know."""


def fit(
    model: SequenceModel,
    snapshot: Snapshot,
    settings: FitSettings,
    communicator: Communicator,
    observer: Observer,
    store: FolderStore,
    should_stop: Callable[[], bool] = lambda: False,
) -> FitResult:
    """Train on the train split until `epochs` are done or validation NDCG@k has not grown for `patience` epochs.

    model: rank 0's weights count. store: rank 0 keeps states and the best epoch's model in it, and begins with the
    newest whole state that it finds there; the store must be of this run alone. should_stop: asked at every step; where
    one rank's says yes, all end after that step with their state stored, and the result says that it is stopped.
    All ranks return the same result. One seed and world size give the same weights on a CPU, stopped or not: what is
    drawn at a step follows from (seed, epoch, batch).
    Raises DataRefused without rows to train or validate on, TrainingFailed for a loss that is not a number or too high;
    the batch is then kept in the store.
    """
    for split in (TRAIN, VALIDATION):
        if not snapshot.rows(split):
            raise DataRefused(f"there is no {split} row", where=snapshot.location, mend="move the cuts: split.days")
    started = time.monotonic()
    trainer = _Trainer(model, snapshot, settings, communicator, observer, store)
    is_stopped = trainer.run(should_stop)
    memory = -communicator.minimum("memory", -round(peak_memory_mb()))  # the largest, as the smallest of the negatives
    seconds, progress = time.monotonic() - started, trainer.progress
    best = best_name(progress.best)
    return FitResult(best, progress.best, progress.done, seconds, memory, tuple(progress.epochs), is_stopped)


def steps_of(train: Loader, settings: FitSettings) -> list[int]:
    """Steps of the optimizer in each epoch, the same on all ranks; no epoch behind `max_steps`."""
    whole = [-(-train.steps_in(number) // settings.accumulate) for number in range(settings.epochs)]
    most = sum(whole) if settings.max_steps is None else settings.max_steps
    cut = (min(steps, most - before) for steps, before in zip(whole, accumulate(whole, initial=0), strict=False))
    return [steps for steps in cut if steps > 0]


class _Trainer:
    """Everything that lives from the first step to the last, on one rank."""

    def __init__(
        self,
        model: SequenceModel,
        snapshot: Snapshot,
        settings: FitSettings,
        communicator: Communicator,
        observer: Observer,
        store: FolderStore,
    ) -> None:
        rank, size = communicator.rank, communicator.size
        self._model, self._settings, self._observer = model, settings, observer
        self._communicator, self._store = communicator, store
        self._train = Loader(snapshot, TRAIN, settings.batch_size, settings.reader, settings.seed, rank, size)
        at_once = rows_at_once(model.spec.n_items)
        self._validation = Loader(snapshot, VALIDATION, at_once, settings.reader, settings.seed, rank, size)
        self._steps = steps_of(self._train, settings)
        # Not in the states of a run: they are read and counted anew where a run goes on.
        start_item_graph(model, snapshot, communicator)
        start_successors(model, snapshot, settings, communicator)
        self._placed = PlacedModel(model, settings, communicator.local_rank)
        self._optimizer = Optimizer(model, settings)
        self._checkpoints = Checkpoints(store, self._optimizer.tensors(), settings.keep_checkpoints)
        self.progress = self._begin(snapshot)

    def run(self, should_stop: Callable[[], bool]) -> bool:
        """Every epoch that is not done yet. Returns whether it was stopped before the last."""
        with tracing(self._store, self._settings.profile and self._communicator.rank == 0) as tick:
            return self._run(should_stop, tick)

    def _run(self, should_stop: Callable[[], bool], tick: Callable[[], None]) -> bool:
        progress, settings = self.progress, self._settings
        while progress.epoch < len(self._steps) and settings.goes_on(progress.epoch, progress.best):
            if self._epoch(should_stop, tick):
                return True
            with self._optimizer.averaged():
                result = self._judge()
                if progress.end_epoch(result, settings.keeps_newest) and self._communicator.rank == 0:
                    self._checkpoints.save_best(self._model, result.number)
            self._save()
            self._observer.epoch(result)
        return False

    def _begin(self, snapshot: Snapshot) -> Progress:
        progress, passed = self._checkpoints.restore(self._communicator)
        for sentence in passed:
            self._observer.note(sentence)
        progress.shared_by(self._communicator.size, self._settings.accumulate)
        if progress.earlier:
            left = self._train.steps_in(progress.epoch, progress.earlier)
            self._steps[progress.epoch] = -(-left // self._settings.accumulate)
        self._total = progress.done - progress.step + sum(self._steps[progress.epoch :])
        if progress.done:
            self._observer.note(f"going on after step {progress.done} of {self._total}")
            for result in progress.epochs:
                self._observer.epoch(result)
            return progress
        self._start(snapshot)
        self._optimizer.begin()
        return progress

    def _start(self, snapshot: Snapshot) -> None:
        """The weights before the first step, on all ranks those of rank 0."""
        is_counted, has_origin = self._settings.start == StartName.cooccurrence.value, self._settings.origin is not None
        if not is_counted and not has_origin:
            return
        if self._communicator.rank == 0:
            twin, alive = self._placed.twin, self._communicator.alive
            kept = start_from_model(twin, self._store) if has_origin else None
            if is_counted:
                start_from_cooccurrence(twin, snapshot, self._settings, alive, kept)
            self._placed.take_weights_of_twin()
        self._communicator.broadcast(list(self._model.parameters()))

    def _epoch(self, should_stop: Callable[[], bool], tick: Callable[[], None]) -> bool:
        """Train what is left of the epoch. Returns whether to stop."""
        progress, settings = self.progress, self._settings
        self._model.train()
        began, before = time.monotonic(), progress.seconds
        batches = self._train.epoch(progress.epoch, progress.step * settings.accumulate, progress.earlier)
        # Batches are made ahead of the steps: each one's own follows from its place.
        first = progress.done
        steps = (first + place // settings.accumulate for place in count())
        with Prefetch(map(self._prepare, batches, steps), AHEAD) as ready:
            while progress.step < self._steps[progress.epoch]:
                is_last = self._step(list(islice(ready, settings.accumulate)), should_stop())
                tick()
                progress.seconds = before + time.monotonic() - began
                if is_last or progress.done % settings.checkpoint_steps == 0:
                    self._save()
                if is_last:
                    return True
        return False

    def _prepare(self, numbered: NumberedHistories, step: int) -> Prepared:
        """What is drawn belongs to the batch: it follows neither from the rank nor from what was drawn before.

        step: those of the run before the batch's own.
        """
        seeds = np.random.SeedSequence((self._settings.seed, self.progress.epoch, numbered.number))
        for_dropout, for_loss = (int(seed) for seed in seeds.generate_state(2, np.uint64))
        return self._placed.prepare(numbered.histories, for_loss, for_dropout, step / self._total)

    def _step(self, batches: Sequence[Prepared], wants_stop: bool) -> bool:
        """One step of the optimizer. No batch: this rank has none left. Returns whether a rank wants to stop."""
        progress = self.progress
        self._optimizer.zero()
        loss, tokens = 0.0, 0
        for prepared in batches:
            seen, value = self._add_gradients(prepared)
            if not abs(value) <= self._settings.highest_loss:
                raise self._failed("the loss is not a number or too high", value, batches)
            loss, tokens = loss + seen * value, tokens + seen
        stops = self._communicator.average_gradients(self._model, float(wants_stop), self._settings.half_gradients)
        norm = self._optimizer.step(progress.done, self._total)
        if not math.isfinite(norm):
            raise self._failed("the gradient is not a number", norm, batches)
        progress.step, progress.done = progress.step + 1, progress.done + 1
        progress.loss, progress.tokens = progress.loss + loss, progress.tokens + tokens
        self._observer.step(progress.done, self._total, loss / max(tokens, 1), tokens)
        return stops > 0

    def _add_gradients(self, prepared: Prepared) -> tuple[int, float]:
        """Add the gradients of one batch, which weighs as many events as it has. Returns its events and its loss."""
        settings, tokens = self._settings, int(prepared.batch.length.sum())
        loss = self._placed.loss(prepared)
        expected = settings.tokens_per_row * settings.batch_size * settings.accumulate
        (loss * (tokens / expected)).backward()  # type: ignore[no-untyped-call]
        return tokens, float(loss.detach())

    def _judge(self) -> EpochResult:
        """Validate at the end of an epoch. The figures are those of all ranks."""
        progress, began = self.progress, time.monotonic()
        ndcg = validation_ndcg(self._model, self._validation, self._communicator, self._settings.k)
        loss, tokens = self._communicator.sum("epoch", [progress.loss, progress.tokens])
        seconds = progress.seconds + time.monotonic() - began
        steps = progress.step + sum(reading.each // self._settings.accumulate for reading in progress.earlier)
        return EpochResult(progress.epoch, loss / tokens, ndcg, seconds, tokens / progress.seconds, steps)

    def _save(self) -> None:
        progress = self.progress
        sums = self._communicator.sum("checkpoint", [progress.loss, progress.tokens])
        progress.loss, progress.tokens = sums if self._communicator.rank == 0 else (0.0, 0.0)
        if self._communicator.rank == 0:
            self._checkpoints.save(progress)

    def _failed(self, what: str, value: float, batches: Sequence[Prepared]) -> TrainingFailed:
        """The rank's batches of the step are kept beside the states, so that it can be looked at."""
        name = failed_name(self.progress.done, self._communicator.rank)
        parts = {f"{number}.{key}": part for number, each in enumerate(batches) for key, part in each.tensors().items()}
        self._checkpoints.keep_batch(name, parts)
        mend = "lower train.learning_rate; the batch is kept beside the states"
        return TrainingFailed(what, where=f"step {self.progress.done} ({name})", value=value, mend=mend)

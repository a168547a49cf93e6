"""Before a training run starts: what it would take, and whether its model can learn one batch by heart."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice

import psutil
import torch

from behavior_lib.data.loader import GROUPS_AHEAD, Loader
from behavior_lib.data.order import MIXED_BATCHES
from behavior_lib.data.snapshot import Snapshot, TrainCounts
from behavior_lib.models.base import SequenceModel
from behavior_lib.models.build import as_tensors, build_model
from behavior_lib.tables.sequences import TRAIN
from behavior_lib.train.communicator import SingleProcess
from behavior_lib.train.device import PlacedModel, Prepared
from behavior_lib.train.loop import steps_of
from behavior_lib.train.optimizer import Optimizer
from behavior_lib.train.rowwise import sparse_tables
from behavior_lib.train.settings import RunSettings
from behavior_lib.train.start import start_item_graph
from behavior_lib.train.successors import start_successors

TRIED = 6  # batches that are tried; the first warms up
_BYTES_A_COLUMN = 4
_COLUMNS = 4  # of a row that are as wide as a history


@dataclass(frozen=True)
class Estimate:
    """A run before it starts. parameters: numbers that are learned. steps: of one worker over all epochs.

    state_mb: weights, gradients (but those of sparse tables), moments, averages, counts of successors and given vectors
    of one worker, exactly. loader_mb: at most, for the rows that are mixed, while a pool is put together. step_mb: what
    the tried steps took beside those. step_seconds: median of the tried steps on one worker with its threads. seconds:
    all steps at that pace, without validation and without waiting for other workers; cpu_seconds: what they take of one
    worker's processors, which others that use the machine change little, at the mean of the tried ones.
    """

    parameters: int
    steps: int
    state_mb: float
    loader_mb: float
    step_mb: float
    step_seconds: float
    seconds: float
    cpu_seconds: float

    def as_metrics(self) -> dict[str, float]:
        """By name."""
        return asdict(self)


def estimate(
    run: RunSettings, snapshot: Snapshot, counts: TrainCounts, tried: int = TRIED, model: SequenceModel | None = None
) -> Estimate:
    """Try steps on so many batches in this process and reckon the run from them. Nothing is written.

    model: that of the run, which is taught by the tried steps; None: built here.
    """
    fit = run.fit
    loader = Loader(snapshot, TRAIN, fit.batch_size, fit.reader, fit.seed, 0, run.workers)
    steps = sum(steps_of(loader, fit))
    placed, optimizer = _begin(run, snapshot, model or built(run, counts))
    process = psutil.Process(os.getpid())
    seconds, cpu, before = [], [], process.memory_info().rss
    most = before
    with _threads(fit.threads):
        for numbered in islice(loader.epoch(0), tried):
            began, began_cpu = time.perf_counter(), time.process_time()
            _step(placed, optimizer, placed.prepare(numbered.histories, fit.seed, fit.seed), 0, steps)
            seconds.append(time.perf_counter() - began)
            cpu.append(time.process_time() - began_cpu)
            most = max(most, process.memory_info().rss)
    step_seconds = statistics.median(seconds[1:] or seconds) * fit.accumulate
    step_cpu = statistics.mean(cpu[1:] or cpu) * fit.accumulate
    group = max(max(file.groups) for file in snapshot.files[TRAIN])
    rows = 2 * (MIXED_BATCHES * fit.batch_size + group) + (GROUPS_AHEAD + 1) * group
    return Estimate(
        parameters=sum(parameter.numel() for parameter in placed.model.parameters()),
        steps=steps,
        state_mb=_state_bytes(placed, optimizer) / 2**20,
        loader_mb=rows * counts.length * _COLUMNS * _BYTES_A_COLUMN / 2**20,
        step_mb=(most - before) / 2**20,
        step_seconds=step_seconds,
        seconds=steps * step_seconds,
        cpu_seconds=steps * step_cpu,
    )


def overfit(run: RunSettings, snapshot: Snapshot, counts: TrainCounts, steps: int) -> list[float]:
    """Train on the first batch alone, in this process, with the same draws at every step. Returns each step's loss.

    A model that cannot learn one batch by heart has a fault. Nothing is written.
    """
    loader = Loader(snapshot, TRAIN, run.fit.batch_size, run.fit.reader, run.fit.seed)
    # Without dropout, so that what is learned is what is asked.
    run = replace(run, spec=replace(run.spec, dropout=0.0))
    placed, optimizer = _begin(run, snapshot, built(run, counts))
    with _threads(run.fit.threads):
        prepared = placed.prepare(next(loader.epoch(0)).histories, run.fit.seed, run.fit.seed)
        return [_step(placed, optimizer, prepared, done, steps) for done in range(steps)]


def built(run: RunSettings, counts: TrainCounts) -> SequenceModel:
    """The model of the run, as all its ranks build it."""
    torch.manual_seed(run.fit.seed)
    return build_model(run.spec, **as_tensors(counts.arrays()))


def _begin(run: RunSettings, snapshot: Snapshot, model: SequenceModel) -> tuple[PlacedModel, Optimizer]:
    start_item_graph(model, snapshot, SingleProcess())
    start_successors(model, snapshot, run.fit, SingleProcess())
    placed = PlacedModel(model, run.fit)
    return placed, Optimizer(placed.model, run.fit)


def _step(placed: PlacedModel, optimizer: Optimizer, prepared: Prepared, done: int, total: int) -> float:
    optimizer.zero()
    loss = placed.loss(prepared)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step(done, total)
    return float(loss.detach())


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _state_bytes(placed: PlacedModel, optimizer: Optimizer) -> int:
    sparse = sparse_tables(placed.model)
    gradients = [weight for name, weight in placed.model.named_parameters() if name not in sparse]
    parts = (part for part in (placed.model.successors, placed.model.given) if part is not None)
    buffers = (buffer for part in parts for buffer in part.buffers())
    tensors = [*gradients, *buffers, *optimizer.tensors().values()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

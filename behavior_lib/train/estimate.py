"""What a training run would take, before it starts: a few steps are tried on the first batches."""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import asdict, dataclass
from itertools import islice

import psutil
import torch
from torch import nn

from behavior_lib.data.loader import GROUPS_AHEAD, Loader
from behavior_lib.data.order import MIXED_BATCHES
from behavior_lib.data.snapshot import Snapshot, TrainCounts
from behavior_lib.models.batch import Batch
from behavior_lib.models.build import build_model
from behavior_lib.tables.sequences import TRAIN
from behavior_lib.train.optimizer import Optimizer
from behavior_lib.train.settings import RunSettings

TRIED = 6  # batches; the first warms up
_BYTES_A_COLUMN = 4
_COLUMNS = 4  # of a row that are as wide as a history


@dataclass(frozen=True)
class Estimate:
    """A run before it starts. parameters: numbers that are learned. steps: of one worker over all epochs.

    state_mb: weights, gradients, moments and averages of one worker, exactly. loader_mb: at most, for the rows that are
    mixed, while a pool is put together. step_mb: what the tried steps took beside those. step_seconds: median of the
    tried steps on one worker with its threads. seconds: all steps at that pace, without validation and without waiting
    for other workers.
    """

    parameters: int
    steps: int
    state_mb: float
    loader_mb: float
    step_mb: float
    step_seconds: float
    seconds: float

    def as_metrics(self) -> dict[str, float]:
        """By name."""
        return asdict(self)


def estimate(run: RunSettings, snapshot: Snapshot, counts: TrainCounts) -> Estimate:
    """Try a few steps in this process and reckon the run from them. Nothing is written."""
    fit = run.fit
    loader = Loader(snapshot, TRAIN, fit.batch_size, fit.reader, fit.seed, 0, run.workers)
    steps = sum(-(-loader.steps_in(number) // fit.accumulate) for number in range(fit.epochs))
    torch.manual_seed(fit.seed)
    model = build_model(run.spec, torch.from_numpy(counts.items))
    optimizer = Optimizer(model, fit, steps)
    process, before = psutil.Process(os.getpid()), psutil.Process(os.getpid()).memory_info().rss
    seconds, most, threads = [], before, torch.get_num_threads()
    torch.set_num_threads(fit.threads)
    try:
        for numbered in islice(loader.epoch(0), TRIED):
            began = time.perf_counter()
            batch = model.prepare(Batch.from_histories(numbered.histories))
            optimizer.zero()
            model.loss(batch, model.draw(batch, torch.Generator())).backward()  # type: ignore[no-untyped-call]
            optimizer.step(0)
            seconds.append(time.perf_counter() - began)
            most = max(most, process.memory_info().rss)
    finally:
        torch.set_num_threads(threads)
    step_seconds = statistics.median(seconds[1:] or seconds) * fit.accumulate
    group = max(max(file.groups) for file in snapshot.files[TRAIN])
    rows = 2 * (MIXED_BATCHES * fit.batch_size + group) + (GROUPS_AHEAD + 1) * group
    return Estimate(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        steps=steps,
        state_mb=_state_bytes(model, optimizer) / 2**20,
        loader_mb=rows * counts.length * _COLUMNS * _BYTES_A_COLUMN / 2**20,
        step_mb=(most - before) / 2**20,
        step_seconds=step_seconds,
        seconds=steps * step_seconds,
    )


def _state_bytes(model: nn.Module, optimizer: Optimizer) -> int:
    gradients = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    return gradients + sum(tensor.numel() * tensor.element_size() for tensor in optimizer.tensors().values())

"""One step over a large catalogue: AdamW on whole tables beside row-wise steps, on the same batches, in turns.

The model is the transformer without its repeat path, whose loss scores the whole catalogue and would hide the rest.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from behavior_lib.config.train import TableOptimizerName
from behavior_lib.data.histories import Histories, unknown_times
from behavior_lib.models.base import ModelSpec
from behavior_lib.models.build import build_model
from behavior_lib.tables.items import FIRST_INDEX
from behavior_lib.train.device import PlacedModel
from behavior_lib.train.optimizer import Optimizer
from behavior_lib.train.settings import FitSettings
from benchmarks.jobs import say

TOTAL = 1000  # steps of the schedule
SETTINGS = FitSettings(
    epochs=1,
    patience=1,
    batch_size=16,
    learning_rate=0.005,
    weight_decay=0.0,
    warmup_share=0.05,
    clip_norm=1.0,
    reader="pyarrow",
    seed=1,
    threads=1,
    tokens_per_row=128.0,
)


class Way:
    """A model with one of the two optimizers, and the CPU seconds of its steps."""

    def __init__(self, name: str, arguments: argparse.Namespace) -> None:
        settings = FitSettings(**vars(SETTINGS) | {"table_optimizer": name, "device": "cpu"})
        n_items, length = arguments.items + FIRST_INDEX, arguments.length
        counts = torch.ones(n_items, dtype=torch.int64)
        spec = ModelSpec("transformer_repeat", length, n_items, 4, length, arguments.dimension, 1, repeat_path=False)
        torch.manual_seed(1)
        self._placed = PlacedModel(build_model(spec, counts), settings)
        self._optimizer = Optimizer(self._placed.model, settings)
        weights = dict(self._placed.model.named_parameters())
        kept = self._optimizer.tensors()
        self.state_mb = sum(each.nbytes for name, each in kept.items() if name not in weights) / 2**20
        self.weights_mb = sum(each.nbytes for each in weights.values()) / 2**20
        self.gradient_mb = 0.0
        self.seconds: list[float] = []

    def step(self, histories: Histories, number: int) -> None:
        """Loss, gradients and step."""
        prepared = self._placed.prepare(histories, number, number)
        began = time.process_time()
        self._optimizer.zero()
        self._placed.loss(prepared).backward()  # type: ignore[no-untyped-call]
        self._optimizer.step(number, TOTAL)
        self.seconds.append(time.process_time() - began)
        gradients = [weight.grad for weight in self._placed.model.parameters() if weight.grad is not None]
        parts = [each.coalesce().values() if each.is_sparse else each for each in gradients]
        self.gradient_mb = sum(each.nbytes for each in parts) / 2**20

    def figures(self) -> dict[str, Any]:
        """The first step warms up."""
        mb = {name: round(getattr(self, name), 1) for name in ("weights_mb", "state_mb", "gradient_mb")}
        return {**mb, "step_cpu_seconds": round(statistics.median(self.seconds[1:]), 4), "steps": len(self.seconds) - 1}


def run(argv: Sequence[str]) -> dict[str, Any]:
    """Returns the figures of both ways, and how many times faster the row-wise step is."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks optimizer", description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--length", type=int, default=128, help="events of a row; 16 rows are a batch")
    parser.add_argument("--steps", type=int, default=10)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(SETTINGS.threads)
    ways = {name.value: Way(name.value, arguments) for name in TableOptimizerName}
    generator = np.random.default_rng(1)
    shape = (SETTINGS.batch_size, arguments.length)
    for number in range(arguments.steps + 1):
        items = generator.integers(FIRST_INDEX, FIRST_INDEX + arguments.items, shape, dtype=np.int32)
        gaps = np.full(shape, 86_400, np.int32)
        length = np.full(shape[0], arguments.length, np.int32)
        kinds, values = np.full(shape, 3, np.int32), np.zeros(shape, np.float32)
        histories = Histories(items, kinds, gaps, values, length, unknown_times(len(length)))
        for way in ways.values():
            way.step(histories, number)
    told: dict[str, Any] = {name: way.figures() for name, way in ways.items()}
    say(f"{told}")
    return {**told, "step_ratio": round(told["dense"]["step_cpu_seconds"] / told["rowwise"]["step_cpu_seconds"], 2)}

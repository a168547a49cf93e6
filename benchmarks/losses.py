"""What the losses over a catalogue take: the chunked softmax beside the full one, and a whole training step of the
default model. Each figure is of a process of its own, for memory is the most that the process ever held.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from behavior_lib.config import load
from behavior_lib.data.snapshot import TrainCounts
from behavior_lib.models.base import ModelSpec
from behavior_lib.models.batch import Batch
from behavior_lib.models.build import build_model
from behavior_lib.models.losses import CatalogueLoss
from behavior_lib.models.successors import SuccessorPath
from behavior_lib.tables.items import FIRST_INDEX
from behavior_lib.train.optimizer import Optimizer
from behavior_lib.train.plan import plan
from benchmarks.jobs import say

POSITIONS, DIMENSION = 1024, 64
ROWS, LENGTH = 16, 1024


def run(argv: Sequence[str]) -> dict[str, Any]:
    """Measure every size. Returns the figures; step_gb is of the default loss, above its tables."""
    arguments = parse(argv)
    both = [(loss, items) for items in arguments.compared for loss in ("softmax", "chunked_softmax")]
    softmaxes = [child("loss", loss, items, arguments.repeats) for loss, items in both]
    softmaxes.append(child("loss", "chunked_softmax", arguments.items, 1))
    steps = [child("step", loss, arguments.items, arguments.repeats) for loss in arguments.losses]
    return {"softmaxes": softmaxes, "steps": steps, "step_gb": round(steps[0]["above_tables_mb"] / 1024, 3)}


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks losses", description=__doc__)
    parser.add_argument("--compared", type=int, nargs="*", default=[10_000, 100_000], help="items for both softmaxes")
    parser.add_argument("--items", type=int, default=1_000_000, help="items of the catalogue that cannot be held")
    parser.add_argument("--losses", nargs="+", default=["sampled_softmax"], help="of the steps, the default first")
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args(argv)


def child(what: str, loss: str, items: int, repeats: int) -> dict[str, Any]:
    """One figure, by a process of its own."""
    words = [sys.executable, "-m", "benchmarks.losses", what, loss, str(items), str(repeats)]
    told: dict[str, Any] = json.loads(subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout)
    say(f"{told}")
    return told


def one_loss(name: str, items: int, repeats: int) -> dict[str, Any]:
    """Value and gradients of one loss of POSITIONS states with one target each. peak_mb: above its inputs."""
    torch.manual_seed(1)
    states = torch.randn(POSITIONS, DIMENSION, requires_grad=True)
    vectors = (torch.randn(items, DIMENSION) / DIMENSION**0.5).requires_grad_()
    bias = torch.randn(items, requires_grad=True)
    owner, targets = torch.arange(POSITIONS), torch.randint(FIRST_INDEX, items, (POSITIONS,))
    loss = CatalogueLoss(ModelSpec("mean", LENGTH, items, 1, loss=name), counts_of(items))
    negatives = loss.draw(targets, torch.Generator().manual_seed(1))

    def once() -> None:
        for tensor in (states, vectors, bias):
            tensor.grad = None
        loss(states, owner, targets, vectors, bias, negatives).backward()

    held = megabytes_now()
    told = measure(once, repeats)
    gradients = (vectors.numel() + bias.numel() + states.numel()) * 4 / 2**20
    return {"loss": name, "items": items, **told, "peak_mb": round(peak() - held), "gradients_mb": round(gradients)}


def one_step(name: str, items: int, repeats: int) -> dict[str, Any]:
    """Steps of the default model on ROWS rows of LENGTH events, each an instant of its own, so that there are as many
    positions as can be. tables_mb: weights, gradients and both moments of AdamW. successors_mb: counts of what follows.
    above_tables_mb: the most that was held, less those and what the process held before the model.
    """
    before = megabytes_now()
    torch.manual_seed(1)
    config = load("local", None, [f"model.loss={name}", "train.communicator=single"]).config
    counts = TrainCounts(counts_of(items).numpy(), 4, LENGTH, ROWS * LENGTH, ROWS)
    settings = plan(config, counts, Path())
    model = build_model(settings.spec, counts_of(items)).train()
    successors_mb = fill(model.successors, items)
    optimizer = Optimizer(model, settings.fit)
    batch = batch_of(items)

    def once() -> None:
        prepared = model.prepare(batch)
        optimizer.zero()
        model.loss(prepared, model.draw(prepared, torch.Generator().manual_seed(1))).backward()  # type: ignore[no-untyped-call]
        optimizer.step(0, repeats + 1)

    told = measure(once, repeats)
    tables = 4 * sum(weight.numel() * weight.element_size() for weight in model.parameters()) / 2**20
    above = peak() - before - tables - successors_mb
    sizes = {"tables_mb": tables, "successors_mb": successors_mb, "above_tables_mb": above}
    return {"loss": name, "items": items, **told, **{key: round(size) for key, size in sizes.items()}}


def fill(path: SuccessorPath | None, items: int) -> float:
    """Give every item as many successors as are kept. Returns MB of what holds them."""
    if path is None:
        return 0.0
    buffers = path.prepare_for_counts()
    successor, *counted = buffers
    successor.random_(FIRST_INDEX, items)
    for buffer in counted:
        buffer.fill_(1.0)
    return sum(buffer.numel() * buffer.element_size() for buffer in buffers) / 2**20


def counts_of(items: int) -> torch.Tensor:
    """int64 [items]: counts by Zipf's law, none of them 0 but those that are no items."""
    counts = 1 + 10_000_000 // torch.arange(1, items + 1)
    counts[:FIRST_INDEX] = 0
    return counts


def batch_of(items: int) -> Batch:
    random = np.random.default_rng(1)
    shape = ROWS, LENGTH
    item = torch.from_numpy(FIRST_INDEX + random.zipf(1.1, shape) % (items - FIRST_INDEX))
    kind, gap = torch.full(shape, FIRST_INDEX), torch.from_numpy(random.integers(1, 9_000, shape))
    return Batch(item, kind, gap, torch.ones(shape), torch.zeros_like(item), torch.full((ROWS,), LENGTH))


def measure(once: Callable[[], None], repeats: int) -> dict[str, float]:
    """The median of all repeats but a first, on the clock and of the processor."""
    seconds, worked = [], []
    for _ in range(repeats + 1):
        began, cpu = time.perf_counter(), time.process_time()
        once()
        seconds.append(time.perf_counter() - began)
        worked.append(time.process_time() - cpu)
    return {"seconds": round(statistics.median(seconds[1:]), 3), "cpu_s": round(statistics.median(worked[1:]), 3)}


def megabytes_now() -> float:
    return float(psutil.Process().memory_info().rss) / 2**20


def peak() -> float:
    """MB that this program held at most. What getrusage tells begins with what the parent held."""
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    what, loss, items, repeats = sys.argv[1:]
    told = {"loss": one_loss, "step": one_step}[what](loss, int(items), int(repeats))
    print(json.dumps(told))

"""What one pass of each encoder costs beside the transformer's: forward and backward, without any loss.

In turns, one thread, CPU time; a ratio is of the times of one turn, and what is told is the median over the turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from behavior_lib.config import load
from behavior_lib.data.item_graph import undirected
from behavior_lib.models.base import ModelSpec
from behavior_lib.models.batch import HOURS_OF_WEEK, Batch
from behavior_lib.models.causal import WindowEncoder
from behavior_lib.models.encoders import ENCODERS
from behavior_lib.tables.items import FIRST_INDEX
from benchmarks.jobs import say

N_ITEMS, PAIRS = 1000, 7_400  # the pairs are those of the item graph
VARIANTS = {
    **{name: [f"model.name={name}"] for name in ENCODERS if name != "transformer_repeat"},
    "transformer, positions: learned": ["model.name=transformer", "model.positions=learned"],
    "transformer, positions: time": ["model.name=transformer", "model.positions=time"],
}


def run(argv: Sequence[str]) -> dict[str, Any]:
    """Measure every encoder as its file in conf/models has it. Returns parameters, CPU time and ratio by name."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks encoders", description=__doc__)
    parser.add_argument("--rows", type=int, default=16, help="windows of a batch")
    parser.add_argument("--columns", type=int, default=128, help="events of a window")
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=21)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    batch = random_batch(arguments.rows, arguments.columns)
    vectors = torch.randn(N_ITEMS, arguments.dimension, requires_grad=True)
    encoders = {name: build(changes, arguments) for name, changes in VARIANTS.items()}
    turns = [
        {name: seconds(encoder, batch, vectors) for name, encoder in encoders.items()}
        for _ in range(arguments.repeats + 1)
    ][1:]
    told = {name: figures(name, encoder, turns) for name, encoder in encoders.items()}
    for name, found in told.items():
        say(f"{name}: {found}")
    return told


def build(changes: Sequence[str], arguments: argparse.Namespace) -> WindowEncoder:
    """An encoder in training mode, of the configuration with these changes."""
    model = load("local", None, [*changes, f"model.dimension={arguments.dimension}"]).config.model
    spec = ModelSpec(
        name=model.name,
        length=arguments.columns,
        window=arguments.columns,
        n_items=N_ITEMS,
        n_event_types=5,
        dimension=model.dimension,
        layers=model.layers,
        heads=model.heads,
        dropout=model.dropout,
        positions=model.positions.value,
    )
    encoder = ENCODERS[model.name](spec)
    if (graph := encoder.item_graph()) is not None:
        pairs = torch.randint(FIRST_INDEX, N_ITEMS, (2, PAIRS))
        item, neighbour = pairs[:, pairs[0] != pairs[1]].numpy()
        graph.take(*map(torch.from_numpy, undirected(item, neighbour, np.ones_like(item), N_ITEMS)))
    return encoder


def random_batch(rows: int, columns: int) -> Batch:
    """Full windows of random events, a third of them in the instant of the event before."""
    shape = (rows, columns)
    gap = torch.randint(1, 1_000_000, shape) * (torch.rand(shape) > 1 / 3)
    return Batch(
        torch.randint(N_ITEMS, shape),
        torch.randint(5, shape),
        gap,
        torch.rand(shape),
        torch.randint(1, 1 + HOURS_OF_WEEK, shape),
        torch.full((rows,), columns),
    )


def seconds(encoder: WindowEncoder, batch: Batch, vectors: torch.Tensor) -> float:
    """CPU time of one pass forward and backward."""
    encoder.zero_grad()
    vectors.grad = None
    upstream = torch.randn(len(batch), batch.columns, vectors.shape[1])
    began = time.process_time()
    encoder(batch, vectors).backward(upstream)
    return time.process_time() - began


def figures(name: str, encoder: WindowEncoder, turns: Sequence[dict[str, float]]) -> dict[str, float]:
    """Of one encoder."""
    return {
        "parameters": sum(parameter.numel() for parameter in encoder.parameters()),
        "milliseconds": round(1000 * statistics.median(turn[name] for turn in turns), 2),
        "ratio": round(statistics.median(turn[name] / turn["transformer"] for turn in turns), 3),
    }

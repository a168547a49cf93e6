"""What this machine allows: the arithmetic of one trained position, and how fast matrices and memory are here."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from behavior_lib.models.base import ModelSpec
from behavior_lib.models.losses.chosen import sampling_of

# A step of AdamW reads weight, gradient and two moments and writes three of them; the norm reads the gradient once
# more, and clearing writes it.
TABLE_PASSES = 9
BACKWARD = 2  # times the arithmetic of the forward pass
FLOAT_BYTES = 4
_REPEATS = 20


def layer_shapes(dimension: int) -> list[tuple[int, int]]:
    """The matrices of one block: query, key and value; out; the two of the feed-forward network."""
    return [
        (dimension, 3 * dimension),
        (dimension, dimension),
        (dimension, 4 * dimension),
        (4 * dimension, dimension),
    ]


def scored_items(spec: ModelSpec) -> int:
    """Items that the loss sets beside each position: the target and the negatives, or the whole catalogue."""
    return spec.negatives + 1 if sampling_of(spec.loss, spec.negative_sampling) else spec.n_items


def flops_per_position(spec: ModelSpec, keys: float) -> float:
    """Multiplications and additions that train one position: blocks, causal attention and loss; no repeat path.

    keys: events that a position attends to, on average.
    """
    weights = sum(rows * columns for rows, columns in layer_shapes(spec.dimension))
    attention = 2 * spec.dimension * keys
    block = 2 * (weights + attention)
    output = 2 * spec.dimension * scored_items(spec)
    return (1 + BACKWARD) * (spec.layers * block + output)


def table_bytes_per_step(spec: ModelSpec) -> int:
    """Bytes of the item table that a step with dense gradients must move."""
    return TABLE_PASSES * FLOAT_BYTES * spec.n_items * spec.dimension


def most_positions(spec: ModelSpec, keys: float, positions: float, gemm: float, copy: float) -> float:
    """Positions a CPU second if nothing else took time.

    positions: of one step. gemm: floating point operations a CPU second; copy: bytes.
    """
    seconds = positions * flops_per_position(spec, keys) / gemm + table_bytes_per_step(spec) / copy
    return positions / seconds


def gemm_speed(spec: ModelSpec, positions: int) -> float:
    """Floating point operations a CPU second of products of the model's shapes: each at its best of some repeats."""
    flops = seconds = 0.0
    for rows, columns in [*layer_shapes(spec.dimension), (spec.dimension, scored_items(spec))]:
        left, right = torch.randn(positions, rows), torch.randn(rows, columns)
        flops += 2.0 * positions * rows * columns
        seconds += best_seconds(lambda left=left, right=right: left @ right)  # type: ignore[misc]
    return flops / seconds


def copy_speed(megabytes: int = 256) -> float:
    """Bytes a CPU second, read and written, of a copy that no cache holds."""
    source = torch.ones(megabytes * 2**20 // FLOAT_BYTES)
    target = torch.empty_like(source)
    return 2 * source.numel() * FLOAT_BYTES / best_seconds(lambda: target.copy_(source))


def best_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of the fastest of some repeats."""
    found = []
    for _ in range(_REPEATS):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)

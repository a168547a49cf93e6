"""Gated pointwise attention over one window of events: hierarchical sequential transduction (HSTU, Zhai et al. 2024).

Attention's weights are SiLU of the products and no softmax, so that events do not compete for a sum of 1; a gate made
of the event itself takes the feed-forward network's place.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch.nn.functional as F
from torch import Tensor, nn

from behavior_lib.models.base import ModelSpec
from behavior_lib.models.batch import Batch
from behavior_lib.models.causal import CausalEncoder
from behavior_lib.models.dropout import Dropout
from behavior_lib.models.relative import InstantBias, TimeBias, is_later


class Unit(nn.Module):
    """x + out(norm(attended) ⊙ gate); gate, query, key and value are SiLU of one projection of the normed x."""

    def __init__(self, dimension: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dimension)
        self.project = nn.Linear(dimension, 4 * dimension, bias=False)
        self.attended_norm = nn.LayerNorm(dimension)
        self.out = nn.Linear(dimension, dimension)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, addend: Tensor, share: Tensor) -> Tensor:
        """x: [n, L, d]. Returns [n, L, d].

        addend: to the products of query and key, [n, heads, L, L]. share: [L, L], 1 / number of events that event i
        sees, 0 for those that it does not.
        """
        gate, query, key, value = F.silu(self.project(self.norm(x))).chunk(4, dim=-1)
        weight = F.silu(self._split(query) @ self._split(key).transpose(2, 3) + addend) * share
        attended = (weight @ self._split(value)).transpose(1, 2).reshape(x.shape)
        result: Tensor = x + self.dropout(self.out(self.attended_norm(attended) * gate))
        return result

    def _split(self, x: Tensor) -> Tensor:
        n, columns, dimension = x.shape
        return x.view(n, columns, self.heads, dimension // self.heads).transpose(1, 2)


class Hstu(CausalEncoder):
    """spec.layers units; attention knows the time and the number of instants between two events.

    The sum over the events seen is divided by their number and not by the window's width, so that padding has no part.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.time = TimeBias(spec.heads)
        self.instants = InstantBias(spec.heads, spec.window - 1)
        self.units = nn.ModuleList(Unit(spec.dimension, spec.heads, spec.dropout) for _ in range(spec.layers))
        self.norm = nn.LayerNorm(spec.dimension)

    def layers(self) -> Iterable[nn.Module]:
        """All of them."""
        return self.units

    def states(self, x: Tensor, batch: Batch) -> Tensor:
        """The last unit's output, normed."""
        addend = self.time(batch.gap_seconds.cumsum(1)) + self.instants(batch)
        sees = (~is_later(batch.columns, x.device)).float()
        share = sees / sees.sum(1, keepdim=True)
        for unit in self.units:
            x = unit(x, addend, share)
        normed: Tensor = self.norm(x)
        return normed

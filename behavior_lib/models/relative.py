"""Addends to attention that tell how far apart two events are: in time, and in instants.

Each is one learned number a head and bucket of distance, 0 at first, shared by all layers. That attention knows the
time between two events is TiSASRec's idea (Li et al. 2020); one number for it, by its logarithm, is HSTU's (Zhai et al.
2024).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from behavior_lib.models.batch import Batch
from behavior_lib.models.causal import SPAN_BUCKETS, span_buckets
from behavior_lib.models.instants import instant_numbers


class TimeBias(nn.Module):
    """By the time between two events, in powers of two of seconds; where both_ways, by which of them is later too."""

    def __init__(self, heads: int, both_ways: bool = False) -> None:
        super().__init__()
        self.bias = nn.Embedding((1 + both_ways) * SPAN_BUCKETS, heads)
        nn.init.zeros_(self.bias.weight)
        self.both_ways = both_ways

    def forward(self, seconds: Tensor) -> Tensor:
        """float32 [n, heads, L, L], [.., i, j] for event i that looks at event j.

        seconds: int64 [n, L], when each event was. Without both_ways a later event j means nothing.
        """
        apart = differences(seconds)
        bucket = span_buckets(apart.abs()) + SPAN_BUCKETS * (apart < 0) if self.both_ways else span_buckets(apart)
        numbers: Tensor = self.bias(bucket)
        return numbers.permute(0, 3, 1, 2)


class InstantBias(nn.Module):
    """By the number of instants between two events; `furthest` and beyond are one."""

    def __init__(self, heads: int, furthest: int) -> None:
        super().__init__()
        self.bias = nn.Embedding(furthest + 1, heads)
        nn.init.zeros_(self.bias.weight)

    def forward(self, batch: Batch) -> Tensor:
        """As TimeBias: [n, heads, L, L]; where event j is later it means nothing."""
        distance = differences(instant_numbers(batch)).clamp(0, self.bias.num_embeddings - 1)
        numbers: Tensor = self.bias(distance)
        return numbers.permute(0, 3, 1, 2)


def differences(place: Tensor) -> Tensor:
    """[n, L, L]: place i less place j, of places [n, L]."""
    return place[:, :, None] - place[:, None, :]


def is_later(columns: int, device: torch.device) -> Tensor:
    """bool [L, L]: whether event j comes after event i."""
    return torch.ones(columns, columns, dtype=torch.bool, device=device).triu(1)

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
    """By the time between two events, in powers of two of seconds."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.bias = nn.Embedding(SPAN_BUCKETS, heads)
        nn.init.zeros_(self.bias.weight)

    def forward(self, batch: Batch) -> Tensor:
        """float32 [n, heads, L, L], [.., i, j] for event i that looks at event j; where j is later it means nothing."""
        numbers: Tensor = self.bias(span_buckets(differences(batch.gap_seconds.cumsum(1))))
        return numbers.permute(0, 3, 1, 2)


class InstantBias(nn.Module):
    """By the number of instants between two events; `furthest` and beyond are one."""

    def __init__(self, heads: int, furthest: int) -> None:
        super().__init__()
        self.bias = nn.Embedding(furthest + 1, heads)
        nn.init.zeros_(self.bias.weight)

    def forward(self, batch: Batch) -> Tensor:
        """As TimeBias."""
        distance = differences(instant_numbers(batch)).clamp(0, self.bias.num_embeddings - 1)
        numbers: Tensor = self.bias(distance)
        return numbers.permute(0, 3, 1, 2)


def differences(place: Tensor) -> Tensor:
    """[n, L, L]: place i less place j, of places [n, L]."""
    return place[:, :, None] - place[:, None, :]


def is_later(columns: int, device: torch.device) -> Tensor:
    """bool [L, L]: whether event j comes after event i."""
    return torch.ones(columns, columns, dtype=torch.bool, device=device).triu(1)

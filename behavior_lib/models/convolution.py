"""Dilated causal convolutions over one window of events (NextItNet, Yuan et al. 2019)."""

from __future__ import annotations

from collections.abc import Iterable

import torch.nn.functional as F
from torch import Tensor, nn

from behavior_lib.models.base import ModelSpec
from behavior_lib.models.batch import Batch
from behavior_lib.models.causal import CausalEncoder
from behavior_lib.models.dropout import Dropout

KERNEL = 3  # events that one convolution reads


class ResidualBlock(nn.Module):
    """Two convolutions, the second twice as far apart, each with its norm and ReLU behind; then dropout."""

    def __init__(self, dimension: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv1d(dimension, dimension, KERNEL, dilation=apart) for apart in (dilation, 2 * dilation)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(dimension) for _ in self.convolutions)
        self.reaches = [(KERNEL - 1) * apart for apart in (dilation, 2 * dilation)]
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[n, L, d] of [n, L, d]."""
        change = x
        for convolution, norm, reach in zip(self.convolutions, self.norms, self.reaches, strict=True):
            past = F.pad(change.transpose(1, 2), (reach, 0))
            change = F.relu(norm(convolution(past).transpose(1, 2)))
        result: Tensor = x + self.dropout(change)
        return result


class DilatedConvolutions(CausalEncoder):
    """spec.layers blocks with the dilations 1 and 2, 4 and 8, 16 and 32, …: three of them read 127 events."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.blocks = nn.Sequential(
            *(ResidualBlock(spec.dimension, 4**layer, spec.dropout) for layer in range(spec.layers))
        )
        self.norm = nn.LayerNorm(spec.dimension)

    def layers(self) -> Iterable[nn.Module]:
        """All of them."""
        return self.blocks

    def states(self, x: Tensor, batch: Batch) -> Tensor:
        """The last block's output, normed."""
        normed: Tensor = self.norm(self.blocks(x))
        return normed

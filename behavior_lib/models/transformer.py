"""Transformers over one window of events: pre-norm blocks, fused attention; the causal one (SASRec, Kang and McAuley
2018).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from behavior_lib.models.base import ModelSpec
from behavior_lib.models.batch import Batch
from behavior_lib.models.causal import START, CausalEncoder, WindowEncoder
from behavior_lib.models.dropout import Dropout
from behavior_lib.models.instants import instant_numbers
from behavior_lib.models.relative import TimeBias, is_later


class Block(nn.Module):
    """Attention and a feed-forward network, each with its norm in front (Xiong et al. 2020) and dropout behind."""

    def __init__(self, dimension: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(dimension)
        self.query_key_value = nn.Linear(dimension, 3 * dimension, bias=False)
        self.out = nn.Linear(dimension, dimension, bias=False)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(dimension),
            nn.Linear(dimension, 4 * dimension),
            nn.GELU(),
            nn.Linear(4 * dimension, dimension),
            Dropout(dropout),
        )
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, rotation: Tensor | None, addend: Tensor | None) -> Tensor:
        """x: [n, L, d]. Returns [n, L, d].

        rotation: of `rotations`, [2, n, 1, L, d / heads]. addend: to the attention's logits,
        [n, heads or 1, L, L], -inf for what is not seen; None: causal attention.
        """
        n, columns, dimension = x.shape
        width = dimension // self.heads
        apart = self.query_key_value(self.attention_norm(x)).view(n, columns, 3, self.heads, width)
        asked, (value,) = apart.permute(2, 0, 3, 1, 4).split([2, 1])
        query, key = asked if rotation is None else rotate(asked, rotation)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=addend, is_causal=addend is None)
        x = x + self.dropout(self.out(attended.transpose(1, 2).reshape(n, columns, dimension)))
        result: Tensor = x + self.feed_forward(x)
        return result


def rotations(position: Tensor, width: int) -> Tensor:
    """Of positions [n, L], [2, n, 1, L, width]: the cosines for both halves of a head's vector, and the sines, negative
    for the first (Su et al. 2021, rotary embedding).
    """
    frequency = 10_000.0 ** (-torch.arange(0, width, 2, device=position.device) / width)
    angle = position[:, None, :, None].float() * frequency
    cosine, sine = angle.cos(), angle.sin()
    return torch.stack([torch.cat([cosine, cosine], -1), torch.cat([-sine, sine], -1)])


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn the halves of each head's vector by the angles. x: [2, n, heads, L, width], queries and keys."""
    cosine, sine = rotation
    # The copy comes first: the result then lies as it does, row by row, which compiled blocks need at every width.
    return torch.addcmul(x.roll(x.shape[-1] // 2, -1) * sine, x, cosine)


class Transformer(WindowEncoder):
    """Attention over the window, with the positions of spec.positions.

    "rotary" (Su et al. 2021) and "learned" (Gehring et al. 2017) number the instants, so that the hash order inside a
    basket has no distance; "time" knows the time between two events alone.
    """

    both_ways: ClassVar[bool]

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.rotary_width = spec.dimension // spec.heads if spec.positions == "rotary" else None
        self.learned = nn.Embedding(spec.window, spec.dimension) if spec.positions == "learned" else None
        if self.learned is not None:
            nn.init.normal_(self.learned.weight, std=START)
        self.time = TimeBias(spec.heads, self.both_ways) if spec.positions == "time" else None
        self.blocks = nn.ModuleList(Block(spec.dimension, spec.heads, spec.dropout) for _ in range(spec.layers))
        self.norm = nn.LayerNorm(spec.dimension)

    def layers(self) -> Iterable[nn.Module]:
        """All of them."""
        return self.blocks

    def states(self, x: Tensor, batch: Batch) -> Tensor:
        """The last block's output, normed."""
        number = instant_numbers(batch)
        rotation = None if self.rotary_width is None else rotations(number, self.rotary_width)
        if self.learned is not None:
            x = x + self.learned(number.clamp(max=self.learned.num_embeddings - 1))
        addend = self.addend(batch)
        for block in self.blocks:
            x = block(x, rotation, addend)
        normed: Tensor = self.norm(x)
        return normed

    @abstractmethod
    def addend(self, batch: Batch) -> Tensor | None:
        """What each block adds to the logits of attention; see Block."""


class CausalTransformer(Transformer, CausalEncoder):
    """An event looks at those before it and itself."""

    both_ways = False

    def addend(self, batch: Batch) -> Tensor | None:
        """None but for positions of time."""
        if self.time is None:
            return None
        later = is_later(batch.columns, batch.length.device)
        seen: Tensor = self.time(batch.gap_seconds.cumsum(1)).masked_fill(later, float("-inf"))
        return seen

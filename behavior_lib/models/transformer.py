"""A causal transformer over one window of events: pre-norm blocks, rotary positions, fused attention."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from behavior_lib.models.base import ModelSpec
from behavior_lib.models.batch import Batch
from behavior_lib.models.instants import instant_numbers

GAP_BUCKETS = 32  # powers of two of seconds: the last holds every gap above 34 years


class EventInput(nn.Module):
    """One vector an event: item, and as the spec says event type, time gap (by powers of two) and value."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.event_type = nn.Embedding(spec.n_event_types, spec.dimension) if spec.use_event_type else None
        self.gap = nn.Embedding(GAP_BUCKETS, spec.dimension) if spec.use_gap else None
        self.value = nn.Linear(1, spec.dimension, bias=False) if spec.use_value else None

    def forward(self, batch: Batch, item_vectors: Tensor) -> Tensor:
        """float32 [n, L, d]."""
        x = F.embedding(batch.item_index, item_vectors)
        if self.event_type is not None:
            x = x + self.event_type(batch.event_type)
        if self.gap is not None:
            bucket = torch.log2(batch.gap_seconds.clamp(min=0) + 1.0).long().clamp(max=GAP_BUCKETS - 1)
            x = x + self.gap(bucket)
        if self.value is not None:
            x = x + self.value((batch.value.sign() * batch.value.abs().log1p())[..., None])
        return x


class Block(nn.Module):
    """Attention and a feed-forward network, each with its norm in front and dropout behind."""

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
            nn.Dropout(dropout),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, rotation: Tensor) -> Tensor:
        """x: [n, L, d]. rotation: complex angles as (cosine, sine), [2, n, 1, L, d / heads / 2]. Returns [n, L, d]."""
        n, columns, dimension = x.shape
        split = self.query_key_value(self.attention_norm(x)).view(n, columns, 3, self.heads, -1)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(rotate(query, rotation), rotate(key, rotation), value, is_causal=True)
        x = x + self.dropout(self.out(attended.transpose(1, 2).reshape(n, columns, dimension)))
        result: Tensor = x + self.feed_forward(x)
        return result


def rotations(position: Tensor, width: int) -> Tensor:
    """Cosines and sines [2, n, 1, L, width / 2] of positions [n, L] (Su et al. 2021, rotary embedding)."""
    frequency = 10_000.0 ** (-torch.arange(0, width, 2, device=position.device) / width)
    angle = position[:, None, :, None].float() * frequency
    return torch.stack([angle.cos(), angle.sin()])


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn the halves of each head's vector by the angles. x: [n, heads, L, width]."""
    first, second = x.chunk(2, dim=-1)
    cosine, sine = rotation
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)


class CausalTransformer(nn.Module):
    """States of a window of events; each sees the events before it and itself, never a later one or padding.

    Positions are numbers of instants, so that the hash order inside a basket has no distance.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.head_width = spec.dimension // spec.heads
        self.input = EventInput(spec)
        self.dropout = nn.Dropout(spec.dropout)
        self.blocks = nn.ModuleList(Block(spec.dimension, spec.heads, spec.dropout) for _ in range(spec.layers))
        self.norm = nn.LayerNorm(spec.dimension)

    def forward(self, batch: Batch, item_vectors: Tensor) -> Tensor:
        """float32 [n, L, d]; what stands at padding means nothing."""
        x = self.dropout(self.input(batch, item_vectors))
        rotation = rotations(instant_numbers(batch), self.head_width)
        for block in self.blocks:
            x = block(x, rotation)
        normed: Tensor = self.norm(x)
        return normed

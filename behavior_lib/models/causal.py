"""The small interface of all encoders: a window of events in, one state for each of them out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import reduce

import torch
from torch import Tensor, nn

from behavior_lib.models.base import ModelSpec
from behavior_lib.models.batch import Batch
from behavior_lib.models.dropout import Dropout
from behavior_lib.models.item_graph import ItemGraph
from behavior_lib.models.lookup import lookup

SPAN_BUCKETS = 32  # powers of two of seconds: the last holds every span above 34 years
HOURS, DAYS = 24, 7
START = 0.02  # standard deviation of embeddings, as of BERT's and GPT-2's


class EventInput(nn.Module):
    """One vector an event: item, and as the spec says event type, time gap (by powers of two), value, hour of the day
    and weekday (UTC, one vector each; those of an event whose time is not known are 0).

    spec.fusion: "sum" adds the parts, "concat" lays them side by side and takes them through one linear layer.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.event_type = nn.Embedding(spec.n_event_types, spec.dimension) if spec.use_event_type else None
        self.gap = nn.Embedding(SPAN_BUCKETS, spec.dimension) if spec.use_gap else None
        self.value = nn.Linear(1, spec.dimension, bias=False) if spec.use_value else None
        self.hour = nn.Embedding(1 + HOURS, spec.dimension, padding_idx=0) if spec.use_hour else None
        self.weekday = nn.Embedding(1 + DAYS, spec.dimension, padding_idx=0) if spec.use_weekday else None
        uses = (spec.use_event_type, spec.use_gap, spec.use_value, spec.use_hour, spec.use_weekday)
        # Small beside item vectors: at the usual 1 a number, what is known of an event's time is all of its vector.
        with torch.no_grad():
            for part in (self.event_type, self.gap, self.value, self.hour, self.weekday):
                if part is not None:
                    part.weight *= START
        parts = 1 + sum(uses)
        self.fuse = nn.Linear(parts * spec.dimension, spec.dimension) if spec.fusion == "concat" else None

    def forward(self, batch: Batch, item_vectors: Tensor) -> Tensor:
        """float32 [n, L, d]."""
        parts = [lookup(batch.item_index, item_vectors)]
        if self.event_type is not None:
            parts.append(self.event_type(batch.event_type))
        if self.gap is not None:
            parts.append(self.gap(span_buckets(batch.gap_seconds)))
        if self.value is not None:
            parts.append(self.value((batch.value.sign() * batch.value.abs().log1p())[..., None]))
        if self.hour is not None:
            parts.append(self.hour(hours(batch.hour_of_week)))
        if self.weekday is not None:
            parts.append(self.weekday(weekdays(batch.hour_of_week)))
        if self.fuse is None:
            return reduce(torch.add, parts)
        fused: Tensor = self.fuse(torch.cat(parts, 2))
        return fused


class WindowEncoder(nn.Module, ABC):
    """States of a window of events; none sees padding.

    A window has 1 to `columns` columns; nothing is carried from one to the next.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.columns = spec.window
        self.input = EventInput(spec)
        self.dropout = Dropout(spec.dropout)

    def forward(self, batch: Batch, item_vectors: Tensor) -> Tensor:
        """float32 [n, L, d]: the state of each event; what stands at padding means nothing.

        item_vectors: [n_items, d], the item's part of an event.
        """
        return self.states(self.dropout(self.input(batch, item_vectors)), batch)

    def layers(self) -> Iterable[nn.Module]:
        """The layers that training may compute in bfloat16, compile, or compute once more in the backward pass."""
        return ()

    def item_graph(self) -> ItemGraph | None:
        """What training fills with the transitions of train before its first step; None where it reads no graph."""
        return None

    def asked(self, batch: Batch) -> Batch:
        """The rows whose newest event's state is the user's vector: the newest `columns` events of each row."""
        return batch.newest(self.columns)

    @abstractmethod
    def states(self, x: Tensor, batch: Batch) -> Tensor:
        """The states [n, L, d] of events whose vectors are x: [n, L, d]."""


class CausalEncoder(WindowEncoder):
    """Each state sees the events before it and its own, never a later one: it may be asked what comes next."""


def span_buckets(seconds: Tensor) -> Tensor:
    """int64, as `seconds`: 0 below a second, then one bucket a power of two, of the logarithm that float32 rounds."""
    return torch.log2(seconds.clamp(min=0) + 1.0).long().clamp(max=SPAN_BUCKETS - 1)


def hours(hour_of_week: Tensor) -> Tensor:
    """int64, as `hour_of_week`: 1 for a day's first hour to 24, 0 where it is not known."""
    return torch.where(hour_of_week > 0, (hour_of_week - 1) % HOURS + 1, 0)


def weekdays(hour_of_week: Tensor) -> Tensor:
    """int64, as `hour_of_week`: 1 for Monday to 7 for Sunday, 0 where it is not known."""
    return (hour_of_week + HOURS - 1) // HOURS

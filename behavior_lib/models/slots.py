"""Slots: a few items of each row, each once, with features by which a small network scores them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from behavior_lib.tables.items import FIRST_INDEX

CONTEXT = 2  # numbers that `inputs` adds to the features of a slot
LEAST = -20.0  # what a logit or a logarithm counts as at least


@dataclass(frozen=True)
class Slots:
    """Distinct items of each row, one slot each.

    item: int64 [n, S], 0 in empty slots. features: float32 [n, S, F].
    """

    item: Tensor
    features: Tensor

    @property
    def present(self) -> Tensor:
        """bool [n, S]: slots that hold a known item."""
        return self.item >= FIRST_INDEX


@dataclass(frozen=True)
class Grouping:
    """The columns of each row by the item that stands there, items in ascending order.

    item: int64 [n, C], the distinct items, 0 behind them. order: int64 [n, C], columns in the order of their items,
    equal ones as they stood. slot: int64 [n, C], the place in `item` of each column of `order`.
    """

    item: Tensor
    order: Tensor
    slot: Tensor

    @classmethod
    def of(cls, item: Tensor) -> Grouping:
        """item: int64 [n, C]."""
        in_order, order = item.sort(dim=1, stable=True)
        slot = torch.zeros_like(in_order)
        slot[:, 1:] = (in_order[:, 1:] != in_order[:, :-1]).cumsum(1)
        return cls(torch.zeros_like(item).scatter(1, slot, in_order), order, slot)


def slot_network(n_inputs: int, width: int) -> nn.Sequential:
    """Takes n_inputs numbers a slot to one."""
    return nn.Sequential(nn.Linear(n_inputs, width), nn.GELU(), nn.Linear(width, 1))


def inputs(slots: Slots, log_share: Tensor, logit: Tensor) -> Tensor:
    """float32 [n, S, F + CONTEXT]: the features, each item's log share of all events, and its logit so far.

    log_share: [items]. logit: [n, S].
    """
    before = torch.stack([log_share[slots.item], logit], 2).clamp(min=LEAST)
    return torch.cat([slots.features, before], 2)

"""The graph of what follows what, counted in rows of events: what the table of edges is compared with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

EVENTS_AT_ONCE = 2**14  # whose pairs are in memory
PAIRS_AT_ONCE = 2**22  # that wait to be added to the counts


class Transitions:
    """How often two items stood in neighbouring instants of one row, whichever came first."""

    def __init__(self, n_items: int) -> None:
        self._n_items = n_items
        self._key = self._count = torch.zeros(0, dtype=torch.int64)
        self._waiting: list[Tensor] = []

    def __len__(self) -> int:
        """Different pairs that are counted, without those that wait."""
        return len(self._key)

    def add(self, item: Tensor, instant: Tensor) -> None:
        """Count whole rows of events. item, instant: int64 [m]; events of one instant share a number, and that of the
        row's next instant is one more. An event counts with every event of the next instant.
        """
        instant, order = instant.sort(stable=True)
        item = item[order]
        number, size = torch.unique_consecutive(instant, return_counts=True)
        is_followed = F.pad(number[1:] == number[:-1] + 1, (0, 1))
        end = size.cumsum(0)
        n_next = (F.pad(size[1:], (0, 1)) * is_followed).repeat_interleave(size)
        first_next = end.repeat_interleave(size)
        for events in torch.split(torch.arange(len(item)), EVENTS_AT_ONCE):
            n = n_next[events]
            within = torch.arange(int(n.sum())) - (n.cumsum(0) - n).repeat_interleave(n)
            one, other = item[events].repeat_interleave(n), item[first_next[events].repeat_interleave(n) + within]
            key = torch.minimum(one, other) * self._n_items + torch.maximum(one, other)
            self._wait(key[one != other])

    def edges(self, neighbours: int) -> tuple[Tensor, Tensor]:
        """edge_index and edge_weight of the ItemGraph whose edges weigh as much as their pairs were counted.

        A pair is an edge where it is among the `neighbours` heaviest of one of its items; of pairs that weigh the same
        the one with the lower other item is. A self loop weighs as the heaviest edge of its item, 1 where it has none.
        """
        self._settle()
        low, high = self._key // self._n_items, self._key % self._n_items
        # Pairs ascend by their lower item, then the higher: so the others of each item ascend, the lower ones first.
        own, other, count = torch.cat([high, low]), torch.cat([low, high]), self._count.repeat(2)
        most = int(self._count.max()) if len(self) else 0
        order = (own * (most + 1) + most - count).argsort(stable=True)
        degree = torch.bincount(own, minlength=self._n_items)
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order)) - (degree.cumsum(0) - degree)[own[order]]
        is_near = (rank < neighbours).view(2, -1).any(0).repeat(2)
        own, other, weight = own[is_near], other[is_near], count[is_near].float()
        loops = torch.arange(self._n_items)
        heaviest = torch.ones(self._n_items).scatter_reduce(0, own, weight, "amax")
        ends, begins, weight = torch.cat([own, loops]), torch.cat([other, loops]), torch.cat([weight, heaviest])
        order = (ends * self._n_items + begins).argsort()
        return torch.stack([ends, begins])[:, order], weight[order]

    def _wait(self, key: Tensor) -> None:
        self._waiting.append(key)
        if sum(map(len, self._waiting)) >= max(PAIRS_AT_ONCE, len(self._key)):
            self._settle()

    def _settle(self) -> None:
        keys = torch.cat([self._key, *self._waiting])
        counts = torch.cat([self._count, torch.ones(len(keys) - len(self._key), dtype=torch.int64)])
        self._key, place = torch.unique(keys, return_inverse=True)
        self._count, self._waiting = torch.zeros_like(self._key).index_add_(0, place, counts), []

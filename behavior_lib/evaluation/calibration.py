"""How far what a user is shown is from what the user has had, group of items by group of items.

Steck, Calibrated Recommendations (RecSys 2018), with weights of one: an event of the past and a place of the list count
the same, whenever and wherever they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import rel_entr

ALPHA = 0.01  # share of the past that is mixed into the list, so that a group which it lacks costs something finite


@dataclass(frozen=True)
class Grouping:
    """Which group each item is of. number: int64 [V], from 0."""

    number: NDArray[np.int64]

    @cached_property
    def n_groups(self) -> int:
        """One more than the highest number."""
        return int(self.number.max()) + 1

    def of_counts(self, counts: csr_array) -> NDArray[np.float64]:
        """float64 [n, n_groups]: the sum over the items of each group. counts: [n, V]."""
        return np.asarray((counts @ self._members).toarray(), dtype=np.float64)

    def of_lists(self, items: NDArray[np.intp], chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        """float64 [n, n_groups]: items of each group among those chosen. items, chosen: [n, m]."""
        place = np.arange(len(items))[:, None] * self.n_groups + self.number[items]
        counts = np.bincount(place[chosen], minlength=len(items) * self.n_groups)
        return counts.reshape(len(items), self.n_groups).astype(np.float64)

    @cached_property
    def _members(self) -> csr_array:
        """float64 [V, n_groups]: 1 where the item is of the group."""
        n_items = len(self.number)
        return csr_array((np.ones(n_items), self.number, np.arange(n_items + 1)), shape=(n_items, self.n_groups))


def miscalibration(past: NDArray[np.float64], shown: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64 [n]: KL(p || (1 - α) q + α p) in nats, 0 where list and past are alike and at most -ln α.

    past: [n, G], how much of each group, whose shares are p; shown: [n, G] or one row for all, whose shares are q. NaN
    for a user without any of either.
    """
    p, q = _shares(past), _shares(shown)
    return np.asarray(rel_entr(p, (1 - ALPHA) * q + ALPHA * p).sum(axis=1), dtype=np.float64)


def _shares(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    total = counts.sum(axis=1, keepdims=True)
    return np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0)

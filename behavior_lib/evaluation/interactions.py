"""Who had which item when, before a cut: all that a method which only counts may know. Pure numpy and scipy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array


@dataclass(frozen=True)
class Interactions:
    """The events with an item of every user before the cut, ordered by (user, time).

    offsets: int64 [n_users + 1]; user u's events are offsets[u] … offsets[u + 1] - 1, oldest first; a user may have
    none. item: int32 [N], item indexes. time: int64 [N], UTC microseconds, or places where the data has no times; equal
    times of a user are one instant (a basket), and their order within it means nothing. judged: int64 [n], the user of
    each row of the split.
    """

    offsets: NDArray[np.int64]
    item: NDArray[np.int32]
    time: NDArray[np.int64]
    judged: NDArray[np.int64]

    @classmethod
    def from_events(
        cls,
        users: NDArray[np.integer[Any]],
        items: NDArray[np.integer[Any]],
        times: NDArray[np.integer[Any]] | None,
        n_users: int,
        judged: NDArray[np.integer[Any]],
    ) -> Interactions:
        """From one row an event, [N] each, in any order.

        users: 0 … n_users - 1. times: None where the data has none: the rows of a user are then in order, and an
        event's place among them is its time, so that each is an instant of its own. Takes some 40 bytes an event.
        """
        order = np.argsort(users, kind="stable") if times is None else np.lexsort((items, times, users))
        offsets = np.searchsorted(users[order], np.arange(n_users + 1)).astype(np.int64)
        if times is None:
            time = np.arange(len(users)) - np.repeat(offsets[:-1], np.diff(offsets))
        else:
            time = times[order].astype(np.int64)
        return cls(offsets, items[order].astype(np.int32), time, judged.astype(np.int64))

    @property
    def n_users(self) -> int:
        """Users, those who are not judged too."""
        return len(self.offsets) - 1

    @cached_property
    def user(self) -> NDArray[np.int64]:
        """int64 [N], the user of each event."""
        return np.repeat(np.arange(self.n_users), np.diff(self.offsets))

    def popularity(self, n_items: int) -> NDArray[np.int64]:
        """int64 [n_items], events of each item."""
        return np.bincount(self.item, minlength=n_items).astype(np.int64)

    def had(self, n_items: int) -> csr_array:
        """float64 [n_users, n_items], 1 where the user has had the item."""
        return _ones(self.user, self.item, (self.n_users, n_items))

    def baskets(self, n_items: int) -> Baskets:
        """The instants of all users."""
        is_first = np.r_[True, (np.diff(self.user) != 0) | (np.diff(self.time) != 0)][: len(self.item)]
        number = np.cumsum(is_first) - 1
        starts = np.r_[np.flatnonzero(is_first), len(self.item)]
        items = _ones(number, self.item, (len(starts) - 1, n_items))
        return Baskets(items, np.searchsorted(starts, self.offsets).astype(np.int64))


@dataclass(frozen=True)
class Baskets:
    """The distinct items of each instant, ordered by (user, time).

    items: float64 CSR [B, n_items], 1 for each item. offsets: int64 [n_users + 1]; user u's instants are offsets[u] …
    offsets[u + 1] - 1, oldest first.
    """

    items: csr_array
    offsets: NDArray[np.int64]

    @cached_property
    def user(self) -> NDArray[np.int64]:
        """int64 [B], the user of each instant."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    @cached_property
    def age(self) -> NDArray[np.int64]:
        """int64 [B], 0 for a user's newest instant, 1 for the one before it, …"""
        newest: NDArray[np.int64] = self.offsets[self.user + 1] - 1
        return newest - np.arange(len(self.user))

    def weighted(self, weights: NDArray[np.float64]) -> csr_array:
        """float64 CSR [n_users, n_items]: the sum of each user's instants by weight. weights: [B]; 0 leaves one out."""
        n_baskets = len(self.user)
        by_user = csr_array((weights, np.arange(n_baskets), self.offsets), shape=(len(self.offsets) - 1, n_baskets))
        by_user.eliminate_zeros()
        return by_user @ self.items


def _ones(row: NDArray[np.int64], column: NDArray[np.int32], shape: tuple[int, int]) -> csr_array:
    matrix = csr_array((np.ones(len(row)), (row, column)), shape=shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix

"""Each user's own past items: how often the user had them, lately counting more or not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from behavior_lib.evaluation.baselines.popularity import popularity_levels
from behavior_lib.evaluation.interactions import Interactions
from behavior_lib.evaluation.ranking import Scores

MICROSECONDS_A_DAY = 86_400_000_000


class OwnFrequency:
    """Each user's own past items by how often the user had them; equal counts, and items never had, by popularity.

    own: int64 CSR [n, V], each user's count of each item that the user had, over the whole history before the cut.
    popularity: int64 [V], events of each item before the cut.
    """

    def __init__(self, own: csr_array, popularity: NDArray[np.int64]) -> None:
        self._own, self._popularity = own, popularity_levels(popularity)
        # One more event of the user's own outweighs any popularity. Whole numbers below 2^53: exact in float64.
        self._one_more = float(self._popularity.max(initial=0)) + 1

    @classmethod
    def decayed(
        cls, interactions: Interactions, n_items: int, half_life: float = 120.0, unit: int = MICROSECONDS_A_DAY
    ) -> OwnFrequency:
        """By the sum over the user's events of an item of 2^(-age / half_life) in place of their number.

        age: of an event before the user's newest one; counting from any other time multiplies all of a user's sums by
        one factor. half_life: in units, of so many steps of the interactions' time: days by default; unit=1 for events
        where times are places. Sums are taken in the order of time; what is older than 1,074 half-lives counts 0.
        Memory: some 60 bytes an event; time: a sort of the events.
        """
        key = interactions.user * n_items + interactions.item
        pairs, pair = np.unique(key, return_inverse=True)
        users, items = np.divmod(pairs, n_items)
        newest = interactions.time[interactions.offsets[interactions.user + 1] - 1]
        fading = np.exp2((interactions.time - newest) / (half_life * unit))
        weights = np.bincount(pair, fading, len(pairs)).astype(np.float64)
        offsets = np.searchsorted(users, np.arange(interactions.n_users + 1))
        shape = interactions.n_users, n_items
        own = csr_array((_places(users, weights, offsets), items, offsets), shape=shape)[interactions.judged]
        return cls(own, interactions.popularity(n_items))

    def __call__(self, rows: slice) -> Scores:
        """float64 [n, V]: ordered by own count, then by popularity."""
        own = self._own[rows]
        scores = np.tile(self._popularity, (own.shape[0], 1))
        user = np.repeat(np.arange(own.shape[0]), np.diff(own.indptr))
        scores[user, own.indices] += own.data * self._one_more
        return scores


def _places(users: NDArray[np.int64], weights: NDArray[np.float64], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """1 for each user's lowest weight, 2 for the next, …; equal weights have one place. users: ascending."""
    order = np.lexsort((weights, users))
    is_next = (np.diff(users[order], prepend=-1) != 0) | (np.diff(weights[order], prepend=-1.0) != 0)
    number = np.cumsum(is_next)
    places = np.empty(len(users), dtype=np.int64)
    places[order] = number - number[offsets[users[order]]] + 1
    return places

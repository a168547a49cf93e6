"""What every model must beat: methods that only count, scored for the same users over the same catalogue."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from behavior_lib.evaluation.ranking import Scores

POPULARITY, RECENT_POPULARITY, OWN_FREQUENCY = "popularity", "recent_popularity", "own_frequency"


class Scorer(Protocol):
    """Anything that scores the catalogue for the users of a split, a batch at a time."""

    def __call__(self, rows: slice) -> Scores:
        """[n, W] for the users rows.start … rows.stop - 1 of the split; -inf for what cannot be recommended."""
        ...


class Popularity:
    """The same list for everybody: items by how often they occurred.

    counts: int64 [V], events of each item before the cut, or within a window before it.
    """

    def __init__(self, counts: NDArray[np.int64]) -> None:
        self._scores = counts.astype(np.float64)

    def __call__(self, rows: slice) -> Scores:
        """float64 [n, V]: the counts, the same row for every user."""
        return np.broadcast_to(self._scores, (rows.stop - rows.start, len(self._scores)))


class OwnFrequency:
    """Each user's own past items by how often the user had them; equal counts, and items never had, by popularity.

    offsets: int64 [n + 1]; user u of the split had items[offsets[u]:offsets[u + 1]] (item indexes, each once), counts
    of them likewise, over the whole history before the cut. popularity: int64 [V], events of each item before the cut.
    """

    def __init__(
        self,
        offsets: NDArray[np.int64],
        items: NDArray[np.int64],
        counts: NDArray[np.int64],
        popularity: NDArray[np.int64],
    ) -> None:
        levels, level = np.unique(popularity, return_inverse=True)
        self._offsets, self._items = offsets, items
        self._popularity = level.astype(np.float64)
        # One more event of the user's own outweighs any popularity. Whole numbers below 2^53: exact in float64.
        self._own = counts.astype(np.float64) * len(levels)

    @classmethod
    def from_pairs(
        cls,
        users: NDArray[np.int64],
        items: NDArray[np.int64],
        counts: NDArray[np.int64],
        n_users: int,
        popularity: NDArray[np.int64],
    ) -> OwnFrequency:
        """From one row a (user, item) in any order. users: positions in the split, 0 … n_users - 1."""
        order = np.argsort(users, kind="stable")
        offsets = np.searchsorted(users[order], np.arange(n_users + 1))
        return cls(offsets.astype(np.int64), items[order], counts[order], popularity)

    def __call__(self, rows: slice) -> Scores:
        """float64 [n, V]: ordered by own count, then by popularity."""
        scores = np.tile(self._popularity, (rows.stop - rows.start, 1))
        bounds = self._offsets[rows.start : rows.stop + 1]
        user = np.repeat(np.arange(rows.stop - rows.start), np.diff(bounds))
        own = slice(bounds[0], bounds[-1])
        scores[user, self._items[own]] += self._own[own]
        return scores

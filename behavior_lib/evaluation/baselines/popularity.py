"""The same list for everybody, and popularity as what decides where a method has nothing to say."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from behavior_lib.evaluation.ranking import Scores


class Popularity:
    """The same list for everybody: items by how often they occurred.

    counts: int64 [V], events of each item before the cut, or within a window before it.
    """

    def __init__(self, counts: NDArray[np.int64]) -> None:
        self._scores = counts.astype(np.float64)

    def __call__(self, rows: slice) -> Scores:
        """float64 [n, V]: the counts, the same row for every user."""
        return np.broadcast_to(self._scores, (rows.stop - rows.start, len(self._scores)))


def popularity_levels(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """float64 [V], whole numbers: 0 for the items with the lowest count, 1 for those with the next, …"""
    return np.unique(counts, return_inverse=True)[1].astype(np.float64)


def below_zero(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """float64 [V] in [-1, 0): items in the order of their counts, below every score that is not negative."""
    levels = popularity_levels(counts)
    return levels / (float(levels.max(initial=0)) + 1) - 1

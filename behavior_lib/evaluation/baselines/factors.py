"""Users and items as vectors that were learned elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from behavior_lib.evaluation.baselines.popularity import below_zero
from behavior_lib.evaluation.ranking import Scores


class Factors:
    """score(u, j) = x_u · y_j, as matrix factorisation has it; users without a vector get popularity.

    users: float [n, d], a row of NaN for a user without. items: float [V, d]. popularity: int64 [V]. A batch costs
    n × V × d.
    """

    def __init__(
        self, users: NDArray[np.floating[Any]], items: NDArray[np.floating[Any]], popularity: NDArray[np.int64]
    ) -> None:
        self._users, self._items, self._rest = users, items, below_zero(popularity)

    def __call__(self, rows: slice) -> Scores:
        """float64 [n, V]."""
        users = self._users[rows]
        scores: Scores = (users @ self._items.T).astype(np.float64)
        scores[np.isnan(users).any(axis=1)] = self._rest
        return scores

"""What comes after what: counts of items in an instant and in those after it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array

from behavior_lib.evaluation.baselines.products import highest_by_row
from behavior_lib.evaluation.interactions import Baskets, Interactions
from behavior_lib.evaluation.ranking import Scores


class Transitions:
    """Transition counts between instants, of several orders, smoothed by popularity: a Markov chain over sets (Rendle
    et al., Factorizing Personalized Markov Chains, WWW 2010) with skips (Shani et al., JMLR 6, 2005).

        c(i, j) = Σ_{d ≤ orders} w(d) · #{i in an instant, j in the same user's d-th instant after it}
        s(i, j) = (c(i, j) + smoothing · p(j)) / (c(i) + smoothing)^source_power / n(j)^target_power
        score(u, j) = Σ_{d ≤ history} v(d) · Σ_{i in u's d-th newest instant} s(i, j)

    c(i) = Σ_j c(i, j); n(j): events of j, p(j) its share of all. w(d) and v(d) are 1/d, or fade^(d - 1) where `fade` or
    `history_fade` give a number. symmetric: c(j, i) is added to c(i, j). source_power = 1 makes rows shares (Dirichlet
    smoothing); target_power > 0 favours rare items; smoothing > 0. Of each i the `neighbours` j with the highest
    c(i, j) / n(j)^target_power are kept. Users without history get popularity.

    Time: Σ over users, their instants and d of the product of both instants' sizes; for a batch its items within
    `history` × neighbours. Memory: 24 bytes × orders an event (twice that where symmetric) and VALUES_HELD values at
    work, 12 bytes × neighbours an item after.
    """

    def __init__(
        self,
        interactions: Interactions,
        n_items: int,
        *,
        orders: int = 5,
        fade: float | None = None,
        history: int = 20,
        history_fade: float | None = None,
        symmetric: bool = False,
        source_power: float = 0.5,
        target_power: float = 0.0,
        smoothing: float = 1.0,
        neighbours: int = 1_000,
    ) -> None:
        baskets, popularity = interactions.baskets(n_items), interactions.popularity(n_items)
        self._share = popularity / max(popularity.sum(), 1)
        self._target = np.maximum(popularity, 1) ** -float(target_power)
        before, after = _pairs(baskets, _weights(orders, fade), symmetric)

        def next_items(rows: slice) -> csr_array:
            block = before[rows] @ after
            block.data *= self._target[block.indices]
            return block

        self._next = highest_by_row(next_items, n_items, n_items, neighbours)
        source = (before @ after.sum(axis=1) + smoothing) ** -float(source_power)
        # 0 for the instants that are too old.
        by_age = np.append(_weights(history, history_fade), 0.0)[np.minimum(baskets.age, history)]
        self._history = (baskets.weighted(by_age)[interactions.judged] @ diags_array(source)).tocsr()
        self._prior = np.where(np.diff(self._history.indptr) > 0, smoothing * self._history.sum(axis=1), 1)

    def __call__(self, rows: slice) -> Scores:
        """float64 [n, V]."""
        counted = (self._history[rows] @ self._next).toarray()
        scores: Scores = counted + self._prior[rows, None] * (self._share * self._target)
        return scores


def _weights(most: int, fade: float | None) -> NDArray[np.float64]:
    """Of the distances 1 … most: 1 / d, or fade^(d - 1)."""
    distance = np.arange(1.0, most + 1)
    return 1 / distance if fade is None else fade ** (distance - 1)


def _pairs(baskets: Baskets, weights: NDArray[np.float64], symmetric: bool) -> tuple[csr_array, csr_array]:
    """Two CSR matrices, [V, m] and [m, V], whose product is c; m: pairs of instants.

    weights: of the distances 1, 2, … between them.
    """
    distance, older = np.nonzero(baskets.age >= np.arange(1, len(weights) + 1)[:, None])
    newer, weight = older + distance + 1, weights[distance]
    if symmetric:
        older, newer, weight = np.r_[older, newer], np.r_[newer, older], np.r_[weight, weight]
    return (diags_array(weight) @ baskets.items[older]).T.tocsr(), baskets.items[newer]

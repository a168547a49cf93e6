"""Items that the same users have had, by cosine."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from behavior_lib.evaluation.baselines.popularity import below_zero
from behavior_lib.evaluation.baselines.products import highest_by_row
from behavior_lib.evaluation.interactions import Interactions
from behavior_lib.evaluation.ranking import Scores


class ItemKnn:
    """Item-based top-N recommendation (Deshpande and Karypis, ACM TOIS 22, 2004) on binary columns of users.

        s(i, j) = n_ij / (sqrt(n_i n_j) + shrinkage)
        score(u, j) = Σ_{i had by u, j among the nearest of i} s(i, j)

    n_i: users who have had i; n_ij: who have had both, i ≠ j. nearest: the `neighbours` items with the highest s(i, ·)
    above 0, of equal ones the lower indexes. shrinkage: as in Ferrari Dacrema et al., RecSys 2019; 0 is plain cosine.
    Items that no item of the user reaches score below all others, by popularity.

    Time: Σ over users of (distinct items)², a batch's Σ over its users' items of `neighbours`. Memory: 12 bytes ×
    neighbours an item, at work VALUES_HELD values of the product.
    """

    def __init__(
        self, interactions: Interactions, n_items: int, *, neighbours: int = 100, shrinkage: float = 20.0
    ) -> None:
        had = interactions.had(n_items)
        by_item = had.T.tocsr()
        n = np.diff(by_item.indptr).astype(np.float64)

        def similar(rows: slice) -> csr_array:
            block = (by_item[rows] @ had).tocsr()
            item = np.repeat(np.arange(rows.start, rows.stop), np.diff(block.indptr))
            block.data /= np.sqrt(n[item] * n[block.indices]) + shrinkage
            block.data[item == block.indices] = 0
            return block

        self._similar = highest_by_row(similar, n_items, n_items, neighbours)
        self._had = had[interactions.judged]
        self._rest = below_zero(interactions.popularity(n_items))

    def __call__(self, rows: slice) -> Scores:
        """float64 [n, V]: above 0 for what is reached, below 0 for the rest."""
        scores = (self._had[rows] @ self._similar).toarray()
        return np.where(scores > 0, scores, self._rest)

"""A linear model of each item by all others, in closed form."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dpotri

from behavior_lib.evaluation.baselines.popularity import below_zero
from behavior_lib.evaluation.interactions import Interactions
from behavior_lib.evaluation.ranking import Scores


class Ease:
    """EASE (Steck, Embarrassingly Shallow Autoencoders for Sparse Data, WWW 2019).

        P = (XᵀX + λ I)⁻¹        B_ij = -P_ij / P_jj, B_jj = 0        score(u, ·) = X_u B

    X: [users, items], 1 where the user has had the item. regularisation: λ. Of the catalogue the `most_items` most
    popular items take part (of equal ones the lower indexes); all others score below all of these, by popularity.
    Users without any of them get popularity.

    With M = min(most_items, V): time M³ once and M × (items had) a user; memory at most 25 M² bytes while it is made
    (630 MB with the default) and 8 M² after.
    Raises ValueError where regularisation is not positive.
    """

    def __init__(
        self, interactions: Interactions, n_items: int, *, regularisation: float = 500.0, most_items: int = 5_000
    ) -> None:
        if regularisation <= 0:
            raise ValueError(f"regularisation must be positive: {regularisation}")
        popularity = interactions.popularity(n_items)
        self._items = np.sort(np.argsort(-popularity, kind="stable")[:most_items])
        had = interactions.had(n_items)[:, self._items].tocsr()
        gram = (had.T @ had).toarray()
        gram[np.diag_indices_from(gram)] += regularisation
        self._weights = _inverse(gram)
        self._weights /= -np.diag(self._weights)
        np.fill_diagonal(self._weights, 0)
        self._had = had[interactions.judged]
        self._rest = below_zero(popularity)

    def __call__(self, rows: slice) -> Scores:
        """float64 [n, V]: by the weights, then what does not take part."""
        had = self._had[rows]
        known = had @ self._weights
        known[np.diff(had.indptr) == 0] = self._rest[self._items]
        scores: Scores = known.min(axis=1, keepdims=True, initial=0) + self._rest
        scores[:, self._items] = known
        return scores


def _inverse(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of a symmetric positive definite matrix, which is overwritten. By Cholesky."""
    # The transpose of a symmetric matrix is the same matrix in the order that LAPACK writes into.
    factor, failed = dpotrf(matrix.T, lower=1, clean=0, overwrite_a=1)
    assert not failed, "the sum of a Gram matrix and a positive diagonal is positive definite"
    inverse, failed = dpotri(factor, lower=1, overwrite_c=1)
    assert not failed
    lower = np.tril(inverse)
    lower += np.tril(lower, -1).T
    return np.ascontiguousarray(lower)

"""Personal item frequency that fades over baskets, and that of the users most alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from behavior_lib.evaluation.baselines.popularity import below_zero
from behavior_lib.evaluation.baselines.products import highest, row_blocks
from behavior_lib.evaluation.interactions import Baskets, Interactions
from behavior_lib.evaluation.ranking import Scores


class TifuKnn:
    """TIFU-KNN (Hu, He, Gao and Zhang, Modeling Personalized Item Frequency Information for Next-basket Recommendation,
    SIGIR 2020).

    A user's B baskets (instants), oldest first, are cut into m = min(groups, B) groups of equal size; where they cannot
    be equal, newer groups have one basket more. With x baskets b_1 … b_x (vectors of 0 and 1) in a group

        v_g = (1/x) Σ_j within^(x - j) b_j        v_u = (1/m) Σ_g between^(m - g) v_g
        score(u, ·) = alpha · v_u + (1 - alpha) · mean of v over the `neighbours` users nearest to u

    by the Euclidean distance of v, without u and users without history; of equally near users the lower rows. (The
    authors' code lets the power of `within` run over all baskets, not within a group; this is the paper's.) Defaults:
    the paper's for Ta-Feng.
    Items that score 0 come last, by popularity; users without history get popularity.

    Time: every judged user against all users, Σ over both of the items that they share. Memory: 12 bytes × the distinct
    items of all users, and VALUES_HELD distances at work.
    """

    def __init__(
        self,
        interactions: Interactions,
        n_items: int,
        *,
        neighbours: int = 300,
        within: float = 0.9,
        between: float = 0.7,
        alpha: float = 0.7,
        groups: int = 7,
    ) -> None:
        self._users = user_vectors(interactions.baskets(n_items), within, between, groups)
        self._squares = np.asarray((self._users * self._users).sum(axis=1))
        self._judged, self._neighbours, self._alpha = interactions.judged, neighbours, alpha
        self._rest = below_zero(interactions.popularity(n_items))

    def __call__(self, rows: slice) -> Scores:
        """float64 [n, V]: above 0 for what the user or a neighbour has had, below 0 for the rest."""
        own = self._users[self._judged[rows]]
        scores = (self._alpha * own + (1 - self._alpha) * (self._nearest(self._judged[rows]) @ self._users)).toarray()
        scores[np.diff(own.indptr) == 0] = 0
        return np.where(scores > 0, scores, self._rest)

    def _nearest(self, users: NDArray[np.int64]) -> csr_array:
        """CSR [n, all users]: each row's neighbours, with weights that sum to 1."""
        n_users = len(self._squares)
        everybody, columns, offsets = np.arange(n_users), [np.zeros(0, dtype=np.int64)], [0]
        for block in row_blocks(len(users), n_users):
            shared = (self._users[users[block]] @ self._users.T).toarray()
            # Less its own square, which all distances of a row have, and turned: the nearest is the highest.
            nearness = np.where(self._squares > 0, 2 * shared - self._squares, -np.inf)
            nearness[np.arange(len(nearness)), users[block]] = -np.inf
            for row in nearness:
                nearest = highest(row, everybody, self._neighbours)
                columns.append(nearest[row[nearest] > -np.inf])
                offsets.append(offsets[-1] + len(columns[-1]))
        weights = np.repeat(1 / np.maximum(np.diff(offsets), 1), np.diff(offsets))
        return csr_array((weights, np.concatenate(columns), np.array(offsets)), shape=(len(users), n_users))


def user_vectors(baskets: Baskets, within: float, between: float, groups: int) -> csr_array:
    """float64 CSR [n_users, n_items], v_u of every user; empty rows for those without a basket."""
    n_baskets = np.diff(baskets.offsets)[baskets.user]
    n_groups = np.minimum(groups, n_baskets)
    size, n_larger = np.divmod(n_baskets, n_groups)
    # Counted from the newest back the larger groups come first.
    in_larger = baskets.age < n_larger * (size + 1)
    smaller_age = baskets.age - n_larger * (size + 1)
    size = np.where(in_larger, size + 1, size)
    group_age = np.where(in_larger, baskets.age // size, n_larger + smaller_age // size)
    age = np.where(in_larger, baskets.age, smaller_age) % size
    return baskets.weighted(within**age / size * between**group_age / n_groups)

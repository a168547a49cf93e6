"""Figures of ranked targets, one a user, and their means with standard errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

SURE = "*: told from 0 by Student's t at 95 %; never from one value, or from values that are all alike"

_ROUNDING = 1e-9  # of a mean: the deviation of equal numbers need not be exactly 0


@dataclass(frozen=True)
class Metric:
    """A mean over `n_users` users and its standard error (sample standard deviation / sqrt(n)).

    The error is None where there is no distribution over users (coverage) or only one user.
    """

    value: float
    standard_error: float | None
    n_users: int

    @classmethod
    def over_users(cls, values: NDArray[np.float64]) -> Metric:
        """values: float64 [n], NaN for users who do not count. Where nobody counts the mean is NaN."""
        known = values[~np.isnan(values)]
        error = float(known.std(ddof=1) / np.sqrt(len(known))) if len(known) > 1 else None
        return cls(float(known.mean()) if len(known) else float("nan"), error, len(known))

    def __str__(self) -> str:
        """With its error, where there is one."""
        return f"{self.value:.4f}" + ("" if self.standard_error is None else f" ± {self.standard_error:.4f}")

    @property
    def is_sure(self) -> bool:
        """Whether the mean is told from 0: `is_sure`."""
        return is_sure(self.value, self.standard_error, self.n_users)


def is_sure(mean: float, standard_error: float | None, n: int) -> bool:
    """Whether a mean of n values is told from 0: it is further off than the error times the .975 quantile of Student's
    t with n - 1 degrees of freedom (1.96 for many values, 12.7 for two).

    Never where n < 2, or where the error is not known or 0: values that are all alike say nothing of their spread.
    """
    if n < 2 or standard_error is None or standard_error <= _ROUNDING * abs(mean):
        return False
    return bool(abs(mean) > stdtrit(n - 1, 0.975) * standard_error)


@dataclass(frozen=True)
class Ranks:
    """The targets of n users, a row a target, in the order of the users.

    user: int64 [T], 0 … n_users - 1, ascending; not every user needs a target. item: int64 [T]. rank: float64 [T] from
    1, inf for a miss; whole numbers and halves, as behavior_lib/evaluation/ranking.py says. own_before: float64 [T],
    how many places of it items of the user's past take; None where the past is not known.
    """

    n_users: int
    user: NDArray[np.int64]
    item: NDArray[np.int64]
    rank: NDArray[np.float64]
    own_before: NDArray[np.float64] | None = None

    def only(self, chosen: NDArray[np.bool_]) -> Ranks:
        """Some of the targets, at the ranks that they have among all items. chosen: bool [T]."""
        return Ranks(self.n_users, self.user[chosen], self.item[chosen], self.rank[chosen])

    def among_new(self, chosen: NDArray[np.bool_]) -> Ranks:
        """Some of the targets, at the ranks that they have among the items that are not of their user's past.

        chosen: bool [T], none of which is of the past.
        """
        assert self.own_before is not None
        rank = self.rank[chosen] - self.own_before[chosen]
        return Ranks(self.n_users, self.user[chosen], self.item[chosen], rank)

    def at(self, k: int) -> dict[str, NDArray[np.float64]]:
        """Metrics of the k first places by name, each float64 [n_users], NaN for a user without a target.

        With m targets, those at r <= k being hits: hit_rate: 1 where there is a hit; recall: hits / m; ndcg: sum of
        1 / log2(1 + r) over the hits, over that of min(m, k) targets on the first places; precision: hits / k; map:
        average precision, the sum over the hits of (targets up to r) / r, over min(m, k) (Manning et al., Introduction
        to Information Retrieval, 8.4, with the divisor for lists of k); mrr: 1 / r of the first hit, 0 without one. Of
        targets that share a rank half the others
        count as before it. ndcg and map are at most 1, also where more than k targets share one score.
        """
        hit = self.rank <= k
        hits = self._sums(hit)
        rank = np.where(hit, self.rank, 1)
        ideal = np.cumsum(1 / np.log2(np.arange(2, k + 2)))[np.clip(self._n_targets, 1, k).astype(int) - 1]
        best = np.minimum(self._n_targets, k)
        with np.errstate(invalid="ignore"):
            figures = {
                "hit_rate": (hits > 0).astype(np.float64),
                "recall": hits / self._n_targets,
                "ndcg": np.minimum(self._sums(hit / np.log2(1 + rank)) / ideal, 1),
                "precision": hits / k,
                "map": np.minimum(self._sums(hit * self._place_among_targets / rank) / best, 1),
                "mrr": self._most(hit / rank),
            }
        return {name: np.where(self._n_targets > 0, values, np.nan) for name, values in figures.items()}

    def reciprocal(self) -> NDArray[np.float64]:
        """float64 [n_users]: 1 / rank of the first target, NaN for a user without a target."""
        return np.where(self._n_targets > 0, self._most(1 / self.rank), np.nan)

    @cached_property
    def _n_targets(self) -> NDArray[np.float64]:
        return self._sums(np.ones(len(self.user)))

    @cached_property
    def _place_among_targets(self) -> NDArray[np.float64]:
        """float64 [T]: each target's mid-rank among the targets of its user."""
        order = np.lexsort((self.rank, self.user))
        user, rank = self.user[order], self.rank[order]
        starts = np.flatnonzero(np.r_[True, (user[1:] != user[:-1]) | (rank[1:] != rank[:-1])][: len(user)])
        sizes = np.diff(np.r_[starts, len(user)])
        before = starts - np.searchsorted(user, user[starts])
        places = np.empty(len(user))
        places[order] = np.repeat(before + (sizes + 1) / 2, sizes)
        return places

    def _most(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64 [n_users]: the largest of each user's values [T], which are not below 0; 0 where there is none."""
        most = np.zeros(self.n_users)
        np.maximum.at(most, self.user, values)
        return most

    def _sums(self, values: NDArray[np.float64] | NDArray[np.bool_]) -> NDArray[np.float64]:
        return np.bincount(self.user, values, self.n_users).astype(np.float64)


def as_rows(
    metrics: Mapping[str, Mapping[str, Metric]], lead_errors: Mapping[str, Mapping[str, float | None]], **columns: Any
) -> list[dict[str, Any]]:
    """EVALUATIONS rows of metrics by method and name. lead_errors: of the model's mean minus the method's, where they
    are known. columns: the others.
    """
    return [
        {
            "method": method,
            "metric": name,
            "value": metric.value,
            "standard_error": metric.standard_error,
            "lead_standard_error": lead_errors.get(method, {}).get(name),
            "n_users": metric.n_users,
            **columns,
        }
        for method, by_name in metrics.items()
        for name, metric in by_name.items()
    ]

"""Ranking metrics over the whole catalogue, one figure a user, streamed over batches of scores.

Ties. The rank of an item is the mean of the places that its group of equal scores takes: with `g` candidates above it
and a group of `e` (itself included), r = g + (e + 1) / 2, which is its expected place when ties are broken at random.
r is a whole number or a half. A target is a hit at k when r <= k, its gain is 1 / log2(1 + r) and its reciprocal rank
1 / r, all at the r as it stands, never rounded; an item is in a user's top k when its r <= k. A method that gives
every item one score therefore has no hit and covers nothing, whatever the order of the columns. Where more than k
targets of one user share one score the gains can exceed the ideal ones; NDCG is then 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from behavior_lib.errors import DataRefused
from behavior_lib.tables.items import PADDING_INDEX

Scores = NDArray[np.floating[Any]]

_BLOCK = 64


@dataclass(frozen=True)
class Metric:
    """A mean over users and its standard error (sample standard deviation / sqrt(n)).

    The error is None where there is no distribution over users (coverage) or only one user.
    """

    value: float
    standard_error: float | None

    @classmethod
    def over_users(cls, values: NDArray[np.float64]) -> Metric:
        """values: float64 [n], n >= 1."""
        error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
        return cls(float(values.mean()), error)


@dataclass(frozen=True)
class Ranking:
    """How well one method ranked the catalogue for n users.

    hit_rate, recall, ndcg, reciprocal_rank: float64 [n], the first three at k, in the order in which the users were
    added. coverage: share of the catalogue that is in at least one user's top k.
    """

    k: int
    hit_rate: NDArray[np.float64]
    recall: NDArray[np.float64]
    ndcg: NDArray[np.float64]
    reciprocal_rank: NDArray[np.float64]
    coverage: float

    @property
    def n_users(self) -> int:
        """Users judged."""
        return len(self.ndcg)

    def metrics(self) -> dict[str, Metric]:
        """Each metric by its name in the evaluations table."""
        means = {name: Metric.over_users(values) for name, values in self._by_user().items()}
        return {**means, f"coverage@{self.k}": Metric(self.coverage, None)}

    def lead_errors(self, other: Ranking) -> dict[str, float | None]:
        """Each metric's paired standard error of this ranking's mean minus the other's, on the same users."""
        theirs = other._by_user()
        return {
            name: Metric.over_users(values - theirs[name]).standard_error for name, values in self._by_user().items()
        }

    def _by_user(self) -> dict[str, NDArray[np.float64]]:
        return {
            f"hit_rate@{self.k}": self.hit_rate,
            f"recall@{self.k}": self.recall,
            f"ndcg@{self.k}": self.ndcg,
            "mrr": self.reciprocal_rank,
        }


class RankingMeter:
    """Takes batches of scores and keeps a few numbers a user, so that memory does not grow with the catalogue × users.

    k: places that count. catalogue: bool [V] over item indexes, True for the items that are ranked; every other
    column is no candidate, and a target outside the catalogue is a miss that still counts among the user's targets.
    """

    def __init__(self, k: int, catalogue: NDArray[np.bool_]) -> None:
        if k < 1 or not catalogue.any():
            raise ValueError(f"k must be positive and the catalogue not empty: k={k}, {int(catalogue.sum())} items")
        self._k = k
        self._catalogue = catalogue
        self._covered = np.zeros(len(catalogue), dtype=bool)
        self._users: list[NDArray[np.float64]] = []  # one [4, n] a batch, in the order of Ranking's fields

    def add(self, scores: Scores, targets: NDArray[np.integer[Any]]) -> None:
        """Judge n users.

        scores: [n, W], W <= V, higher is better; -inf for an item that the method cannot recommend, and items from W on
        are of that kind too. targets: [n, m] distinct item indexes, right-padded with 0, at least one a user.
        Raises DataRefused where a score is NaN.
        """
        # Popularity shows every user the same row; one look at it is enough.
        distinct = scores[:1] if scores.strides[0] == 0 else scores
        if np.isnan(distinct).any():
            raise DataRefused("a score is not a number", where="the scores to rank", mend="train again")
        if (targets == PADDING_INDEX).all(axis=1).any():
            raise ValueError("a user without a target cannot be judged")
        candidates = self._candidates(distinct)
        self._cover(candidates)
        candidates = np.broadcast_to(candidates, (len(scores), candidates.shape[1]))
        self._users.append(_per_user(mid_ranks(candidates, targets), targets != PADDING_INDEX, self._k))

    def result(self) -> Ranking:
        """The metrics of every user added so far, at least one."""
        hit_rate, recall, ndcg, reciprocal_rank = np.concatenate(self._users, axis=1)
        coverage = float(self._covered.sum() / self._catalogue.sum())
        return Ranking(self._k, hit_rate, recall, ndcg, reciprocal_rank, coverage)

    def _candidates(self, scores: Scores) -> Scores:
        """The scores with -inf for all that is not in the catalogue, and columns of -inf up to a whole block."""
        n, width = scores.shape
        candidates = np.full((n, -(-width // _BLOCK) * _BLOCK), -np.inf, dtype=scores.dtype)
        np.copyto(candidates[:, :width], scores, where=self._catalogue[:width])
        return candidates

    def _cover(self, candidates: Scores) -> None:
        top, scores = _best(candidates, min(2 * self._k, candidates.shape[1]))
        # Counted within the best 2k alone: the one group that may go on beyond them would then have g + e > 2k and so
        # r > k, and it is counted with g + e = 2k here, which is r > k as well.
        above = (scores[:, None, :] > scores[:, :, None]).sum(axis=2)
        equal = (scores[:, None, :] == scores[:, :, None]).sum(axis=2)
        in_top = (above + (equal + 1) / 2 <= self._k) & (scores > -np.inf)
        self._covered[top[in_top]] = True


def _best(candidates: Scores, places: int) -> tuple[NDArray[np.intp], Scores]:
    """The columns of the `places` highest scores of each row, and these scores, in no order.

    Whatever is among the highest scores lies in one of as many blocks with the highest maxima, so only these are
    partitioned: four times faster than the whole row.
    """
    blocks = candidates.reshape(len(candidates), -1, _BLOCK)
    chosen = _highest(blocks.max(axis=2), min(places, blocks.shape[1]))
    pool = np.take_along_axis(blocks, chosen[:, :, None], axis=1).reshape(len(candidates), -1)
    place = _highest(pool, places)
    columns = np.take_along_axis(chosen, place // _BLOCK, axis=1) * _BLOCK + place % _BLOCK
    return columns, np.take_along_axis(pool, place, axis=1)


def _highest(values: Scores, n: int) -> NDArray[np.intp]:
    first = values.shape[1] - n
    return np.argpartition(values, first, axis=1)[:, first:]


def mid_ranks(scores: Scores, targets: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """float64 [n, m]: the rank from 1 of each target among its user's candidates, ties as the module says.

    scores: [n, W], -inf for no candidate. targets: [n, m] item indexes. A target that is no candidate, or whose index
    is W or more, has the rank inf; so has the padding 0 wherever column 0 is no candidate.
    """
    ranks = np.full(targets.shape, np.inf)
    width = scores.shape[1]
    for user, position in zip(*np.nonzero((targets != PADDING_INDEX) & (targets < width)), strict=True):
        row = scores[user]
        score = row[targets[user, position]]
        if score > -np.inf:
            ranks[user, position] = np.count_nonzero(row > score) + (np.count_nonzero(row == score) + 1) / 2
    return ranks


def _per_user(ranks: NDArray[np.float64], is_target: NDArray[np.bool_], k: int) -> NDArray[np.float64]:
    """float64 [4, n]: hit rate, recall, NDCG at k, and reciprocal rank of the first target."""
    hits = (ranks <= k) & is_target
    n_targets = is_target.sum(axis=1)
    gains = np.where(hits, 1 / np.log2(1 + np.where(hits, ranks, 1)), 0).sum(axis=1)
    ideal = np.cumsum(1 / np.log2(np.arange(2, k + 2)))[np.minimum(n_targets, k) - 1]
    return np.stack(
        (
            hits.any(axis=1).astype(np.float64),
            hits.sum(axis=1) / n_targets,
            np.minimum(gains / ideal, 1),
            1 / np.where(is_target, ranks, np.inf).min(axis=1),
        )
    )

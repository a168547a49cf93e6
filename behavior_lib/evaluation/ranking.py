"""Ranking metrics over the whole catalogue, one figure a user, streamed over batches of scores.

Ties. The rank of an item is the mean of the places that its group of equal scores takes: with `g` candidates above it
and a group of `e` (itself included), r = g + (e + 1) / 2, which is its expected place when ties are broken at random.
r is a whole number or a half. A target is a hit at k when r <= k, its gain is 1 / log2(1 + r) and its reciprocal rank
1 / r, all at the r as it stands, never rounded; an item is in a user's top k when its r <= k. A method that gives
every item one score therefore has no hit and covers nothing, whatever the order of the columns. Where more than k
targets of one user share one score the gains can exceed the ideal ones; NDCG is then 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from behavior_lib.errors import DataRefused
from behavior_lib.evaluation.background import NOVEL, Background
from behavior_lib.evaluation.metrics import Metric, Ranks
from behavior_lib.tables.items import PADDING_INDEX

Scores = NDArray[np.floating[Any]]
Values = NDArray[np.float64]

_BLOCK = 64
_OF_GROUPS = ("recall", "ndcg")
# Of novel targets, where the user's own items are not ranked: how well a method finds what is new to its user, whatever
# it thinks of the rest (the "explore" side of Li et al. 2023, "A Next Basket Recommendation Reality Check").
AMONG_NEW = "among_new"


@dataclass(frozen=True)
class Ranking:
    """How well one method ranked the catalogue for n users, in the order in which they were added.

    ks: the headline's k, then others. ranks: of all targets. coverage: k → share of the catalogue that is in at least
    one user's top k; of no k where nobody's was looked at. shown: k → figures of the users' top k by name
    (`Background.of_lists`), each float64 [n], NaN for a user whose top k is empty. groups: some of the targets by name
    (`Background.groups`), bool [T].
    """

    ks: tuple[int, ...]
    ranks: Ranks
    coverage: Mapping[int, float]
    shown: Mapping[int, Mapping[str, Values]] = field(default_factory=dict)
    groups: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)

    @property
    def n_users(self) -> int:
        """Users judged."""
        return self.ranks.n_users

    @cached_property
    def headline(self) -> dict[str, Values]:
        """The metrics of the first k by name, each float64 [n]."""
        return dict(self._at(self.ks[0]))

    @property
    def ndcg(self) -> Values:
        """float64 [n], NDCG at the headline's k."""
        return self.headline[f"ndcg@{self.ks[0]}"]

    def metrics(self) -> dict[str, Metric]:
        """The headline's metrics by their names in the evaluations table, without those that no user has."""
        return {**_means(self.headline.items()), **self._coverage(self.ks[:1])}

    def all_metrics(self) -> dict[str, Metric]:
        """Those of the headline, of every other k, and of groups of targets (`ndcg@10|novel`, `|among_new`)."""
        return {**_means(self.by_user()), **self._coverage(self.ks)}

    def lead_errors(self, other: Ranking) -> dict[str, float | None]:
        """Each metric's paired standard error of this ranking's mean minus the other's, on the same users."""
        pairs = zip(self.by_user(), other.by_user(), strict=True)
        return {name: Metric.over_users(own - theirs).standard_error for (name, own), (_, theirs) in pairs}

    def by_user(self) -> Iterator[tuple[str, Values]]:
        """Every metric but coverage by name, float64 [n], NaN for users who do not count; for all in one order."""
        yield from self.headline.items()
        for k in self.ks[1:]:
            yield from ((name, values) for name, values in self._at(k) if "@" in name)
        k = self.ks[0]
        for group, chosen in self.groups.items():
            if chosen.any():
                of_group = self.ranks.only(chosen).at(k)
                yield from ((f"{name}@{k}|{group}", of_group[name]) for name in _OF_GROUPS)
        if (novel := self.groups.get(NOVEL)) is not None and novel.any():
            among_new = self.ranks.among_new(novel).at(k)
            yield from ((f"{name}@{k}|{AMONG_NEW}", among_new[name]) for name in _OF_GROUPS)

    def _at(self, k: int) -> Iterator[tuple[str, Values]]:
        yield from ((f"{name}@{k}", values) for name, values in self.ranks.at(k).items())
        yield "mrr", self.ranks.reciprocal()
        yield from ((f"{name}@{k}", values) for name, values in self.shown.get(k, {}).items())

    def _coverage(self, ks: Sequence[int]) -> dict[str, Metric]:
        return {f"coverage@{k}": Metric(self.coverage[k], None, self.n_users) for k in ks if k in self.coverage}


def _means(by_user: Iterable[tuple[str, Values]]) -> dict[str, Metric]:
    means = ((name, Metric.over_users(values)) for name, values in by_user)
    return {name: mean for name, mean in means if mean.n_users}


class RankingMeter:
    """Takes batches of scores and keeps a few numbers a user, so that memory does not grow with the catalogue × users.

    k: places that count. catalogue: bool [V] over item indexes, True for the items that are ranked; every other
    column is no candidate, and a target outside the catalogue is a miss that still counts among the user's targets.
    more_k: other numbers of places to count. background: of the users in the order in which they are added; None where
    nothing is told apart by it. has_lists: whether to look at what is in each top k, for coverage and the background.
    """

    def __init__(
        self,
        k: int,
        catalogue: NDArray[np.bool_],
        more_k: Sequence[int] = (),
        background: Background | None = None,
        *,
        has_lists: bool = True,
    ) -> None:
        if background is not None and not has_lists:
            raise ValueError("a background tells of lists")
        self._ks = tuple(dict.fromkeys((k, *more_k)))
        if min(self._ks) < 1 or not catalogue.any():
            known = int(catalogue.sum())
            raise ValueError(f"k must be positive and the catalogue not empty: k={self._ks}, {known} items")
        self._catalogue, self._background = catalogue, background
        self._covered = {k: np.zeros(len(catalogue), dtype=bool) for k in self._ks if has_lists}
        self._shown: list[Values] = []  # one [k, name, n] a batch
        self._ranks: list[Ranks] = []  # one a batch
        self._n_users = 0

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
        if self._covered:
            self._shown.append(self._look_at_top(candidates, len(scores)))
        candidates = np.broadcast_to(candidates, (len(scores), candidates.shape[1]))
        user, place = np.nonzero(targets != PADDING_INDEX)
        rank = mid_ranks(candidates, targets)[user, place]
        item = targets[user, place].astype(np.int64)
        before = None
        if self._background is not None:
            before = self._background.own_before(self._n_users, candidates, user, item)
        self._ranks.append(Ranks(len(scores), user + self._n_users, item, rank, before))
        self._n_users += len(scores)

    def result(self) -> Ranking:
        """The metrics of every user added so far, at least one."""
        names = ("user", "item", "rank", *(() if self._background is None else ("own_before",)))
        columns = {name: np.concatenate([vars(batch)[name] for batch in self._ranks]) for name in names}
        ranks = Ranks(self._n_users, **columns)
        coverage = {k: float(covered.sum() / self._catalogue.sum()) for k, covered in self._covered.items()}
        by_k = {}
        if self._background is not None:
            shown, listed = np.concatenate(self._shown, axis=2), self._background.list_metrics
            by_k = {k: dict(zip(listed, of_k, strict=True)) for k, of_k in zip(self._ks, shown, strict=True)}
        groups = {} if self._background is None else self._background.groups(ranks)
        return Ranking(self._ks, ranks, coverage, by_k, groups)

    def _candidates(self, scores: Scores) -> Scores:
        """The scores with -inf for all that is not in the catalogue, and columns of -inf up to a whole block."""
        n, width = scores.shape
        candidates = np.full((n, -(-width // _BLOCK) * _BLOCK), -np.inf, dtype=scores.dtype)
        np.copyto(candidates[:, :width], scores, where=self._catalogue[:width])
        return candidates

    def _look_at_top(self, candidates: Scores, n_users: int) -> Values:
        """Note what is in each top k. Returns float64 [k, name, n], what `Background.of_lists` says of them.

        candidates: [n, W], or one row that all users are shown.
        """
        most = max(self._ks)
        top, scores = _best(candidates, min(2 * most, candidates.shape[1]))
        # Counted within the best 2k alone: the one group that may go on beyond them would then have g + e > 2k and so
        # r > k, and it is counted with g + e = 2k here, which is r > k as well.
        above = (scores[:, None, :] > scores[:, :, None]).sum(axis=2)
        equal = (scores[:, None, :] == scores[:, :, None]).sum(axis=2)
        rank = np.where(scores > -np.inf, above + (equal + 1) / 2, np.inf)
        for k in self._ks:
            self._covered[k][top[rank <= k]] = True
        if self._background is None:
            return np.empty((len(self._ks), 0, n_users))
        # Columns of a whole block may lie beyond the catalogue; nothing there is in a top.
        items = np.minimum(top, len(self._catalogue) - 1)
        users = slice(self._n_users, self._n_users + n_users)
        return self._background.of_lists(users, items, rank, self._ks)


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

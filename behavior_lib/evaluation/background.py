"""What was known of users and items before the cut, by which figures are told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from behavior_lib.evaluation.calibration import Grouping, miscalibration
from behavior_lib.evaluation.metrics import Ranks

HEAD_SHARE, MIDDLE_SHARE = 0.01, 0.1  # of the catalogue, most popular first
NOVEL, MISCALIBRATION = "novel", "miscalibration"
COLD_USERS, COLD_ITEMS = "cold_users", "cold_items"
_QUARTILES = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Background:
    """The state before the cut.

    popularity: int64 [V], events of each item; items without any are not of the catalogue. own: int64 CSR [n, V], how
    often each judged user had each item. has_past: bool [n], whether the user had any event, also one that names no
    item of the catalogue. attributes: groups of items by the name of an attribute.
    """

    popularity: NDArray[np.int64]
    own: csr_array
    has_past: NDArray[np.bool_]
    attributes: Mapping[str, Grouping] = field(default_factory=dict)

    @cached_property
    def stratum(self) -> NDArray[np.int64]:
        """int64 [V]: 0 for the most popular hundredth of the catalogue (head), 1 up to a tenth (middle), else 2 (tail).

        Rounded up; of equal counts the lower index is the more popular one. Items outside the catalogue are tail.
        """
        order = np.argsort(-self.popularity, kind="stable")
        n_known = int((self.popularity > 0).sum())
        strata = np.full(len(self.popularity), 2)
        strata[order[: int(np.ceil(MIDDLE_SHARE * n_known))]] = 1
        strata[order[: int(np.ceil(HEAD_SHARE * n_known))]] = 0
        return strata

    @cached_property
    def worth(self) -> dict[str, NDArray[np.float64]]:
        """What the items of a list are worth by name, each float64 [V]; a list's figure is the mean over its items.

        novelty: self-information -log2(p), p being the item's share of all events (Zhou et al., PNAS 107, 2010; Vargas
        and Castells, RecSys 2011). popularity: events of the item (average recommendation popularity) and long_tail: 1
        for what is no head or middle (average percentage of long-tail items; both Abdollahpouri et al., FLAIRS 2019).
        """
        share = np.maximum(self.popularity, 1) / self.popularity.sum()  # the 1 is of items outside the catalogue
        return {
            "novelty": -np.log2(share),
            "popularity": self.popularity.astype(np.float64),
            "long_tail": (self.stratum == 2).astype(np.float64),
        }

    @cached_property
    def groupings(self) -> dict[str, Grouping]:
        """By whose groups a list is compared with the user's past, by the name of the figure.

        miscalibration: `stratum`, which every source has (head, middle and tail, as Abdollahpouri et al., RecSys 2020,
        compare them); miscalibration_NAME: the attribute's values.
        """
        of_attributes = {f"{MISCALIBRATION}_{name}": grouping for name, grouping in self.attributes.items()}
        return {MISCALIBRATION: Grouping(self.stratum), **of_attributes}

    @property
    def list_metrics(self) -> tuple[str, ...]:
        """The names of what `of_lists` tells, in its order."""
        return (*self.worth, *self.groupings)

    def of_lists(
        self, users: slice, items: NDArray[np.intp], rank: NDArray[np.float64], ks: Sequence[int]
    ) -> NDArray[np.float64]:
        """float64 [k, metric, n]: the figures of the users' lists; NaN for a user whose list is empty.

        users: numbers of the n users. items, rank: [n, m], or one row that all users are shown; a list of k has the
        items with rank <= k.
        """
        past = [grouping.of_counts(self.own[users]) for grouping in self.groupings.values()]
        figures = []
        for k in ks:
            chosen = rank <= k
            means = [_mean(worth[items], chosen) for worth in self.worth.values()]
            apart = [
                miscalibration(had, grouping.of_lists(items, chosen))
                for had, grouping in zip(past, self.groupings.values(), strict=True)
            ]
            figures.append(np.stack(np.broadcast_arrays(*means, *apart)))
        return np.stack(figures)

    def own_before(
        self, first: int, scores: NDArray[np.floating[Any]], user: NDArray[np.int64], item: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """float64 [T]: how many of a user's own items stand before each target, those of its own score as halves.

        first: the number of the first user of scores [n, W], higher is better, own items from W on stand behind.
        user: int64 [T], 0 … n - 1, ascending. item: int64 [T]; for one without a score 0.
        """
        before, width = np.zeros(len(user)), scores.shape[1]
        starts = np.searchsorted(user, np.arange(len(scores) + 1))
        for row, (start, end) in enumerate(pairwise(starts)):
            place = slice(self.own.indptr[first + row], self.own.indptr[first + row + 1])
            own = self.own.indices[place]
            own_scores = np.sort(scores[row, own[own < width]])
            targets = item[start:end]
            score = np.where(targets < width, scores[row, np.minimum(targets, width - 1)], -np.inf)
            low, high = (np.searchsorted(own_scores, score, side) for side in ("left", "right"))
            before[start:end] = np.where(score > -np.inf, len(own_scores) - (low + high) / 2, 0.0)
        return before

    def groups(self, ranks: Ranks) -> dict[str, NDArray[np.bool_]]:
        """Some of the targets by name, each bool [T].

        repeat: items that the user has had; novel: all others, so also what the user had before it got a number
        (`vocabulary`): own counts are of numbered items. head, middle, tail: by `stratum`, of the catalogue;
        cold_items: what is not of it, and so a miss of every method. history_q1 … q4: all targets of the users whose
        events of the catalogue are among the fewest quarter …, quartiles of those with a past by linear interpolation;
        users with as many events are in the same, the lower one. cold_users: all targets of users without a past.
        """
        width = len(self.popularity)
        own = np.repeat(np.arange(self.own.shape[0]), np.diff(self.own.indptr)) * width + self.own.indices
        is_known = ranks.item < width
        item = np.where(is_known, ranks.item, 0)
        is_own = np.isin(ranks.user * width + ranks.item, own) & is_known
        is_warm = is_known & (self.popularity[item] > 0)
        quarter = self._quarter[ranks.user]
        strata = enumerate(("head", "middle", "tail"))
        return {
            "repeat": is_own,
            NOVEL: ~is_own,
            **{name: is_warm & (self.stratum[item] == number) for number, name in strata},
            COLD_ITEMS: ~is_warm,
            **{f"history_q{number + 1}": quarter == number for number in range(len(_QUARTILES) + 1)},
            COLD_USERS: ~self.has_past[ranks.user],
        }

    @property
    def _quarter(self) -> NDArray[np.int64]:
        """int64 [n]: 0 for the users with the fewest events … 3; -1 for those without a past."""
        quarter = np.full(len(self.has_past), -1)
        if self.has_past.any():
            activity = self.own.sum(axis=1)[self.has_past]
            quarter[self.has_past] = np.searchsorted(np.quantile(activity, _QUARTILES), activity)
        return quarter


def _mean(values: NDArray[np.float64], chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """float64 [n]: the mean of the chosen of each row, NaN where there are none. values, chosen: [n, m]."""
    length = chosen.sum(axis=1)
    return np.divide((values * chosen).sum(axis=1), length, out=np.full(len(values), np.nan), where=length > 0)

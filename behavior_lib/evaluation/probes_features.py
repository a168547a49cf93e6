"""What a probe reads of a user: the model's vector, figures made by hand, and the items by TF-IDF."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.linalg import svds
from sklearn.feature_extraction.text import TfidfTransformer

VECTORS, AGGREGATES, TF_IDF, MAJORITY = "vectors", "aggregates", "tf_idf", "majority"
TOGETHER = "+".join((VECTORS, AGGREGATES, TF_IDF))

_DAY_US = 86_400_000_000
_RECENT_DAYS = (7, 28, 90)
_HOURS_OF_A_PART = 3
_MOST_KINDS = 20
_NO_ITEM = -1
_SMALLEST = 1e-9  # singular value beside the largest that is still no rounding


@dataclass(frozen=True)
class UserEvents:
    """The events of n users before a cut, [N] each, ordered by (user, time, item, value).

    user: int64, 0 … n_users - 1; each user has one at least. time: int64, UTC microseconds. item: int64, 0 … n_items
    - 1, -1 where the event has none. value: float64, 0 where it has none. kind: int64, the event's type, 0 … n_kinds
    - 1, the most frequent first. cut: UTC microseconds, later than every event.
    """

    user: NDArray[np.int64]
    time: NDArray[np.int64]
    item: NDArray[np.int64]
    value: NDArray[np.float64]
    kind: NDArray[np.int64]
    n_users: int
    n_items: int
    n_kinds: int
    cut: int

    @classmethod
    def from_columns(
        cls,
        user: NDArray[np.int64],
        time: NDArray[np.int64],
        item: NDArray[np.int64],
        value: NDArray[np.float64],
        kind: NDArray[np.int64],
        n_users: int,
        cut: int,
    ) -> UserEvents:
        """From events in any order. item, kind: any numbers that tell them apart, 0 for no item; both get new ones."""
        order = np.lexsort((value, item, time, user))
        names, number = np.unique(item[order], return_inverse=True)
        present = names != 0
        renumbered = np.where(present, np.cumsum(present) - 1, _NO_ITEM)[number]
        kinds, of_kind, n_of_kind = np.unique(kind[order], return_inverse=True, return_counts=True)
        place = np.argsort(np.argsort(-n_of_kind, kind="stable"), kind="stable")
        return cls(
            user[order],
            time[order],
            renumbered.astype(np.int64),
            value[order],
            place[of_kind],
            n_users,
            int(present.sum()),
            len(kinds),
            cut,
        )

    def item_counts(self) -> csr_array:
        """float64 CSR [n_users, n_items]: how often each user had each item."""
        has = self.item != _NO_ITEM
        shape = (self.n_users, self.n_items)
        counts = csr_array((np.ones(int(has.sum())), (self.user[has], self.item[has])), shape=shape)
        counts.sum_duplicates()
        return counts

    def count(self, chosen: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """float64 [n_users]: events of each user, of the chosen ones alone where they are given."""
        return np.bincount(self.user if chosen is None else self.user[chosen], minlength=self.n_users).astype(float)

    def sum_of(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64 [n_users]: the sum of each user's weights. weights: [N]."""
        return np.bincount(self.user, weights, self.n_users).astype(float)

    def highest_of(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64 [n_users]: the highest of each user's values. values: [N]."""
        highest = np.full(self.n_users, -np.inf)
        np.maximum.at(highest, self.user, values)
        return highest

    @cached_property
    def is_new_instant(self) -> NDArray[np.bool_]:
        """bool [N]: the first event of a user at its time."""
        return self._changes(self.time)

    @cached_property
    def is_new_day(self) -> NDArray[np.bool_]:
        """bool [N]: the first event of a user on its UTC day."""
        return self._changes(self.time // _DAY_US)

    def _changes(self, values: NDArray[np.int64]) -> NDArray[np.bool_]:
        is_other: NDArray[np.bool_] = (np.diff(self.user) != 0) | (np.diff(values) != 0)
        return np.concatenate(([True], is_other))[: len(self.user)]


def aggregates(events: UserEvents) -> dict[str, NDArray[np.float64]]:
    """Figures of each user by name, float64 [n_users] each, none NaN.

    Counts and amounts are log(1 + x) of their size, sign kept, so that a straight line can use them; days are days;
    shares are of the user's events. Hours and weekdays are UTC's. Gaps are those between a user's instants, 0 where
    there is one alone.
    """
    n = events.count()
    counts = {"events": n, **_counts(events)}
    amounts = _amounts(events, n)
    logs = {name: np.sign(values) * np.log1p(np.abs(values)) for name, values in {**counts, **amounts}.items()}
    return {**logs, **_days(events), **_shares(events, n, counts["items"])}


def _counts(events: UserEvents) -> dict[str, NDArray[np.float64]]:
    items = np.diff(events.item_counts().indptr).astype(float)
    age = events.cut - events.time
    recent = {f"events_{days}_days": events.count(age <= days * _DAY_US) for days in _RECENT_DAYS}
    return {
        "items": items,
        "instants": events.count(events.is_new_instant),
        "active_days": events.count(events.is_new_day),
        **recent,
    }


def _amounts(events: UserEvents, n: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    total = events.sum_of(events.value)
    return {
        "value_sum": total,
        "value_mean": total / n,
        "value_max": events.highest_of(events.value),
        "value_an_instant": total / events.count(events.is_new_instant),
    }


def _days(events: UserEvents) -> dict[str, NDArray[np.float64]]:
    newest = events.highest_of(events.time.astype(float))
    oldest = -events.highest_of(-events.time.astype(float))
    steps = np.maximum(events.count(events.is_new_instant) - 1, 1)
    mean_gap = (newest - oldest) / _DAY_US / steps
    gap = np.diff(events.time, prepend=events.time[:1]) / _DAY_US
    is_gap = events.is_new_instant & np.r_[False, np.diff(events.user) == 0][: len(events.user)]
    spread = events.sum_of(np.where(is_gap, (gap - mean_gap[events.user]) ** 2, 0.0)) / steps
    return {
        "recency_days": (events.cut - newest) / _DAY_US,
        "tenure_days": (events.cut - oldest) / _DAY_US,
        "gap_mean_days": mean_gap,
        "gap_deviation_days": np.sqrt(spread),
    }


def _shares(events: UserEvents, n: NDArray[np.float64], items: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    with_item = events.count(events.item != _NO_ITEM)
    shares = {"repeat": (with_item - items) / n}
    hour, day = events.time // (_DAY_US // 24) % 24, (events.time // _DAY_US + 3) % 7  # 1970-01-01 was a Thursday
    for first in range(0, 24, _HOURS_OF_A_PART):
        in_part = (hour >= first) & (hour < first + _HOURS_OF_A_PART)
        shares[f"hours_{first}_{first + _HOURS_OF_A_PART}"] = events.count(in_part) / n
    shares |= {f"weekday_{number}": events.count(day == number) / n for number in range(7)}
    if (kinds := min(events.n_kinds, _MOST_KINDS)) > 1:
        shares |= {f"type_{number}": events.count(events.kind == number) / n for number in range(kinds)}
    return {f"share_{name}": values for name, values in shares.items()}


@dataclass(frozen=True)
class Panel:
    """What is known of n users at the cut. user_ids: [n], ascending. vectors: float32 [n, d], of the model.
    aggregates: float64 [n, a]. counts: CSR [n, items].
    """

    user_ids: NDArray[np.object_]
    vectors: NDArray[np.float32]
    aggregates: NDArray[np.float64]
    counts: csr_array

    def rows(self, chosen: NDArray[np.int64]) -> Panel:
        """Some of the users, in the given order."""
        return Panel(self.user_ids[chosen], self.vectors[chosen], self.aggregates[chosen], self.counts[chosen])


@dataclass(frozen=True)
class FeatureSplit:
    """One kind of features: train float64 [n_train, d] and test float64 [n_test, d]."""

    train: NDArray[np.float64]
    test: NDArray[np.float64]


def split_features(
    panel: Panel, train: NDArray[np.int64], test: NDArray[np.int64], dimension: int, seed: int
) -> dict[str, FeatureSplit]:
    """Every kind of features for the users of one fold; what is fitted (idf, SVD) is fitted on train alone.

    train, test: rows of the panel. dimension: numbers that TF-IDF is reduced to; fewer where train has fewer users or
    items.
    """
    split = {
        VECTORS: FeatureSplit(panel.vectors[train].astype(np.float64), panel.vectors[test].astype(np.float64)),
        AGGREGATES: FeatureSplit(panel.aggregates[train], panel.aggregates[test]),
        TF_IDF: _tf_idf(panel.counts[train], panel.counts[test], dimension, seed),
    }
    parts = list(split.values())
    together = (np.hstack([part.train for part in parts]), np.hstack([part.test for part in parts]))
    return {**split, TOGETHER: FeatureSplit(*together)}


def _tf_idf(train: csr_array, test: csr_array, dimension: int, seed: int) -> FeatureSplit:
    """Term frequency (1 + log) times inverse document frequency, rows of length 1; then truncated SVD."""
    # Items that nobody of train had have no direction in its SVD.
    present = np.unique(train.indices)
    width = min(dimension, train.shape[0] - 1, len(present) - 1)
    if width < 1:
        return FeatureSplit(np.zeros((train.shape[0], 1)), np.zeros((test.shape[0], 1)))
    weigher = TfidfTransformer(sublinear_tf=True)
    weighted = weigher.fit_transform(train[:, present])
    start = np.random.default_rng(seed).normal(size=min(weighted.shape))
    _, sizes, directions = svds(weighted, width, v0=start)
    # Where train has fewer directions than that, the others are noise of 1e-17, which a scaler would blow up.
    kept = directions[sizes > _SMALLEST * sizes.max()].T
    return FeatureSplit(weighted @ kept, weigher.transform(test[:, present]) @ kept)

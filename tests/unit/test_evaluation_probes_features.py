"""What a probe reads of users, beside loops in plain Python and formulas in numpy."""

import itertools
import math
from collections import Counter
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from scipy.sparse import csr_array

from behavior_lib.evaluation.probes_features import (
    AGGREGATES,
    TF_IDF,
    TOGETHER,
    VECTORS,
    Panel,
    UserEvents,
    aggregates,
    split_features,
)

CUT = datetime(2017, 12, 1, tzinfo=timezone.utc)
DAY = timedelta(days=1)


def micros(time):
    return (time - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(microseconds=1)


def some_events(seed=3, n_users=7, n=160):
    """Rows (user, time, item or None, value, type); whoever is last has one event."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in [*rng.integers(0, n_users - 1, n), *range(n_users)]:
        time = CUT - timedelta(minutes=int(rng.integers(1, 200 * 24)) * 60 + int(rng.integers(0, 2)) * 30)
        item = None if rng.random() < 0.1 else int(rng.integers(1, 9)) * 1_000_003
        rows.append((int(user), time, item, float(rng.normal(3, 4)), "view" if rng.random() < 0.7 else "buy"))
    # Baskets: several items at one time.
    return [*rows, *((user, time, 77, 1.5, "buy") for user, time, *_ in rows[:20])]


def as_events(rows):
    user, time, item, value, kind = zip(*rows, strict=True)
    return UserEvents.from_columns(
        np.array(user),
        np.array([micros(each) for each in time]),
        np.array([each or 0 for each in item]),
        np.array(value),
        np.array([{"view": -5, "buy": 9}[each] for each in kind]),
        max(user) + 1,
        micros(CUT),
    )


def by_hand(rows, user):
    """The figures of one user, in plain Python."""
    own = [row for row in rows if row[0] == user]
    times, values = [row[1] for row in own], [row[3] for row in own]
    items = [row[2] for row in own if row[2] is not None]
    instants = sorted(set(times))
    gaps = [(later - earlier) / DAY for earlier, later in itertools.pairwise(instants)]
    mean_gap = sum(gaps) / len(gaps) if gaps else 0.0

    def log(value):
        return math.copysign(math.log1p(abs(value)), value)

    figures = {
        "events": log(len(own)),
        "items": log(len(set(items))),
        "instants": log(len(instants)),
        "active_days": log(len({time.date() for time in times})),
        **{f"events_{days}_days": log(sum(CUT - time <= days * DAY for time in times)) for days in (7, 28, 90)},
        "value_sum": log(sum(values)),
        "value_mean": log(sum(values) / len(own)),
        "value_max": log(max(values)),
        "value_an_instant": log(sum(values) / len(instants)),
        "recency_days": (CUT - max(times)) / DAY,
        "tenure_days": (CUT - min(times)) / DAY,
        "gap_mean_days": mean_gap,
        "gap_deviation_days": math.sqrt(sum((gap - mean_gap) ** 2 for gap in gaps) / max(len(gaps), 1)),
        "share_repeat": (len(items) - len(set(items))) / len(own),
    }
    for first in range(0, 24, 3):
        figures[f"share_hours_{first}_{first + 3}"] = sum(first <= time.hour < first + 3 for time in times) / len(own)
    for day in range(7):
        figures[f"share_weekday_{day}"] = sum(time.weekday() == day for time in times) / len(own)
    ordered = [kind for kind, _ in Counter(row[4] for row in rows).most_common()]
    for number, kind in enumerate(ordered):
        figures[f"share_type_{number}"] = sum(row[4] == kind for row in own) / len(own)
    return figures


def test_aggregates_are_those_of_loops():
    rows = some_events()
    found = aggregates(as_events(rows))
    for user in range(7):
        expected = by_hand(rows, user)
        assert list(found) == list(expected)
        assert {name: values[user] for name, values in found.items()} == pytest.approx(expected, abs=1e-9)


def test_the_order_of_rows_says_nothing():
    rows = some_events()
    shuffled = [rows[place] for place in np.random.default_rng(0).permutation(len(rows))]
    one, other = as_events(rows), as_events(shuffled)
    for name, values in aggregates(one).items():
        np.testing.assert_array_equal(values, aggregates(other)[name])
    np.testing.assert_array_equal(one.item_counts().toarray(), other.item_counts().toarray())


def test_items_are_counted_by_user():
    rows = some_events()
    counted = Counter((row[0], row[2]) for row in rows if row[2] is not None)
    items = sorted({item for _, item in counted})
    expected = [[counted[user, item] for item in items] for user in range(7)]
    np.testing.assert_array_equal(as_events(rows).item_counts().toarray(), expected)


def some_panel(n=30, n_items=12, seed=1):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(0.6, (n, n_items)).astype(float)
    counts[:, 0] += 1
    counts[n - 1, n_items - 1] += 1
    ids = np.array([f"u{number:03}" for number in range(n)], dtype=object)
    return Panel(ids, rng.normal(size=(n, 4)).astype(np.float32), rng.normal(size=(n, 3)), csr_array(counts))


def test_tf_idf_is_the_formula_fitted_on_train_alone():
    panel = some_panel()
    train, test = np.arange(20), np.arange(20, 30)
    split = split_features(panel, train, test, 5, 0)[TF_IDF]

    counts = panel.counts.toarray()
    seen = counts[train].sum(axis=0) > 0
    counts = counts[:, seen]
    idf = np.log((1 + len(train)) / (1 + (counts[train] > 0).sum(axis=0))) + 1
    weights = np.where(counts > 0, 1 + np.log(np.where(counts > 0, counts, 1)), 0) * idf
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    directions = np.linalg.svd(weights[train], full_matrices=False)[2][:5]
    projected = weights @ directions.T
    # Signs of the directions are free; products of users are not.
    np.testing.assert_allclose(split.train @ split.test.T, projected[train] @ projected[test].T, atol=1e-10)
    assert split.train.shape == (20, 5)


def test_what_a_user_of_the_test_fold_has_changes_nothing_for_others():
    panel = some_panel()
    train, test = np.arange(20), np.arange(20, 30)
    before = split_features(panel, train, test, 5, 0)
    counts = panel.counts.toarray()
    counts[29] = 40.0
    vectors = panel.vectors.copy()
    vectors[29] = 100.0
    after = split_features(Panel(panel.user_ids, vectors, panel.aggregates, csr_array(counts)), train, test, 5, 0)
    for name in (VECTORS, AGGREGATES, TF_IDF, TOGETHER):
        np.testing.assert_array_equal(before[name].train, after[name].train)
        np.testing.assert_array_equal(before[name].test[:-1], after[name].test[:-1])
    assert before[TOGETHER].test.shape == (10, 4 + 3 + 5)


def test_few_items_leave_few_numbers():
    panel = some_panel(n_items=3)
    assert split_features(panel, np.arange(20), np.arange(20, 30), 64, 0)[TF_IDF].train.shape == (20, 2)
    # All have all items equally often: one direction, and no noise beside it.
    equal = Panel(panel.user_ids, panel.vectors, panel.aggregates, csr_array(np.ones((30, 6))))
    assert split_features(equal, np.arange(20), np.arange(20, 30), 64, 0)[TF_IDF].train.shape == (20, 1)
    alone = Panel(panel.user_ids, panel.vectors, panel.aggregates, panel.counts[:, :1])
    np.testing.assert_array_equal(split_features(alone, np.arange(20), np.arange(20, 30), 64, 0)[TF_IDF].test, 0)

"""Calibration: the formula of Steck (2018) by hand, and the figures of lists in loops."""

import math

import numpy as np
import pytest
from scipy.sparse import csr_array

from behavior_lib.evaluation.background import Background
from behavior_lib.evaluation.calibration import Grouping, miscalibration
from behavior_lib.evaluation.ranking import RankingMeter


def test_by_hand():
    past = np.array([[7.0, 3.0, 0.0], [7.0, 3.0, 0.0], [7.0, 3.0, 0.0], [0.0, 0.0, 2.0]])
    shown = np.array([[70.0, 30.0, 0.0], [5.0, 0.0, 0.0], [1.0, 1.0, 2.0], [4.0, 0.0, 0.0]])
    expected = [
        0,
        0.7 * math.log(0.7 / (0.99 + 0.007)) + 0.3 * math.log(0.3 / 0.003),
        0.7 * math.log(0.7 / (0.99 * 0.25 + 0.007)) + 0.3 * math.log(0.3 / (0.99 * 0.25 + 0.003)),
        -math.log(0.01),  # nothing in common: the highest there is
    ]
    assert miscalibration(past, shown) == pytest.approx(expected, abs=1e-12)
    assert miscalibration(past, shown[1:2]) == pytest.approx([expected[1]] * 3 + [expected[3]], abs=1e-12)


def test_who_has_no_past_or_no_list_does_not_count():
    assert np.isnan(miscalibration(np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 0.0]]))).all()


def test_groups_are_counted_in_pasts_and_lists():
    grouping = Grouping(np.array([0, 2, 2, 1]))
    assert grouping.of_counts(csr_array([[5, 1, 2, 0], [0, 0, 0, 4]])).tolist() == [[5, 0, 3], [0, 4, 0]]
    items, chosen = np.array([[1, 2, 3], [0, 3, 1]]), np.array([[True, True, False], [False, True, False]])
    assert grouping.of_lists(items, chosen).tolist() == [[0, 0, 2], [0, 1, 0]]


N, V, K = 30, 70, 5


def case():
    random = np.random.default_rng(5)
    popularity = np.maximum(random.integers(-5, 60, V), 0)
    popularity[:3] = 0
    own = random.integers(0, 4, (N, V)) * (random.random((N, V)) < 0.2) * (popularity > 0)
    own[4] = 0
    kinds = random.integers(0, 4, V)
    background = Background(popularity, csr_array(own), own.sum(axis=1) > 0, {"kind": Grouping(kinds)})
    return random.random((N, V)), background, kinds


def judged(scores, background):
    targets = np.full((N, 1), int(np.argmax(background.popularity)))
    meter = RankingMeter(K, background.popularity > 0, (2,), background)
    meter.add(scores[:11], targets[:11])
    meter.add(scores[11:], targets[11:])
    return meter.result()


def in_loops(row, own, groups, known, k):
    """The formula over dictionaries of shares, one user and list."""
    best = sorted(known, key=lambda item: -row[item])[:k]
    had = {item: own[item] for item in known if own[item]}
    if not had:
        return math.nan
    p, q = {}, {}
    for item, count in had.items():
        p[groups[item]] = p.get(groups[item], 0) + count / sum(had.values())
    for item in best:
        q[groups[item]] = q.get(groups[item], 0) + 1 / k
    return sum(share * math.log(share / (0.99 * q.get(group, 0) + 0.01 * share)) for group, share in p.items())


@pytest.mark.parametrize("is_one_row", [False, True])
def test_lists_are_compared_with_the_past_of_their_users(is_one_row):
    scores, background, kinds = case()
    if is_one_row:
        scores = np.broadcast_to(scores[0], scores.shape)
    own, known = background.own.toarray(), np.flatnonzero(background.popularity)
    by_popularity = sorted(known, key=lambda item: (-background.popularity[item], item))
    n_head, n_middle = math.ceil(len(known) / 100), math.ceil(len(known) / 10)
    places = {item: place for place, item in enumerate(by_popularity)}
    stratum = [2 if places.get(item, V) >= n_middle else int(places[item] >= n_head) for item in range(V)]
    figures = judged(scores, background).shown
    for k in (K, 2):
        for name, groups in (("miscalibration", stratum), ("miscalibration_kind", kinds)):
            expected = [in_loops(scores[user], own[user], groups, known, k) for user in range(N)]
            assert np.isnan(expected).sum() == 1
            np.testing.assert_allclose(figures[k][name], expected, rtol=0, atol=1e-12)


def test_an_empty_list_does_not_count():
    _, background, _ = case()
    result = judged(np.zeros((N, V)), background)
    assert np.isnan(result.headline[f"miscalibration@{K}"]).all()

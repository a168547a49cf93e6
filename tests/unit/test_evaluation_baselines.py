"""Baselines made of whole histories, each beside its formula written out in loops over single users and items."""

import numpy as np
import pytest

from behavior_lib.config.schema import EvaluateConfig
from behavior_lib.errors import ConfigError
from behavior_lib.evaluation.baselines import (
    COUNTED,
    DECAYED_OWN_FREQUENCY,
    FROM_HISTORIES,
    POPULARITY,
    Ease,
    Factors,
    ItemKnn,
    OwnFrequency,
    TifuKnn,
    Transitions,
    check_choice,
)
from behavior_lib.evaluation.interactions import Interactions

V = 15
DAY = 86_400_000_000


def interactions(histories, judged=None, days=None):
    """histories: a list of instants a user, oldest first, each a list of items; days: of each instant, from 0 on."""
    days = days or [range(len(instants)) for instants in histories]
    rows = [
        (user, item, int(day * DAY))
        for user, instants in enumerate(histories)
        for day, items in zip(days[user], instants, strict=True)
        for item in items
    ]
    shuffled = [rows[place] for place in np.random.default_rng(0).permutation(len(rows))]
    users, items, times = np.array(shuffled or np.zeros((0, 3)), dtype=np.int64).T
    wanted = np.arange(len(histories)) if judged is None else np.asarray(judged)
    return Interactions.from_events(users, items, times, len(histories), wanted)


def random_histories(seed, n_users=25):
    """Users with none to twelve instants of one to four items, some of them twice, popular ones more often."""
    random = np.random.default_rng(seed)
    share = 1 / np.arange(1, V - 2)

    def draw():
        return (3 + random.choice(V - 3, random.integers(1, 5), p=share / share.sum())).tolist()

    return [[draw() for _ in range(random.integers(0, 13))] for _ in range(n_users)]


def counts(histories):
    return np.bincount([item for instants in histories for items in instants for item in items], minlength=V)


def had(histories):
    matrix = np.zeros((len(histories), V))
    for user, instants in enumerate(histories):
        for items in instants:
            matrix[user, items] = 1
    return matrix


def then_by_popularity(scores, popularity):
    """The order that `scores` above 0, then popularity, give a user's items: a place each, equal where tied."""
    return [(score, 0) if score > 1e-12 else (0, count) for score, count in zip(scores, popularity, strict=True)]


def assert_same_order(found, expected):
    """found: scores of one user. expected: what orders each item; floats may differ in the last digits."""
    for one in range(V):
        for other in range(V):
            first, second = expected[one], expected[other]
            near = np.allclose(first, second, rtol=1e-9, atol=1e-12)
            assert near or (found[one] > found[other]) == (first > second), (one, other)


def test_decayed_frequency_is_the_sum_of_halves():
    # Days before the newest event: item 3 on 0 (1), item 4 on 10 twice and on 20 (5/4), item 5 on 10 twice (1).
    histories, days = [[[4], [4, 4, 5, 5], [3]], [], [[3]]], [[0, 10, 20], [], [0]]
    own = OwnFrequency.decayed(interactions(histories, days=days), V, 10.0)
    scores = own(slice(0, 3))
    # Items 3 and 5 have two events each, so nothing tells them apart; of nobody's history popularity is left.
    assert scores[0, 4] > scores[0, 3] == scores[0, 5] > scores[0, 6]
    assert scores[1, 4] > scores[1, 3] == scores[1, 5] > scores[1, 6]
    assert scores[2, 3] > scores[2, 4]


def test_equal_decayed_sums_are_told_apart_by_popularity_alone():
    # Two events of item 4 one half-life ago weigh what one of item 3 does now; 3 has more events in all.
    scores = OwnFrequency.decayed(interactions([[[4, 4], [3]], [[3, 3]]], days=[[0, 10], [0]]), V, 10.0)(slice(0, 1))
    assert scores[0, 3] - scores[0, 4] == 1


@pytest.mark.parametrize(("half_life", "unit"), [(2.0, DAY), (0.5, DAY), (3.0, 3600 * 10**6)])
def test_decayed_frequency_is_equal_to_sorting_pairs(half_life, unit):
    histories = random_histories(1)
    judged = [7, 3, 3, 20]
    scores = OwnFrequency.decayed(interactions(histories, judged), V, half_life, unit)(slice(0, 4))
    for row, user in enumerate(judged):
        weights = np.zeros(V)
        for day, items in enumerate(histories[user]):
            for item in items:
                weights[item] += 0.5 ** ((len(histories[user]) - 1 - day) * DAY / (half_life * unit))
        assert_same_order(scores[row], list(zip(weights, counts(histories), strict=True)))


def test_a_place_is_a_time_where_there_is_none():
    users, items = np.array([1, 0, 1, 0, 1]), np.array([3, 4, 3, 5, 6])
    own = OwnFrequency.decayed(Interactions.from_events(users, items, None, 2, np.arange(2)), 7, 1.0, unit=1)
    assert np.argsort(-own(slice(0, 2)), axis=1)[:, :2].tolist() == [[5, 4], [6, 3]]


@pytest.mark.parametrize(("neighbours", "shrinkage"), [(2, 0.0), (4, 10.0), (100, 1.0)])
def test_item_knn_is_its_formula(neighbours, shrinkage):
    histories = random_histories(2)
    matrix = had(histories)
    similar = np.zeros((V, V))
    for i in range(V):
        for j in range(V):
            both, one, other = (matrix[:, i] * matrix[:, j]).sum(), matrix[:, i].sum(), matrix[:, j].sum()
            if i != j and both:
                similar[i, j] = both / ((one * other) ** 0.5 + shrinkage)
    for row in similar:
        row[sorted(range(V), key=lambda j: (-row[j], j))[neighbours:]] = 0
    found = ItemKnn(interactions(histories), V, neighbours=neighbours, shrinkage=shrinkage)(slice(0, 25))
    for user in range(25):
        expected = matrix[user] @ similar
        np.testing.assert_allclose(found[user][expected > 0], expected[expected > 0], rtol=1e-12)
        assert_same_order(found[user], then_by_popularity(expected, counts(histories)))


def test_ease_is_ridge_regression_of_each_item_on_the_others():
    """Steck's closed form has the weights that ridge regression without the item itself has, column by column."""
    histories = random_histories(3)
    matrix = had(histories)
    weights = np.zeros((V, V))
    for item in range(V):
        others = np.delete(np.arange(V), item)
        left = matrix[:, others].T @ matrix[:, others] + 5 * np.eye(V - 1)
        weights[others, item] = np.linalg.solve(left, matrix[:, others].T @ matrix[:, item])
    found = Ease(interactions(histories, [4, 9]), V, regularisation=5.0)(slice(0, 2))
    np.testing.assert_allclose(found, (matrix @ weights)[[4, 9]], atol=1e-12)


def test_items_that_do_not_take_part_in_ease_follow_by_popularity():
    histories = [*random_histories(4), []]
    popularity = counts(histories)
    part = np.argsort(-popularity, kind="stable")[:6]
    found = Ease(interactions(histories), V, regularisation=5.0, most_items=6)(slice(0, 26))
    only = [np.flatnonzero(row).tolist() for row in had(histories) * np.isin(np.arange(V), part)]
    narrow = Ease(interactions([[items] for items in only]), V, regularisation=5.0)(slice(0, 26))
    rest = np.setdiff1d(np.arange(3, V), part)
    for user in range(26):
        assert found[user, part].min() > found[user, rest].max()
        assert (
            np.argsort(-found[user, rest], kind="stable").tolist()
            == np.argsort(-popularity[rest], kind="stable").tolist()
        )
        if only[user]:
            np.testing.assert_allclose(found[user, part], narrow[user, part], atol=1e-12)


def transitions_of(histories, orders, fade, history, history_fade, symmetric, source_power, target_power, smoothing):
    def weight(rate, distance):
        return 1 / distance if rate is None else rate ** (distance - 1)

    c = np.zeros((V, V))
    for instants in histories:
        for place, items in enumerate(instants):
            for distance in range(1, orders + 1):
                if place + distance < len(instants):
                    for i in set(items):
                        for j in set(instants[place + distance]):
                            c[i, j] += weight(fade, distance)
                            if symmetric:
                                c[j, i] += weight(fade, distance)
    n = counts(histories)
    scores = np.zeros((len(histories), V))
    for user, instants in enumerate(histories):
        for j in range(V):
            per_event = max(n[j], 1) ** target_power
            if not instants:
                scores[user, j] = n[j] / n.sum() / per_event
            for distance, items in enumerate(reversed(instants[-history:]), 1):
                for i in set(items):
                    s = (c[i, j] + smoothing * n[j] / n.sum()) / (c[i].sum() + smoothing) ** source_power / per_event
                    scores[user, j] += weight(history_fade, distance) * s
    return scores


@pytest.mark.parametrize(
    "setting",
    [
        {"orders": 1, "history": 1},
        {"orders": 3, "history": 4},
        {"orders": 20, "fade": 0.5, "history": 50, "history_fade": 0.8, "symmetric": True},
        {"orders": 2, "source_power": 0.5, "target_power": 0.3, "smoothing": 4.0, "symmetric": True},
    ],
)
def test_transitions_are_their_formula(setting):
    histories = random_histories(5)
    whole = {"orders": 3, "fade": None, "history": 20, "history_fade": None, "symmetric": False}
    whole |= {"source_power": 1.0, "target_power": 0.0, "smoothing": 1.0, **setting}
    judged = [0, 11, 24, 5]
    found = Transitions(interactions(histories, judged), V, **whole)(slice(0, 4))
    np.testing.assert_allclose(found, transitions_of(histories, **whole)[judged], rtol=1e-12, atol=1e-15)


def test_first_order_transitions_by_hand():
    # After {3, 4} came {5}, after {5} came {4}; user 1 has {3}: 5 scores (1 + 1/5) / (1 + 1), others popularity / 2.
    scores = Transitions(interactions([[[3, 4], [5], [4]], [[3]]]), V, orders=1, history=1, source_power=1.0)(
        slice(1, 2)
    )
    shares = {4: 2 / 5, 5: 1 / 5}
    assert scores[0, 5] == pytest.approx((1 + shares[5]) / 2)
    assert scores[0, 4] == pytest.approx(shares[4] / 2)


def test_of_each_item_the_likeliest_successors_are_kept():
    histories = [[[3], [4]], [[3], [4]], [[3], [5]], [[3], [6]]]
    scores = Transitions(
        interactions([*histories, [[3]]]), V, history=1, source_power=1.0, neighbours=2, smoothing=1e-9
    )(slice(4, 5))[0]
    assert scores[[4, 5]].tolist() == pytest.approx([1 / 2, 1 / 4])
    assert scores[6] < 1e-9


def tifu_vectors(histories, within, between, groups):
    vectors = np.zeros((len(histories), V))
    for user, instants in enumerate(histories):
        baskets = [np.isin(np.arange(V), items).astype(float) for items in instants]
        parts = [part for part in np.array_split(np.arange(len(baskets)), min(groups, len(baskets)) or 1) if len(part)]
        sizes = sorted(len(part) for part in parts)  # newer groups are the larger ones
        start = 0
        for place, size in enumerate(sizes):
            group = sum(within ** (size - 1 - j) * baskets[start + j] for j in range(size)) / size
            vectors[user] += between ** (len(sizes) - 1 - place) * group / len(sizes)
            start += size
    return vectors


@pytest.mark.parametrize(("neighbours", "groups", "alpha"), [(1, 3, 0.7), (5, 7, 0.2), (300, 4, 0.0), (3, 1, 1.0)])
def test_tifu_knn_is_its_formula(neighbours, groups, alpha):
    histories = [*random_histories(6), [], [[3]] * 11]
    vectors = tifu_vectors(histories, 0.9, 0.6, groups)
    tifu = TifuKnn(
        interactions(histories), V, neighbours=neighbours, within=0.9, between=0.6, alpha=alpha, groups=groups
    )
    found = tifu(slice(0, len(histories)))
    some = [user for user, instants in enumerate(histories) if instants]
    for user in range(len(histories)):
        distance = np.linalg.norm(vectors - vectors[user], axis=1)
        others = sorted((other for other in some if other != user), key=distance.__getitem__)
        expected = alpha * vectors[user] + (1 - alpha) * vectors[others[:neighbours]].mean(axis=0)
        if user not in some:
            expected[:] = 0
        np.testing.assert_allclose(np.maximum(found[user], 0), expected, atol=1e-12)
        assert_same_order(found[user], then_by_popularity(expected, counts(histories)))


def test_tifu_knn_by_hand():
    # Three baskets in two groups: the older has one, the newer two. v = (1/2)(0.5·{3} + (0.9·{3} + {4}) / 2).
    tifu = TifuKnn(interactions([[[3], [3], [4]]]), V, within=0.9, between=0.5, alpha=1.0, groups=2)
    assert tifu(slice(0, 1))[0, [3, 4]].tolist() == pytest.approx([(0.5 + 0.45) / 2, 0.25])


@pytest.mark.parametrize("name", FROM_HISTORIES)
def test_batches_rows_and_events_of_one_instant_have_no_order(name):
    histories = [*random_histories(7), []]
    whole = FROM_HISTORIES[name](interactions(histories), V)(slice(0, 26))
    turned = [[list(reversed(items)) for items in instants] for instants in histories]
    part = FROM_HISTORIES[name](interactions(turned, [25, 4, 8]), V)
    assert whole.shape == (26, V)
    np.testing.assert_allclose(np.concatenate([part(slice(0, 1)), part(slice(1, 3))]), whole[[25, 4, 8]], rtol=1e-12)
    # A user without history is shown what is popular.
    popularity = counts(histories)[3:]
    np.testing.assert_array_equal(np.argsort(-whole[25, 3:], kind="stable"), np.argsort(-popularity, kind="stable"))


def test_users_without_vectors_get_popularity():
    users, items = np.array([[1, 2], [np.nan, np.nan]], np.float32), np.array([[0, 0], [3, 1], [-1, 0.5]], np.float32)
    scores = Factors(users, items, np.array([0, 2, 7]))(slice(0, 2))
    assert scores[0].tolist() == [0, 5, 0]
    assert scores[1, 0] < scores[1, 1] < scores[1, 2]


@pytest.mark.parametrize("name", FROM_HISTORIES)
def test_one_user_alone_is_scored(name):
    scores = FROM_HISTORIES[name](interactions([[[3]]]), V)(slice(0, 1))
    assert np.isfinite(scores).all()
    assert FROM_HISTORIES[name](interactions([[]]), V)(slice(0, 1)).shape == (1, V)


def test_choices_that_cannot_be_are_refused():
    check_choice([DECAYED_OWN_FREQUENCY, POPULARITY], [POPULARITY])
    with pytest.raises(
        ConfigError, match=r"unknown baseline in evaluate.baselines: 'tifu_nn'; did you mean tifu_knn\?"
    ):
        check_choice(["ease", "tifu_nn"], ["ease"])
    with pytest.raises(ConfigError, match=r"unknown baseline in evaluate.gate: 'ease'; known there: popularity"):
        check_choice([POPULARITY], ["ease"])
    with pytest.raises(ConfigError, match="no baseline to beat in evaluate.gate; name one of evaluate.baselines"):
        check_choice([POPULARITY], [])


def test_all_baselines_are_judged_and_those_that_count_guard_the_gate():
    assert EvaluateConfig().baselines == [*COUNTED, *FROM_HISTORIES]
    assert EvaluateConfig().gate == list(COUNTED)

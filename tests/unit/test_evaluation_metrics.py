"""Metrics beside scikit-learn where nothing is tied, and beside their definitions in loops where much is."""

import math

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.metrics import label_ranking_average_precision_score, ndcg_score

from behavior_lib.evaluation.background import Background
from behavior_lib.evaluation.metrics import Ranks
from behavior_lib.evaluation.ranking import RankingMeter, mid_ranks

V, N = 70, 40


def padded(sets):
    targets = np.zeros((len(sets), max(map(len, sets))), dtype=int)
    for row, items in zip(targets, sets, strict=True):
        row[: len(items)] = items
    return targets


def case(seed, levels):
    """Scores of N users over V items, a third of the catalogue's popularities tied, and targets, some not in it."""
    random = np.random.default_rng(seed)
    scores = random.random((N, V)) if levels is None else random.integers(0, levels, (N, V)).astype(float)
    popularity = np.maximum(random.integers(-5, 30, V), 0)
    popularity[:3] = 0
    sets = [random.choice(np.arange(3, V + 2), random.integers(1, 14), replace=False) for _ in range(N)]
    own = random.integers(0, 4, (N, V)) * (random.random((N, V)) < 0.3) * (popularity > 0)
    own[[0, 3, 8]] = 0
    has_past = np.ones(N, dtype=bool)
    has_past[[3, 8]] = False  # 0 had something that is not of the catalogue
    return scores, sets, Background(popularity, csr_array(own), has_past)


def judged(scores, sets, background, k=10, more_k=()):
    meter = RankingMeter(k, background.popularity > 0, more_k, background)
    for start in range(0, N, 17):
        meter.add(scores[start : start + 17], padded(sets[start : start + 17]))
    return meter.result()


def ranks(scores, items, popularity):
    """The places of the items by comparing with every candidate, one after the other."""
    found = []
    for item in items:
        if item >= V or not popularity[item]:
            found.append(math.inf)
            continue
        above = sum(1 for other in range(V) if popularity[other] and scores[other] > scores[item])
        equal = sum(1 for other in range(V) if popularity[other] and scores[other] == scores[item])
        found.append(above + (equal + 1) / 2)
    return found


def by_definition(places, k):
    hits = [place for place in places if place <= k]
    ideal = sum(1 / math.log2(1 + place) for place in range(1, min(k, len(places)) + 1))
    precisions = [
        (sum(other < place for other in places) + (sum(other == place for other in places) + 1) / 2) / place
        for place in hits
    ]
    return {
        "hit_rate": float(bool(hits)),
        "recall": len(hits) / len(places),
        "precision": len(hits) / k,
        "ndcg": min(1, sum(1 / math.log2(1 + place) for place in hits) / ideal),
        "map": min(1, sum(precisions) / min(k, len(places))),
        "mrr": max([0, *(1 / place for place in hits)]),
        "mrr of all": max(1 / place for place in places),
    }


@pytest.mark.parametrize("k", [1, 3, 10, V])
def test_equal_to_scikit_learn_without_ties(k):
    random = np.random.default_rng(k)
    scores = np.array([random.permutation(V) for _ in range(N)], dtype=float)
    truth = (random.random((N, V)) < 0.1).astype(int)
    truth[:, 5] = 1
    user, item = np.nonzero(truth)
    rank = mid_ranks(scores, np.tile(np.arange(V), (N, 1)))[user, item]
    rank[item == 0] = V - scores[user[item == 0], 0]  # 0 is no padding here
    found = Ranks(N, user, item, rank).at(k)
    assert found["ndcg"].mean() == pytest.approx(ndcg_score(truth, scores, k=k), abs=1e-12)
    if k == V:
        assert found["map"].mean() == pytest.approx(label_ranking_average_precision_score(truth, scores), abs=1e-12)


@pytest.mark.parametrize("levels", [None, 12, 3])
@pytest.mark.parametrize("k", [1, 5, 10])
def test_every_metric_is_its_definition(levels, k):
    scores, sets, background = case(k, levels)
    result = judged(scores, sets, background, k, (20,))
    for user in range(N):
        places = ranks(scores[user], sets[user], background.popularity)
        for name, value in by_definition(places, k).items():
            found = result.headline["mrr" if name == "mrr of all" else f"{name}@{k}"]
            assert found[user] == pytest.approx(value, abs=1e-12), (user, name)


def test_every_k_is_judged_as_if_it_were_the_only_one():
    scores, sets, background = case(7, 12)
    whole = judged(scores, sets, background, 10, (1, 5, 10, 20)).all_metrics()
    assert {name.partition("@")[2] for name in whole if "|" not in name} == {"", "1", "5", "10", "20"}
    for k in (1, 5, 20):
        alone = judged(scores, sets, background, k).metrics()
        assert len(alone) == 12
        for name, metric in alone.items():
            assert whole[name].value == pytest.approx(metric.value, abs=1e-12), name
            assert whole[name].n_users == metric.n_users


def test_metrics_of_a_group_are_those_of_its_targets_alone():
    scores, sets, background = case(11, 12)
    result = judged(scores, sets, background)
    own, popularity = background.own.toarray(), background.popularity
    groups = {
        "repeat": lambda user, item: item < V and own[user, item] > 0,
        "novel": lambda user, item: not (item < V and own[user, item] > 0),
    }
    known = sorted(np.flatnonzero(popularity), key=lambda item: (-popularity[item], item))
    head, middle = set(known[: math.ceil(len(known) / 100)]), set(known[: math.ceil(len(known) / 10)])
    groups["head"] = lambda user, item: item in head
    groups["middle"] = lambda user, item: item in middle - head
    groups["tail"] = lambda user, item: item in set(known) - middle
    groups["cold_items"] = lambda user, item: item not in known
    events, had = own.sum(axis=1), set(range(N)) - {3, 8}
    edges = [-1, *np.percentile([events[user] for user in had], [25, 50, 75]), math.inf]
    for number in range(4):
        groups[f"history_q{number + 1}"] = lambda user, item, n=number: (
            user in had and edges[n] < events[user] <= edges[n + 1]
        )
    groups["cold_users"] = lambda user, item: user not in had
    found = result.all_metrics()
    for group, belongs in groups.items():
        values = []
        for user in range(N):
            chosen = [item for item in sets[user] if belongs(user, item)]
            if chosen:
                values.append(by_definition(ranks(scores[user], chosen, popularity), 10))
        for name in ("recall", "ndcg"):
            figures = np.array([value[name] for value in values])
            metric = found[f"{name}@10|{group}"]
            assert metric.n_users == len(values) > 1
            assert metric.value == pytest.approx(figures.mean(), abs=1e-12)
            assert metric.standard_error == pytest.approx(figures.std(ddof=1) / len(values) ** 0.5, abs=1e-12)
    assert {name.partition("|")[2] for name in found if "|" in name} == {*groups, "among_new"}


def test_what_has_no_past_stands_by_itself():
    """Items 3, 4 and 5 were had, 6 was not, 9 has no number yet; the second user is new."""
    popularity = np.array([0, 0, 0, 5, 2, 1, 0])
    own = csr_array((np.array([3]), (np.array([0]), np.array([3]))), shape=(2, 7))
    meter = RankingMeter(2, popularity > 0, (), Background(popularity, own, np.array([True, False])))
    meter.add(np.tile(popularity.astype(float), (2, 1)), np.array([[3, 6, 9], [4, 6, 0]]))
    found = meter.result().all_metrics()
    told = {
        group: (found[f"recall@2|{group}"].value, found[f"recall@2|{group}"].n_users)
        for group in ("cold_users", "cold_items", "history_q1", "head", "middle")
        if f"recall@2|{group}" in found
    }
    # Of one catalogue of three the most popular is the head, which leaves nothing in the middle.
    assert told == {"cold_users": (0.5, 1), "cold_items": (0, 2), "history_q1": (1 / 3, 1), "head": (1, 1)}
    assert (found["ndcg@2|cold_items"].value, found["recall@2|tail"].value) == (0, 1)
    assert "recall@2|history_q2" not in found


def test_where_nobody_has_a_past_there_are_no_quarters():
    popularity = np.array([0, 0, 0, 5, 2])
    nobody = Background(popularity, csr_array((2, 5), dtype=np.int64), np.zeros(2, dtype=bool))
    meter = RankingMeter(1, popularity > 0, (), nobody)
    meter.add(np.tile(popularity.astype(float), (2, 1)), np.array([[3], [4]]))
    found = meter.result().all_metrics()
    assert (found["recall@1|cold_users"].value, found["recall@1|cold_users"].n_users) == (0.5, 2)
    assert not [name for name in found if "history" in name]


@pytest.mark.parametrize("levels", [None, 12, 3])
def test_among_new_items_are_those_that_a_ranking_without_the_user_s_own_finds(levels):
    scores, sets, background = case(19, levels)
    own, values = background.own.toarray(), {}
    for user in range(N):
        novel = [item for item in sets[user] if not (item < V and own[user, item])]
        if novel:
            # Where the own items are no candidates at all.
            without = np.where(own[user] > 0, -np.inf, scores[user])
            values[user] = by_definition(ranks(without, novel, background.popularity), 10)
    result = judged(scores, sets, background)
    by_user = dict(result.by_user())
    for name in ("recall", "ndcg"):
        expected = [values[user][name] if user in values else np.nan for user in range(N)]
        np.testing.assert_allclose(by_user[f"{name}@10|among_new"], expected, atol=1e-12)
        # Own items stand before new ones, so that it is another figure.
        assert result.all_metrics()[f"{name}@10|among_new"].value > result.all_metrics()[f"{name}@10|novel"].value > 0


@pytest.mark.parametrize("levels", [None, 3])
def test_what_is_shown_is_the_mean_over_the_list(levels):
    scores, sets, background = case(13, levels)
    result = judged(scores, sets, background, 5)
    popularity = background.popularity
    known = sorted(np.flatnonzero(popularity), key=lambda item: (-popularity[item], item))
    tail = set(known[math.ceil(len(known) / 10) :])
    empty = 0
    for user in range(N):
        shown = [item for item in known if ranks(scores[user], [item], popularity)[0] <= 5]
        found = [result.headline[f"{name}@5"][user] for name in ("novelty", "popularity", "long_tail")]
        if not shown:
            assert np.isnan(found).all()
            empty += 1
            continue
        assert found == pytest.approx(
            [
                np.mean([-math.log2(popularity[item] / popularity.sum()) for item in shown]),
                np.mean([popularity[item] for item in shown]),
                np.mean([item in tail for item in shown]),
            ]
        )
    assert levels is None or empty > 0
    assert result.metrics()["novelty@5"].n_users == N - empty


def test_figures_that_no_user_has_are_left_out():
    _, sets, background = case(17, None)
    found = judged(np.zeros((N, V)), sets, background)
    assert "novelty@10" not in found.all_metrics()
    assert found.metrics()["ndcg@10"].value == 0
    assert found.lead_errors(found)["novelty@10"] is None


def test_without_background_nothing_is_told_apart():
    meter = RankingMeter(10, np.arange(V) > 2)
    meter.add(np.zeros((1, V)), np.array([[3, 5]]))
    names = {"hit_rate@10", "recall@10", "ndcg@10", "precision@10", "map@10", "mrr@10", "mrr", "coverage@10"}
    assert set(meter.result().all_metrics()) == names

"""Ranking metrics beside those of trec_eval, the reference implementation of information retrieval, without ties."""

import numpy as np
import pytest
import pytrec_eval

from behavior_lib.evaluation.ranking import RankingMeter

N, V = 50, 120  # users, item indexes
KS = (10, 1, 3, 20)
# By its name here: trec_eval's at k.
MEASURES = {"hit_rate": "success", "recall": "recall", "precision": "P", "ndcg": "ndcg_cut", "map": "map_cut"}


def case(seed):
    """Scores without ties, the catalogue, and targets, some of which the method cannot recommend."""
    random = np.random.default_rng(seed)
    scores = np.array([random.permutation(V) for _ in range(N)], dtype=np.float32)
    scores[random.random((N, V)) < 0.1] = -np.inf
    catalogue = (np.arange(V) > 2) & (random.random(V) < 0.8)
    sets = [random.choice(np.arange(3, V), random.integers(1, 30), replace=False) for _ in range(N)]
    return scores, catalogue, sets


def judged(scores, catalogue, sets):
    targets = np.zeros((N, max(map(len, sets))), dtype=np.int64)
    for row, items in zip(targets, sets, strict=True):
        row[: len(items)] = items
    meter = RankingMeter(KS[0], catalogue, KS[1:])
    meter.add(scores[:20], targets[:20])
    meter.add(scores[20:], targets[20:])
    return dict(meter.result().by_user())


def by_trec_eval(scores, catalogue, sets):
    """By trec_eval's name: float64 [N]."""
    relevant = {str(user): {str(item): 1 for item in items} for user, items in enumerate(sets)}
    run = {}
    for user, row in enumerate(scores):
        shown = np.flatnonzero((row > -np.inf) & catalogue)
        run[str(user)] = {str(item): float(row[item]) for item in shown}
    places = ",".join(map(str, KS))
    asked = {"recip_rank", *(f"{measure}.{places}" for measure in MEASURES.values())}
    found = pytrec_eval.RelevanceEvaluator(relevant, asked).evaluate(run)
    return {name: np.array([found[str(user)][name] for user in range(N)]) for name in found["0"]}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equal_to_trec_eval(seed):
    scores, catalogue, sets = case(seed)
    found, expected = judged(scores, catalogue, sets), by_trec_eval(scores, catalogue, sets)
    n_targets = np.array([len(items) for items in sets])
    assert 0 < found["recall@10"].mean() < 1
    np.testing.assert_allclose(found["mrr"], expected["recip_rank"], rtol=0, atol=1e-12)
    for k in KS:
        # trec_eval's average precision is divided by all targets, also where there are more of them than places.
        scale = {"map": n_targets / np.minimum(n_targets, k)}
        for name, measure in MEASURES.items():
            theirs = expected[f"{measure}_{k}"] * scale.get(name, 1)
            np.testing.assert_allclose(found[f"{name}@{k}"], theirs, rtol=0, atol=1e-12, err_msg=f"{name}@{k}")

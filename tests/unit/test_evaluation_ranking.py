"""Ranking metrics: small cases by hand, and an independent computation in SQL on scores full of ties."""

from types import SimpleNamespace

import duckdb
import numpy as np
import pandas as pd
import pytest

from behavior_lib.errors import DataRefused
from behavior_lib.evaluation.metrics import Metric
from behavior_lib.evaluation.ranking import RankingMeter, mid_ranks

NEVER = -np.inf


def rank(scores, targets, k=10, catalogue=None):
    scores = np.asarray(scores, dtype=np.float32)
    meter = RankingMeter(k, np.ones(scores.shape[1], dtype=bool) if catalogue is None else np.asarray(catalogue))
    meter.add(scores, np.asarray(targets))
    return figures(meter.result())


def figures(result):
    """The users' figures without the k in their names."""
    by_name = {name.partition("@")[0]: values for name, values in result.headline.items()}
    return SimpleNamespace(**by_name, coverage=result.coverage[result.ks[0]])


def test_rank_without_ties_is_the_place():
    assert mid_ranks(np.array([[NEVER, 0.1, 0.9, 0.5]]), np.array([[2, 3, 1]])).tolist() == [[1, 2, 3]]


def test_tied_items_share_the_mean_of_their_places():
    scores = np.array([[NEVER, 5.0, 5.0, 5.0, 7.0, 5.0]])
    assert mid_ranks(scores, np.array([[4, 1, 5]])).tolist() == [[1, 3.5, 3.5]]


def test_target_that_cannot_be_recommended_is_a_miss_that_counts():
    result = rank([[NEVER, 3.0, 2.0, NEVER]], [[1, 3, 99, 0]])
    assert result.recall.tolist() == [1 / 3]
    assert result.ndcg[0] == pytest.approx(1 / (1 + 1 / np.log2(3) + 1 / np.log2(4)))
    assert result.hit_rate.tolist() == [1]
    assert result.mrr.tolist() == [1]


def test_item_outside_the_catalogue_is_not_ranked():
    result = rank([[NEVER, 9.0, 2.0, 1.0]], [[2]], catalogue=[False, False, True, True])
    assert result.mrr.tolist() == [1]
    assert rank([[NEVER, 9.0, 2.0, 1.0]], [[1]], catalogue=[False, False, True, True]).mrr.tolist() == [0]


def test_by_hand():
    scores = [[NEVER, 0.9, 0.8, 0.7, 0.6], [NEVER, 0.1, 0.2, 0.3, 0.4]]
    result = rank(scores, [[2, 4], [1, 0]], k=2)
    assert result.hit_rate.tolist() == [1, 0]
    assert result.recall.tolist() == [0.5, 0]
    assert result.ndcg[0] == pytest.approx((1 / np.log2(3)) / (1 + 1 / np.log2(3)))
    assert result.ndcg[1] == 0
    assert result.mrr.tolist() == [0.5, 0.25]
    assert result.coverage == 4 / 5  # 1, 2 by the first user, 4, 3 by the second; index 0 is in this catalogue


def test_without_a_look_at_lists_ranks_are_the_same_and_nothing_is_covered():
    scores, targets = np.array([[NEVER, 0.9, 0.8, 0.8], [NEVER, 0.1, 0.2, 0.3]]), np.array([[2, 3], [1, 0]])
    meter = RankingMeter(2, np.arange(4) > 0, has_lists=False)
    meter.add(scores, targets)
    found = meter.result()
    assert found.ndcg.tolist() == rank(scores, targets, 2, np.arange(4) > 0).ndcg.tolist()
    assert (dict(found.coverage), [name for name in found.metrics() if "coverage" in name]) == ({}, [])
    with pytest.raises(ValueError, match="a background tells of lists"):
        RankingMeter(2, np.arange(4) > 0, background=object(), has_lists=False)


def test_fractional_rank_is_a_hit_only_within_k():
    # Places 1 and 2 are shared: rank 1.5, outside the top 1 and inside the top 2.
    scores, targets = [[NEVER, 4.0, 4.0, 1.0]], [[1]]
    assert rank(scores, targets, k=1).hit_rate.tolist() == [0]
    assert rank(scores, targets, k=1).coverage == 0
    inside = rank(scores, targets, k=2)
    assert inside.ndcg.tolist() == [pytest.approx(1 / np.log2(2.5))]
    assert inside.mrr.tolist() == [pytest.approx(1 / 1.5)]
    assert inside.coverage == 2 / 4


def test_one_score_for_everything_earns_nothing():
    result = rank(np.zeros((3, 50)), [[1], [2], [3]])
    assert (result.hit_rate.sum(), result.recall.sum(), result.ndcg.sum(), result.coverage) == (0, 0, 0, 0)


def test_ndcg_never_exceeds_one():
    # Nineteen targets tied on places 1-19 all have rank 10, which ten ideal places cannot give.
    scores = np.r_[NEVER, np.zeros(19)][None]
    assert rank(scores, np.arange(1, 20)[None]).ndcg.tolist() == [1]


def test_order_and_scale_of_the_columns_change_nothing():
    random = np.random.default_rng(3)
    scores = np.c_[np.full(20, NEVER), random.integers(0, 6, (20, 40))]
    targets = 1 + np.argsort(random.random((20, 40)), axis=1)[:, :5]
    moved_to = np.r_[0, 1 + random.permutation(40)]
    moved = np.empty_like(scores)
    moved[:, moved_to] = scores * 3 - 1
    assert np.array_equal(mid_ranks(scores, targets), mid_ranks(moved, moved_to[targets]))


def test_score_that_is_no_number_is_refused():
    with pytest.raises(DataRefused, match="not a number"):
        rank([[NEVER, np.nan]], [[1]])


def test_user_without_target_is_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="without a target"):
        rank([[NEVER, 1.0]], [[0]])


def test_standard_error_is_of_the_sample():
    metric = Metric.over_users(np.array([0.0, 1.0, 1.0]))
    assert (metric.value, metric.standard_error) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert Metric.over_users(np.array([1.0])) == Metric(1.0, None, 1)
    assert Metric.over_users(np.array([np.nan, 0.0, 1.0, np.nan, 1.0])) == metric
    assert Metric.over_users(np.array([np.nan])).n_users == 0


SQL = """
with placed as (
    select user_id, item, score, row_number() over (partition by user_id order by score desc) as place
    from scores where catalogue and score > '-inf'::double
), ranked as (
    select user_id, item, avg(place) over (partition by user_id, score) as mid_rank from placed
), judged as (
    select targets.user_id, targets.item, coalesce(ranked.mid_rank, 'inf'::double) as mid_rank
    from targets left join ranked using (user_id, item)
), users as (
    select user_id,
           max((mid_rank <= $k)::double) as hit_rate,
           avg((mid_rank <= $k)::double) as recall,
           least(1, sum(case when mid_rank <= $k then 1 / log2(1 + mid_rank) else 0 end)
               / list_sum([1 / log2(1 + place) for place in range(1, 1 + least($k, count(*)))])) as ndcg,
           max(1 / mid_rank) as mrr
    from judged group by user_id
)
select users.*, (select count(distinct item) from ranked where mid_rank <= $k)
    / (select count(distinct item) from scores where catalogue) as coverage
from users order by user_id
"""


@pytest.mark.parametrize(
    ("levels", "k", "width"), [(3, 10, 90), (12, 5, 90), (12, 10, 90), (1000, 1, 90), (1000, 10, 90), (500, 3, 2000)]
)
def test_equal_to_sql_on_scores_full_of_ties(levels, k, width):
    random = np.random.default_rng(levels + k)
    n_users = 60
    scores = random.integers(0, levels, (n_users, width)).astype(np.float64)
    scores[random.random(scores.shape) < 0.1] = NEVER
    catalogue = random.random(width) < 0.8
    catalogue[0] = False
    targets = 1 + np.argsort(random.random((n_users, width + 5)), axis=1)[:, :15]  # some beyond the scored items
    targets[np.arange(15) >= random.integers(1, 16, n_users)[:, None]] = 0

    meter = RankingMeter(k, catalogue)
    for rows in (slice(0, 7), slice(7, 40), slice(40, n_users)):
        meter.add(scores[rows], targets[rows])
    result = meter.result()

    expected = _in_sql(scores, catalogue, targets, k)
    for name in ("hit_rate", "recall", "ndcg", "mrr"):
        np.testing.assert_allclose(getattr(figures(result), name), expected[name], rtol=0, atol=1e-12, err_msg=name)
    assert result.coverage[k] == pytest.approx(expected["coverage"][0], abs=1e-12)
    errors = expected["ndcg"].std(ddof=1) / np.sqrt(n_users)
    assert result.metrics()[f"ndcg@{k}"].standard_error == pytest.approx(errors)


def _in_sql(scores, catalogue, targets, k):
    user, item = (index.ravel() for index in np.indices(scores.shape))
    long = pd.DataFrame({"user_id": user, "item": item, "score": scores.ravel(), "catalogue": catalogue[item]})
    user, place = np.nonzero(targets)
    wanted = pd.DataFrame({"user_id": user, "item": targets[user, place]})
    with duckdb.connect() as connection:
        connection.register("scores", long)
        connection.register("targets", wanted)
        return connection.execute(SQL, {"k": k}).df()

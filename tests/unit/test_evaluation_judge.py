"""Baselines, the verdict on a split, and the gate."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from behavior_lib.errors import DataRefused, GateNotPassed
from behavior_lib.evaluation.baselines import OwnFrequency, Popularity
from behavior_lib.evaluation.judge import CHAMPION, MODEL, Verdict, check_gate, rank_methods, stored_lines

POPULAR = np.array([0, 0, 0, 50, 40, 30, 20, 20])
CATALOGUE = POPULAR > 0


def place_first(*items):
    """A scorer that puts one item on each user's first place."""

    def scores(rows):
        result = np.tile(POPULAR.astype(np.float32), (rows.stop - rows.start, 1))
        result[np.arange(len(result)), np.asarray(items)[rows]] = 1000
        return result

    return scores


def verdict(model, *, targets=((3,), (6,), (7,)), k=2, batch_size=2, **others):
    methods = {MODEL: model, **others, "popularity": Popularity(POPULAR)}
    return Verdict("validation", rank_methods("validation", methods, np.asarray(targets), CATALOGUE, k, batch_size))


def test_popularity_is_the_count():
    assert Popularity(POPULAR)(slice(4, 6)).tolist() == [POPULAR.tolist()] * 2


def test_own_frequency_orders_by_own_count_then_popularity():
    pairs = np.array([2, 0, 0, 2, 2]), np.array([6, 5, 7, 3, 5])
    own = OwnFrequency(csr_array((np.array([1, 2, 2, 1, 10**9]), pairs), shape=(3, 8)), POPULAR)
    scores = own(slice(0, 3))
    assert np.argsort(-scores[0], kind="stable")[:5].tolist() == [5, 7, 3, 4, 6]
    assert np.argsort(-scores[1], kind="stable")[:3].tolist() == [3, 4, 5]
    assert scores[1, 6] == scores[1, 7]
    assert np.argsort(-scores[2], kind="stable")[:4].tolist() == [5, 3, 6, 4]
    assert np.array_equal(own(slice(2, 3)), scores[2:])


def test_own_frequency_is_equal_to_sorting_pairs():
    random = np.random.default_rng(1)
    n_users, width = 30, 25
    popularity = random.integers(0, 4, width)
    counts = random.integers(0, 3, (n_users, width))
    own = OwnFrequency(csr_array(counts), popularity)
    scores = own(slice(0, n_users))
    for user in range(n_users):
        pairs = [(counts[user, item], popularity[item]) for item in range(width)]
        for item in range(width):
            above = sum(pair > pairs[item] for pair in pairs)
            assert above == (scores[user] > scores[user, item]).sum()


def test_verdict_names_the_winner_and_pairs_the_users():
    result = verdict(place_first(3, 6, 7))
    assert result.winner == MODEL
    assert result.best_baseline == "popularity"
    assert result.n_users == 3
    gain = result.difference(MODEL, "popularity")
    assert gain.value == pytest.approx(2 / 3)
    assert gain.standard_error == pytest.approx(np.std([0, 1, 1], ddof=1) / np.sqrt(3))
    assert result.as_lines()[-1].startswith("model wins: model - popularity = +0.6667")


def test_batch_size_changes_nothing():
    whole, small = verdict(place_first(3, 6, 7), batch_size=100), verdict(place_first(3, 6, 7), batch_size=1)
    assert whole.as_rows() == small.as_rows()


def test_rows_carry_the_callers_columns():
    rows = verdict(place_first(3, 6, 7)).as_rows(model_name="m", model_version=4)
    assert len(rows) == 2 * 8
    by_name = {(row["method"], row["metric"]): row for row in rows}
    assert by_name[MODEL, "ndcg@2"]["value"] == 1
    assert by_name[MODEL, "coverage@2"]["standard_error"] is None
    assert {row["model_version"] for row in rows} == {4}
    paired = float(np.std([0, 1, 1], ddof=1) / np.sqrt(3))
    assert by_name["popularity", "ndcg@2"]["lead_standard_error"] == pytest.approx(paired)
    assert by_name["popularity", "coverage@2"]["lead_standard_error"] is None
    assert by_name[MODEL, "ndcg@2"]["lead_standard_error"] is None


def test_figures_are_told_with_their_standard_errors():
    head, own, other = verdict(place_first(3, 6, 7)).as_lines()[:3]
    assert head.split() == ["validation,", "3", "users", "hit_rate@2", "recall@2", "ndcg@2", "mrr", "coverage@2"]
    assert own.split() == ["model", *(["1.0000", "±", "0.0000"] * 4), "0.8000"]
    # One of three users has a hit: their standard deviation is 1 / sqrt(3).
    assert other.split()[:4] == ["popularity", "0.3333", "±", "0.3333"]
    assert [head.index("ndcg@2"), own.index("1.0000", 60)] == [64, 64]


def test_stored_figures_are_told_as_those_of_a_judgement():
    result = verdict(place_first(3, 6, 7))
    rows = result.as_rows(model_version=4)
    later = [{**row, "split": "test"} for row in rows]
    lines = stored_lines([*later, *rows[::-1]], 2)
    assert lines[:3] == result.as_lines()[:3]
    assert lines[3:] == [lines[0].replace("validation, 3 users", "test, 3 users".ljust(19)), *lines[1:3]]


def test_equal_to_a_baseline_is_not_better():
    same = verdict(Popularity(POPULAR))
    assert same.winner == "popularity"
    with pytest.raises(
        GateNotPassed, match=r"NDCG@2 0\.3333 does not beat popularity 0\.3333 in split validation with 3 users"
    ):
        check_gate(same)


def test_gate_opens_for_a_model_better_than_baselines():
    check_gate(verdict(place_first(3, 6, 7)))


def test_baselines_outside_the_gate_are_figures_beside_the_model():
    methods = {MODEL: place_first(3, 6, 3), "other": place_first(3, 6, 7), "popularity": Popularity(POPULAR)}
    results = rank_methods("validation", methods, np.array([[3], [6], [7]]), CATALOGUE, 2, 2)
    result = Verdict("validation", results, ["popularity"])
    check_gate(result)
    assert (result.winner, result.best_baseline, result.baselines) == ("other", "other", ("other", "popularity"))
    assert result.as_lines()[-1].startswith("other wins: model - other = -0.3333")
    with pytest.raises(GateNotPassed, match=r"does not beat other 1\.0000 in"):
        check_gate(Verdict("validation", results))


def test_gate_compares_with_the_champion_on_the_same_users():
    with pytest.raises(GateNotPassed, match=r"champion 1\.0000"):
        check_gate(verdict(place_first(3, 6, 3), champion=place_first(3, 6, 7)))
    check_gate(verdict(place_first(3, 6, 7), champion=place_first(3, 6, 7)))
    assert CHAMPION not in verdict(place_first(3, 6, 7), champion=place_first(3, 6, 7)).baselines


def test_split_without_users_or_items_is_refused():
    with pytest.raises(DataRefused, match="no user to judge on in split validation"):
        verdict(Popularity(POPULAR), targets=np.zeros((0, 1), dtype=int))
    with pytest.raises(DataRefused, match="no item before the cut"):
        rank_methods("test", {MODEL: Popularity(POPULAR)}, np.array([[3]]), np.zeros(8, dtype=bool), 2, 2)


def test_one_row_shown_to_everybody_is_judged_like_a_row_each():
    class Copied:
        def __call__(self, rows):
            return np.tile(POPULAR.astype(np.float64), (rows.stop - rows.start, 1))

    shown, copied = verdict(Popularity(POPULAR)), verdict(Copied())
    assert shown.as_rows() == copied.as_rows()

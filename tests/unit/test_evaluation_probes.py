"""Nested cross-validation of labels: what it finds, and what it must not see."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_array
from threadpoolctl import threadpool_info, threadpool_limits

from behavior_lib.evaluation import probes
from behavior_lib.evaluation.probes import Estimate, Label, Plan, Probed, judge_fold, probe
from behavior_lib.evaluation.probes_features import AGGREGATES, MAJORITY, TF_IDF, TOGETHER, VECTORS, Panel
from behavior_lib.evaluation.probes_folds import deal, fewest
from behavior_lib.evaluation.probes_learners import answers, metrics
from behavior_lib.evaluation.probes_table import as_table

PLAN = Plan(folds=3, inner_folds=2, repeats=1, dimension=4, seed=5)


def ids(n):
    return np.array([f"u{number:04}" for number in range(n)], dtype=object)


def panel(vectors, aggregates, counts):
    return Panel(ids(len(vectors)), vectors.astype(np.float32), aggregates, csr_array(counts))


def test_users_are_dealt_by_what_they_are_called():
    values = (np.arange(103) % 4 == 0).astype(float)
    fold = deal(ids(103), values, True, 5, "key")
    for of_class in (values == 1, values == 0, values >= 0):
        sizes = np.bincount(fold[of_class], minlength=5)
        assert sizes.max() - sizes.min() <= 1
    order = np.random.default_rng(0).permutation(103)
    np.testing.assert_array_equal(deal(ids(103)[order], values[order], True, 5, "key"), fold[order])
    assert (deal(ids(103), values, True, 5, "another") != fold).sum() > 50


def test_folds_of_numbers_are_alike():
    values = np.round(np.random.default_rng(1).exponential(3.0, 100))
    fold = deal(ids(100), values, False, 5, "key")
    ranked = np.array([np.sort(values[fold == number]) for number in range(5)])
    # The k-th lowest of every fold comes from the k-th five of all.
    np.testing.assert_array_equal(np.sort(ranked, axis=0).T.ravel(), np.sort(values))
    order = np.random.default_rng(0).permutation(100)
    np.testing.assert_array_equal(deal(ids(100)[order], values[order], False, 5, "key"), fold[order])
    assert (deal(ids(100), values, False, 5, "another") != fold).sum() > 50


def test_fewest_leaves_one_for_every_inner_fold():
    for n_folds, n_inner in itertools.product(range(2, 8), repeat=2):
        least = fewest(n_folds, n_inner)
        assert least - -(-least // n_folds) >= n_inner
        assert least >= n_folds
        assert least == max(n_folds, n_inner) or (least - 1) - -(-(least - 1) // n_folds) < n_inner


def test_metrics_by_hand():
    label, answer = np.array([1.0, 0, 1, 0, 0, 1]), np.array([0.9, 0.4, 0.4, 0.6, 0.1, 0.7])
    pairs = [(1.0 if a > b else 0.5 if a == b else 0.0) for a in answer[label == 1] for b in answer[label == 0]]
    precision, recall = 2 / 3, 2 / 3
    expected = {"auc": np.mean(pairs), "accuracy": 4 / 6, "f1": 2 * precision * recall / (precision + recall)}
    assert metrics(label, answer, True) == pytest.approx(expected)
    numbers, told = np.array([1.0, 2, 4]), np.array([1.0, 3, 3])
    rest = ((numbers - told) ** 2).sum() / ((numbers - numbers.mean()) ** 2).sum()
    assert metrics(numbers, told, False) == pytest.approx({"r2": 1 - rest, "mae": 2 / 3})


def test_the_error_knows_that_folds_share_users():
    values = np.array([0.5, 0.7, 0.6, 0.8])
    estimate = Estimate.over_folds(values, folds=2)
    # Test and train are of one size where there are two folds.
    assert estimate.value == pytest.approx(0.65)
    assert estimate.standard_error == pytest.approx(np.sqrt((1 / 4 + 1) * np.var(values, ddof=1)))


def test_each_label_is_told_by_what_holds_it():
    """Recency stands in the aggregates alone, the order of two items in the vectors alone: all had the same items."""
    n, rng = 90, np.random.default_rng(2)
    recent, order = rng.integers(0, 2, n).astype(float), rng.integers(0, 2, n).astype(float)
    noise = rng.normal(size=(n, 6))
    noise[:, 0] += 4 * order
    figures = rng.normal(size=(n, 3))
    figures[:, 2] = 30 - 20 * recent + rng.normal(size=n)
    users = panel(noise, figures, np.ones((n, 5)))
    of_recency = {name: of["auc"].value for name, of in probe(users, Label("r", recent, True), PLAN).figures().items()}
    of_order = {name: of["auc"].value for name, of in probe(users, Label("o", order, True), PLAN).figures().items()}
    assert of_recency[AGGREGATES] > 0.99 > 0.65 > max(of_recency[VECTORS], of_recency[TF_IDF])
    assert of_order[VECTORS] > 0.98 > 0.65 > max(of_order[AGGREGATES], of_order[TF_IDF])
    assert min(of_recency[TOGETHER], of_order[TOGETHER]) > 0.95
    # All have the same items, so TF-IDF is a constant, and so is the majority.
    assert of_order[TF_IDF] == of_order[MAJORITY] == of_recency[MAJORITY] == 0.5


def test_noise_tells_nothing_unless_labels_leak():
    rng = np.random.default_rng(7)
    values, noise = rng.integers(0, 2, 300).astype(float), rng.normal(size=(300, 1000))
    none = np.zeros((300, 1))

    def scores_of(vectors):
        return probe(panel(vectors, none, none), Label("coin", values, True), PLAN).scores[VECTORS]["auc"]

    # What anybody who looks at all labels before the folds are made would feed: the columns that fit them best.
    fit = np.abs((noise - noise.mean(axis=0)).T @ (values - values.mean()))
    leaking = noise[:, np.argsort(-fit)[:10]]
    np.testing.assert_allclose(scores_of(noise[:, :10]), [0.49257326, 0.51167472, 0.45652174], atol=1e-3)
    assert scores_of(leaking).min() > 0.65


def test_the_inner_folds_choose_who_can_tell():
    """Whether two numbers have one sign is told by trees alone; a sum of many of them by lines, and worse by trees."""
    rng = np.random.default_rng(12)
    two, many, none = rng.normal(size=(240, 2)), rng.normal(size=(240, 30)), np.zeros((240, 1))
    alike, above = two.prod(axis=1) > 0, many.sum(axis=1) > 0
    of_two, of_many = (
        probe(panel(vectors, none, none), Label("told", label.astype(float), True), PLAN)
        for vectors, label in ((two, alike), (many, above))
    )
    assert of_two.chosen[VECTORS] == {"boosting": 3}
    assert of_two.scores[VECTORS]["auc"].min() > 0.9
    assert "boosting" not in of_many.chosen[VECTORS]
    assert of_many.scores[VECTORS]["auc"].min() > 0.9


def test_labels_of_the_test_fold_are_not_looked_at():
    rng = np.random.default_rng(4)
    values = rng.integers(0, 2, 60).astype(float)
    users = panel(rng.normal(size=(60, 5)) + values[:, None], rng.normal(size=(60, 3)), rng.poisson(1.0, (60, 9)))
    train, test = np.arange(40), np.arange(40, 60)
    told = judge_fold(users, values, True, train, test, PLAN, "key")
    changed = values.copy()
    changed[test] = 1 - changed[test]
    for name, (learner, answer) in judge_fold(users, changed, True, train, test, PLAN, "key").items():
        assert learner == told[name][0]
        np.testing.assert_array_equal(answer, told[name][1])
    changed[train] = 1 - changed[train]
    again = judge_fold(users, changed, True, train, test, PLAN, "key")
    assert (again[VECTORS][1] != told[VECTORS][1]).any()


def test_the_order_of_users_says_nothing_and_unknown_ones_stay_out():
    rng = np.random.default_rng(8)
    values = np.where(rng.random(70) < 0.2, np.nan, rng.integers(0, 2, 70))
    users = panel(rng.normal(size=(70, 3)), rng.normal(size=(70, 2)), rng.poisson(1.0, (70, 6)))
    one = probe(users, Label("x", values, True), PLAN)
    order = rng.permutation(70)
    other = probe(users.rows(order), Label("x", values[order], True), PLAN)
    known = np.flatnonzero(~np.isnan(values))
    third = probe(users.rows(known), Label("x", values[known], True), PLAN)
    for again in (other, third):
        for name, by_metric in one.scores.items():
            for metric, scores in by_metric.items():
                np.testing.assert_array_equal(scores, again.scores[name][metric])
    assert one.n_users == len(known)
    seeded = probe(users, Label("x", values, True), Plan(3, 2, 1, 4, seed=6))
    assert (seeded.scores[VECTORS]["auc"] != one.scores[VECTORS]["auc"]).any()


def test_learners_have_one_thread(monkeypatch):
    rng, seen = np.random.default_rng(3), []

    def watched(*arguments):
        seen.extend(library["num_threads"] for library in threadpool_info())
        return answers(*arguments)

    monkeypatch.setattr(probes, "answers", watched)
    users = panel(rng.normal(size=(60, 3)), rng.normal(size=(60, 2)), rng.poisson(1.0, (60, 4)))
    with threadpool_limits(2):
        judge_fold(users, rng.integers(0, 2, 60).astype(float), True, np.arange(40), np.arange(40, 60), PLAN, "key")
        assert {library["num_threads"] for library in threadpool_info()} == {2}
    assert set(seen) == {1}


def test_numbers_are_told_too():
    rng = np.random.default_rng(9)
    vectors = rng.normal(size=(80, 4))
    spend = vectors @ [1.0, 2.0, 0.0, -1.0] + 5
    found = probe(panel(vectors, rng.normal(size=(80, 2)), np.ones((80, 2))), Label("spend", spend, False), PLAN)
    figures = found.figures()
    assert figures[VECTORS]["r2"].value > 0.99
    assert figures[VECTORS]["mae"].value < 0.2 < 1 < figures[MAJORITY]["mae"].value
    assert figures[MAJORITY]["r2"].value <= 0
    assert found.chosen[VECTORS] == {"ridge alpha=1": 3}
    assert (found.headline, found.n_users) == ("r2", 80)


def test_differences_are_from_the_best_baseline_fold_by_fold():
    scores = {
        VECTORS: {"auc": np.array([0.8, 0.7, 0.9])},
        AGGREGATES: {"auc": np.array([0.6, 0.6, 0.9])},
        TF_IDF: {"auc": np.array([0.7, 0.6, 0.9])},
        TOGETHER: {"auc": np.array([0.7, 0.6, 0.8])},
        MAJORITY: {"auc": np.array([0.5, 0.5, 0.5])},
    }
    label = Label("old", np.array([1.0, 0.0, np.nan, 1.0]), True)
    found = Probed(label, 3, scores, {name: {"boosting": 3} for name in scores})
    assert found.best_baseline == TF_IDF
    error = np.sqrt((1 / 3 + 1 / 2) * np.var([0.1, 0.1, 0.0], ddof=1))
    differences = found.differences()
    assert list(differences) == [VECTORS, TOGETHER]
    assert differences[VECTORS].value == pytest.approx(0.2 / 3)
    assert differences[VECTORS].standard_error == pytest.approx(error)
    told = found.as_dict()
    assert (told["users"], told["true"], told["best_baseline"]) == (3, 2, TF_IDF)
    assert told["features"][MAJORITY]["auc"] == {"value": 0.5, "standard_error": 0.0}
    assert told["features"][VECTORS]["learners"] == {"boosting": 3}
    table = as_table([found], "title")
    assert list(table.columns[2].cells)[2] == "tf_idf (best baseline)"
    assert next(iter(table.columns[1].cells)) == "3 (2 true)"
    assert list(table.columns[5].cells)[:2] == ["+0.067 ± 0.053", ""]
    # 12 errors and 3, where three folds need 4.3.
    sure = {**scores, VECTORS: {"auc": scores[TF_IDF]["auc"] + [0.10, 0.11, 0.12]}}
    unsure = {**scores, VECTORS: {"auc": scores[TF_IDF]["auc"] + [0.07, 0.11, 0.15]}}
    marked = [next(iter(as_table([replace(found, scores=each)], "").columns[5].cells)) for each in (sure, unsure)]
    assert [cell.endswith(" *") for cell in marked] == [True, False]


@pytest.mark.parametrize(
    ("values", "is_binary", "reason"),
    [
        ([1.0] * 2 + [0.0] * 40, True, "2 users for whom it is true, and 3 are needed"),
        ([1.0] * 20 + [0.0], True, "1 users for whom it is false, and 3 are needed"),
        ([1.0, 2.0] + [np.nan] * 30, False, "2 users, and 6 are needed"),
        ([0.0] * 30, False, "it is 0 for all users"),
        ([1.0] * 3 + [0.0] * 3, True, None),
        ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], False, None),
        ([1.0, 2.0, 3.0] * 2, False, "a fold may have users with 2 alone"),
        ([0.0] * 27 + [5.0, 6.0, 7.0], False, None),
        ([0.0] * 28 + [6.0, 7.0], False, "a fold may have users with 0 alone"),
    ],
)
def test_labels_that_cannot_be_judged_say_why(values, is_binary, reason):
    assert PLAN.objection(Label("x", np.array(values), is_binary)) == reason

"""How well a label that the model never saw can be told from its user vectors, beside dumb features: nested
cross-validation.

Everything that is fitted or chosen is so on the users of the training folds: scalers, idf, SVD, learners, and which
learner it is, which inner folds decide (Cawley & Talbot 2010, On over-fitting in model selection).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from behavior_lib.evaluation.probes_features import (
    AGGREGATES,
    MAJORITY,
    TF_IDF,
    FeatureSplit,
    Panel,
    split_features,
)
from behavior_lib.evaluation.probes_folds import deal, fewest, in_a_whole_fold
from behavior_lib.evaluation.probes_learners import Candidate, answers, candidates, headline, metrics

BASELINES = (AGGREGATES, TF_IDF, MAJORITY)


@dataclass(frozen=True)
class Label:
    """What is to be told of the users of a panel. values: float64 [n], NaN where it is not known; 0 or 1 if binary.

    class_of: the name that the classes have together of which this is one; None: it stands alone.
    """

    name: str
    values: NDArray[np.float64]
    is_binary: bool
    class_of: str | None = None

    @property
    def known(self) -> NDArray[np.int64]:
        """Rows of the panel."""
        return np.flatnonzero(~np.isnan(self.values))


@dataclass(frozen=True)
class Plan:
    """folds and inner_folds: of the nested cross-validation, which is repeated with other folds. dimension: of TF-IDF.
    seed: of folds, SVD and trees.
    """

    folds: int
    inner_folds: int
    repeats: int
    dimension: int
    seed: int

    def objection(self, label: Label) -> str | None:
        """Why the label cannot be judged; None where it can."""
        values, least = label.values[label.known], fewest(self.folds, self.inner_folds)
        if label.is_binary:
            for value, name in ((1.0, "true"), (0.0, "false")):
                n = int((values == value).sum())
                if n < least:
                    return f"{n} users for whom it is {name}, and {least} are needed"
        elif len(values) < 2 * least:
            return f"{len(values)} users, and {2 * least} are needed"
        elif values.min() == values.max():
            return f"it is {values[0]:g} for all users"
        elif (common := in_a_whole_fold(values, self.folds)) is not None:
            return f"a fold may have users with {common:g} alone"
        return None


@dataclass(frozen=True)
class Estimate:
    """A mean over folds and its standard error."""

    value: float
    standard_error: float

    @classmethod
    def over_folds(cls, values: NDArray[np.float64], folds: int) -> Estimate:
        """values: float64 [folds * repeats].

        Folds share the users that they learn from, so that s / sqrt(n) would be too small by far: the variance is
        (1 / n + n_test / n_train) s² (Nadeau & Bengio 2003, Inference for the generalization error).
        """
        variance = (1 / len(values) + 1 / (folds - 1)) * values.var(ddof=1)
        return cls(float(values.mean()), float(np.sqrt(variance)))


@dataclass(frozen=True)
class Probed:
    """How well a label was told. scores: by features and metric float64 [folds * repeats], all from the same folds.
    chosen: by features, how often each learner was. n_users; n_true: of a binary label.
    """

    label: Label
    folds: int
    scores: Mapping[str, Mapping[str, NDArray[np.float64]]]
    chosen: Mapping[str, Mapping[str, int]]

    @property
    def n_users(self) -> int:
        """Users whose label is known."""
        return len(self.label.known)

    @property
    def n_folds(self) -> int:
        """Folds of all repeats, which every estimate is a mean over."""
        return len(self.scores[MAJORITY][self.headline])

    @property
    def headline(self) -> str:
        """The metric that decides."""
        return headline(self.label.is_binary)

    @property
    def best_baseline(self) -> str:
        """Of the baselines the one with the highest headline."""
        return max(BASELINES, key=lambda name: float(self.scores[name][self.headline].mean()))

    def figures(self) -> dict[str, dict[str, Estimate]]:
        """By features and metric."""
        return {
            name: {metric: Estimate.over_folds(values, self.folds) for metric, values in by_metric.items()}
            for name, by_metric in self.scores.items()
        }

    def differences(self) -> dict[str, Estimate]:
        """By features that are no baseline: the headline minus that of the best baseline, fold by fold."""
        best = self.scores[self.best_baseline][self.headline]
        return {
            name: Estimate.over_folds(by_metric[self.headline] - best, self.folds)
            for name, by_metric in self.scores.items()
            if name not in BASELINES
        }

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        known = self.label.values[self.label.known]
        return {
            "users": self.n_users,
            **({"true": int(known.sum())} if self.label.is_binary else {}),
            "headline": self.headline,
            "best_baseline": self.best_baseline,
            "features": {
                name: {**{metric: vars(each) for metric, each in of.items()}, "learners": dict(self.chosen[name])}
                for name, of in self.figures().items()
            },
            "differences": {name: vars(each) for name, each in self.differences().items()},
        }


def probe(panel: Panel, label: Label, plan: Plan) -> Probed:
    """Nested cross-validation of every kind of features on one label, for the users of whom it is known.

    The same users lie in the same folds for all features, whatever order they come in.
    """
    rows = label.known[np.argsort(panel.user_ids[label.known], kind="stable")]
    users, values = panel.rows(rows), label.values[rows]
    scores: dict[str, dict[str, list[float]]] = {}
    chosen: dict[str, Counter[str]] = {}
    for repeat in range(plan.repeats):
        key = f"{plan.seed}/{label.name}/{repeat}"
        fold = deal(users.user_ids, values, label.is_binary, plan.folds, key)
        for number in range(plan.folds):
            train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
            told = judge_fold(users, values, label.is_binary, train, test, plan, f"{key}/{number}")
            for name, (learner, answer) in told.items():
                by_metric = scores.setdefault(name, {})
                for metric, value in metrics(values[test], answer, label.is_binary).items():
                    by_metric.setdefault(metric, []).append(value)
                chosen.setdefault(name, Counter())[learner] += 1
    arrays = {name: {metric: np.array(of) for metric, of in found.items()} for name, found in scores.items()}
    return Probed(label, plan.folds, arrays, {name: dict(counts) for name, counts in chosen.items()})


def judge_fold(
    users: Panel,
    values: NDArray[np.float64],
    is_binary: bool,
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    plan: Plan,
    key: str,
) -> dict[str, tuple[str, NDArray[np.float64]]]:
    """By features: the name of the learner that the inner folds of train chose, and its answers for test, [n_test].

    values: float64 [n], the label of each user; those of test are not looked at.
    """
    known = values[train]
    # With more threads sums have another order, and so the figures other digits; and where another process has the
    # cores, trees wait for their threads by spinning, minutes a fit.
    with threadpool_limits(1):
        features = split_features(users, train, test, plan.dimension, plan.seed)
        best = _choose(users, known, is_binary, train, plan, key)
        told = {
            name: (best[name].name, answers(best[name], split.train, known, split.test, plan.seed))
            for name, split in features.items()
        }
    return {**told, MAJORITY: ("constant", np.full(len(test), known.mean()))}


def _choose(
    users: Panel, known: NDArray[np.float64], is_binary: bool, train: NDArray[np.int64], plan: Plan, key: str
) -> dict[str, Candidate]:
    """By features: the candidate with the best mean headline over the inner folds. known: float64 [n_train]."""
    fold = deal(users.user_ids[train], known, is_binary, plan.inner_folds, key)
    choice = candidates(is_binary)
    totals: dict[str, NDArray[np.float64]] = {}
    for number in range(plan.inner_folds):
        learn, check = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        splits = split_features(users, train[learn], train[check], plan.dimension, plan.seed)
        for name, split in splits.items():
            totals.setdefault(name, np.zeros(len(choice)))
            totals[name] += [_score(each, split, known[learn], known[check], is_binary, plan.seed) for each in choice]
    return {name: choice[int(np.argmax(total))] for name, total in totals.items()}


def _score(
    candidate: Candidate,
    split: FeatureSplit,
    learned: NDArray[np.float64],
    asked: NDArray[np.float64],
    is_binary: bool,
    seed: int,
) -> float:
    answer = answers(candidate, split.train, learned, split.test, seed)
    return metrics(asked, answer, is_binary)[headline(is_binary)]

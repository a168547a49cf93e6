"""What learns a label from features, and how good its answers are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    mean_absolute_error,
    r2_score,
    roc_auc_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

AUC, ACCURACY, F1 = "auc", "accuracy", "f1"
R2, MAE = "r2", "mae"

_STRENGTHS = (0.0003, 0.003, 0.03, 0.3, 3.0)  # C of logistic regression
_PENALTIES = (1.0, 10.0, 100.0, 1000.0, 10000.0)  # alpha of ridge regression
_BOOSTING = {"learning_rate": 0.05, "max_iter": 100, "max_leaf_nodes": 8, "early_stopping": False}


@dataclass(frozen=True)
class Candidate:
    """A learner with its setting. name: as results tell it. make: an unfitted one, of a seed."""

    name: str
    make: Callable[[int], Any]


def candidates(is_binary: bool) -> list[Candidate]:
    """What the inner folds choose among; of equals the first is taken.

    The linear ones, and gradient boosting (scikit-learn's histogram trees).
    """
    kind = HistGradientBoostingClassifier if is_binary else HistGradientBoostingRegressor
    return [*linear_candidates(is_binary), Candidate("boosting", lambda seed: kind(random_state=seed, **_BOOSTING))]


def linear_candidates(is_binary: bool) -> list[Candidate]:
    """Logistic regression on standardised features with several C, or ridge regression for numbers."""
    if is_binary:
        return [Candidate(f"logistic C={c:g}", _logistic(c)) for c in _STRENGTHS]
    return [Candidate(f"ridge alpha={alpha:g}", _ridge(alpha)) for alpha in _PENALTIES]


def answers(
    candidate: Candidate,
    features: NDArray[np.float64],
    label: NDArray[np.float64],
    asked: NDArray[np.float64],
    seed: int,
) -> NDArray[np.float64]:
    """float64 [n_asked]: the probability of the label, or the number, that is learned from features and label."""
    learner = candidate.make(seed).fit(features, label)
    told = learner.predict_proba(asked)[:, 1] if hasattr(learner, "predict_proba") else learner.predict(asked)
    return np.asarray(told, dtype=np.float64)


def metrics(label: NDArray[np.float64], answer: NDArray[np.float64], is_binary: bool) -> dict[str, float]:
    """By name: area under the ROC curve, accuracy and F1 of the answer "at least one half"; or R² and mean absolute
    error. The first is what learners are chosen by. A binary label needs users of both classes.
    """
    if not is_binary:
        return {R2: float(r2_score(label, answer)), MAE: float(mean_absolute_error(label, answer))}
    said = answer >= 0.5
    return {
        AUC: float(roc_auc_score(label, answer)),
        ACCURACY: float(accuracy_score(label, said)),
        F1: float(f1_score(label, said, zero_division=0.0)),
    }


def headline(is_binary: bool) -> str:
    """The name of the metric that decides."""
    return AUC if is_binary else R2


def _logistic(strength: float) -> Callable[[int], Any]:
    return lambda seed: make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))


def _ridge(penalty: float) -> Callable[[int], Any]:
    return lambda seed: make_pipeline(StandardScaler(), Ridge(alpha=penalty))

"""How well a fine-tuned model tells the labels of users that it has not learned from, beside plain answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from behavior_lib.evaluation.probes import Label
from behavior_lib.evaluation.probes_features import MAJORITY
from behavior_lib.evaluation.probes_folds import TEST_FOLD, TRAIN_FOLD, VALIDATION_FOLD
from behavior_lib.evaluation.probes_learners import answers, headline, linear_candidates, metrics

FINE_TUNED, LINEAR = "fine_tuned", "linear"
_FOLDS = {TRAIN_FOLD: "train", VALIDATION_FOLD: "validation", TEST_FOLD: "test"}


@dataclass(frozen=True)
class JudgedLabel:
    """The figures of a label on the test users whose label is known, by method and metric.

    fine_tuned: the model. linear: logistic or ridge regression on the vectors of the encoder as it was, whose strength
    the validation users choose. majority: the mean of train.
    """

    name: str
    is_binary: bool
    n_users: int
    figures: Mapping[str, Mapping[str, float]]

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        return {"users": self.n_users, "headline": headline(self.is_binary), "figures": self.figures}


def objection(label: Label, fold: NDArray[np.int64]) -> str | None:
    """Why a label can neither be learned nor judged; None where it can. fold: int64 [n], of each user."""
    for number, name in _FOLDS.items():
        known = label.values[(fold == number) & ~np.isnan(label.values)]
        if len(np.unique(known)) < 2:
            return (
                f"all {len(known)} {name} users whose label is known have the same"
                if len(known)
                else (f"it is known of no {name} user")
            )
    return None


def groups(kept: Sequence[Label], labels: Sequence[Label]) -> NDArray[np.int64]:
    """int64: of each label that is kept of the `labels`, the number from 1 of the classes that it is one of, 0 of none.

    Classes of which one is left out are no longer all that a user can have, and stand alone.
    """
    names = {label.name for label in kept}
    broken = {label.class_of for label in labels if label.name not in names} | {None}
    whole = dict.fromkeys(label.class_of for label in kept if label.class_of not in broken)
    number = {name: place for place, name in enumerate(whole, 1)}
    return np.array([number.get(label.class_of, 0) for label in kept], np.int64)


def judge_label(
    label: Label, answer: NDArray[np.float64], vectors: NDArray[np.float32], fold: NDArray[np.int64], seed: int
) -> JudgedLabel:
    """answer: float64 [n], of the fine-tuned model. vectors: float32 [n, d], of the encoder as it was."""
    train, validation, test = (label.known[fold[label.known] == number] for number in _FOLDS)
    values = label.values
    told = {
        FINE_TUNED: answer[test],
        LINEAR: _linear(label, vectors.astype(np.float64), train, validation, test, seed),
        MAJORITY: np.full(len(test), values[train].mean()),
    }
    figures = {name: metrics(values[test], given, label.is_binary) for name, given in told.items()}
    return JudgedLabel(label.name, label.is_binary, len(test), figures)


def as_table(judged: Sequence[JudgedLabel], title: str) -> Table:
    """A line a label and method; the metric that decides stands first."""
    table = Table(title=title, title_justify="left")
    for name in ("label", "test users", "method", "figure", "others"):
        table.add_column(name, justify="right" if name in ("test users", "figure") else "left")
    for label in judged:
        first = headline(label.is_binary)
        for number, (name, by_metric) in enumerate(label.figures.items()):
            others = ", ".join(f"{metric} {value:.3f}" for metric, value in by_metric.items() if metric != first)
            who = (label.name, f"{label.n_users:,}") if number == 0 else ("", "")
            last = number == len(label.figures) - 1
            table.add_row(*who, name, f"{first} {by_metric[first]:.3f}", others, end_section=last)
    return table


def _linear(
    label: Label,
    vectors: NDArray[np.float64],
    train: NDArray[np.int64],
    validation: NDArray[np.int64],
    test: NDArray[np.int64],
    seed: int,
) -> NDArray[np.float64]:
    """Of the candidates the one that tells validation best; it has learned from train alone."""
    learned, asked = label.values[train], np.concatenate([validation, test])
    best, told = -np.inf, np.zeros(len(test))
    for candidate in linear_candidates(label.is_binary):
        given = answers(candidate, vectors[train], learned, vectors[asked], seed)
        found = metrics(label.values[validation], given[: len(validation)], label.is_binary)
        if found[headline(label.is_binary)] > best:
            best, told = found[headline(label.is_binary)], given[len(validation) :]
    return told

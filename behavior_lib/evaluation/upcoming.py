"""How well type, time and value of the next instant are told, beside guesses that need no model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from behavior_lib.data.histories import Histories
from behavior_lib.evaluation.metrics import Metric, as_rows
from behavior_lib.models.objectives.upcoming import NEXT_TIME, NEXT_TYPE, NEXT_VALUE

TYPICAL, OWN_TYPICAL, PREVIOUS = "typical", "own_typical", "previous"

_DAY_SECONDS = 86_400

# Of n users by name. NEXT_TYPE: int64 [n], the event type that most events of the instant have. NEXT_TIME: float64 [n],
# days from the newest event before it. NEXT_VALUE: float64 [n], the sum of the values of its events.
Instants = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Foretold:
    """What methods said of the next instants of the same users. The first is a model; what it says is judged of all."""

    truth: Instants
    answers: Mapping[str, Instants]

    @property
    def model(self) -> str:
        """The first method."""
        return next(iter(self.answers))

    def metrics(self) -> dict[str, dict[str, Metric]]:
        """By method and name: accuracy and F1 (the mean over types, all as heavy) of the type; mean absolute and root
        mean squared error of time and value. F1 and roots are no means over users, and have no standard error.
        """
        found: dict[str, dict[str, Metric]] = {}
        for method, said in self.answers.items():
            metrics = {name: Metric.over_users(values) for name, values in self._by_user(said).items()}
            for part, truth in self._judged().items():
                name, value = _over_all(part, truth, said[part])
                metrics[name] = Metric(value, None, len(truth))
            found[method] = metrics
        return found

    def lead_errors(self, method: str) -> dict[str, float | None]:
        """Of each mean over users the paired standard error of the model's minus this method's."""
        own, theirs = self._by_user(self.answers[self.model]), self._by_user(self.answers[method])
        return {name: Metric.over_users(own[name] - theirs[name]).standard_error for name in own}

    def as_flat_metrics(self) -> dict[str, float]:
        """By `<method>.<metric>`."""
        return {f"{method}.{name}": each.value for method, of in self.metrics().items() for name, each in of.items()}

    def as_rows(self, **columns: Any) -> list[dict[str, Any]]:
        """EVALUATIONS rows; `columns` are those that only the caller knows."""
        errors = {method: self.lead_errors(method) for method in self.answers if method != self.model}
        return as_rows(self.metrics(), errors, **columns)

    def as_lines(self) -> list[str]:
        """The table that a person reads."""
        metrics = self.metrics()
        names = list(metrics[self.model])
        lines = ["the next instant".ljust(28) + "".join(name.ljust(20) for name in names)]
        for method, of_method in metrics.items():
            lines.append(method.ljust(28) + "".join(str(of_method[name]).ljust(20) for name in names))
        return [line.rstrip() for line in lines]

    def _judged(self) -> Instants:
        return {part: self.truth[part] for part in self.answers[self.model]}

    def _by_user(self, said: Instants) -> dict[str, NDArray[np.float64]]:
        values = {}
        for part, truth in self._judged().items():
            if part == NEXT_TYPE:
                values[f"{part}_accuracy"] = (said[part] == truth).astype(np.float64)
            else:
                values[f"{part}_mae"] = np.abs(said[part] - truth)
        return values


def _over_all(part: str, truth: NDArray[Any], said: NDArray[Any]) -> tuple[str, float]:
    if part == NEXT_TYPE:
        return f"{part}_f1", float(f1_score(truth, said, average="macro", zero_division=0))
    return f"{part}_rmse", float(np.sqrt(((said - truth) ** 2).mean()))


def guesses(histories: Histories) -> dict[str, Instants]:
    """What the past alone would say, by method. histories: of n users, one at least, each with an event.

    typical: the type that most events of all users have, the medians of their gaps between instants and of the values
    of instants. own_typical: the same of each user's own past. previous: what the user's newest instant was, by its
    newest event. A user with one instant has no gap; then the typical one is said.
    """
    n, width = histories.item_index.shape
    column = np.arange(width)
    present = column < histories.length[:, None]
    is_start = present & ((histories.gap_seconds != 0) | (column == 0))
    user, place = np.nonzero(is_start)
    days = pd.Series(np.where(place > 0, histories.gap_seconds[user, place] / _DAY_SECONDS, np.nan))
    instant = np.cumsum(is_start).reshape(n, width)[present] - 1
    value = pd.Series(np.bincount(instant, histories.value[present].astype(np.float64)))
    counts = np.zeros((n, int(histories.event_type.max()) + 1), dtype=np.int64)
    np.add.at(counts, (np.nonzero(present)[0], histories.event_type[present]), 1)
    newest = np.searchsorted(user, np.arange(n), side="right") - 1
    any_gap = days.median() if days.notna().any() else 0.0

    def said(kind: NDArray[Any], gap: Any, total: Any) -> Instants:
        return {
            NEXT_TYPE: np.asarray(kind, np.int64),
            NEXT_TIME: pd.Series(gap).fillna(any_gap).to_numpy(np.float64),
            NEXT_VALUE: np.asarray(total, np.float64),
        }

    typical = np.full(n, counts.sum(axis=0).argmax()), np.full(n, any_gap), np.full(n, value.median())
    own = counts.argmax(axis=1), days.groupby(user).median(), value.groupby(user).median()
    last = histories.event_type[np.arange(n), histories.length - 1], days.to_numpy()[newest], value.to_numpy()[newest]
    return {TYPICAL: said(*typical), OWN_TYPICAL: said(*own), PREVIOUS: said(*last)}

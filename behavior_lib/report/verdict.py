"""Which method wins, said honestly: also when the model loses, or when the lead could be chance."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from behavior_lib.evaluation.baselines import (
    ALS,
    DECAYED_OWN_FREQUENCY,
    EASE,
    ITEM_KNN,
    OWN_FREQUENCY,
    POPULARITY,
    RECENT_POPULARITY,
    TIFU_KNN,
    TRANSITIONS,
)
from behavior_lib.evaluation.judge import CHAMPION, MODEL
from behavior_lib.report import numbers
from behavior_lib.report.data import Score
from behavior_lib.tables.sequences import TEST, VALIDATION

_METHODS = {
    MODEL: "Model",
    CHAMPION: "Champion so far",
    POPULARITY: "Most popular",
    RECENT_POPULARITY: "Most popular lately",
    OWN_FREQUENCY: "User's own most frequent",
    DECAYED_OWN_FREQUENCY: "User's own most frequent, lately more",
    TRANSITIONS: "What usually comes next",
    ITEM_KNN: "Items of the same users (item-kNN)",
    TIFU_KNN: "Habits of the user and of similar ones (TIFU-KNN)",
    EASE: "Linear item model (EASE)",
    ALS: "Matrix factorisation (ALS)",
}
_METRICS = {"ndcg": "NDCG", "hit_rate": "Hit rate", "recall": "Recall", "mrr": "MRR", "coverage": "Coverage"}
_EXPLAINED = {
    "ndcg": "how near the top the next session's items stand; 1 is perfect",
    "hit_rate": "share of users with at least one right item on the list",
    "recall": "share of the next session's items that are on the list",
    "mrr": "one over the place of the first right item",
    "coverage": "share of the catalogue that is on anybody's list",
}


@dataclass(frozen=True)
class Cell:
    """One figure. best: no other method has a higher one."""

    text: str
    error: str
    best: bool


@dataclass(frozen=True)
class Row:
    """One method, with its figures in the order of the table's metrics. percent, low, high: of the bar's width."""

    method: str
    is_model: bool
    cells: tuple[Cell, ...]
    percent: float
    low: float
    high: float


@dataclass(frozen=True)
class SplitTable:
    """The methods on one split, best NDCG first."""

    split: str
    n_users: int
    metrics: tuple[str, ...]
    meanings: tuple[str, ...]
    ranked_by: str
    rows: tuple[Row, ...]


def method_name(method: str) -> str:
    """A method as people call it."""
    return _METHODS.get(method, method.replace("_", " ").capitalize())


def metric_name(metric: str) -> str:
    """A metric as people call it: ndcg@10 → NDCG@10."""
    stem, at, k = metric.partition("@")
    return _METRICS.get(stem, stem.replace("_", " ")) + at + k


def headline(scores: Iterable[Score], k: int) -> tuple[Score, ...]:
    """The figures that the page shows: over all targets, and of k places where they are of any number."""
    return tuple(score for score in scores if score.metric in _shown(k))


def _shown(k: int) -> set[str]:
    return {"mrr", *(f"{stem}@{k}" for stem in _METRICS if stem != "mrr")}


def split_tables(scores: Sequence[Score]) -> tuple[SplitTable, ...]:
    """One table a split, test first, then validation, then the rest by name."""
    splits = sorted({score.split for score in scores}, key=lambda name: (name != TEST, name != VALIDATION, name))
    return tuple(_table(split, [score for score in scores if score.split == split]) for split in splits)


def verdict(scores: Sequence[Score]) -> str:
    """One sentence: who ranks best on the test split (on validation where there is no test), by how much, how surely.

    Empty where there is no score of a model and a baseline.
    """
    rivals = _rivals(scores)
    return "" if rivals is None else _sentence(*rivals)


def wins(scores: Sequence[Score]) -> bool:
    """The model's NDCG is above that of every baseline, on the split that the verdict speaks of."""
    rivals = _rivals(scores)
    return rivals is not None and rivals[0].value > rivals[1].value


def _rivals(scores: Sequence[Score]) -> tuple[Score, Score] | None:
    """The model's and the best baseline's NDCG on the split to judge on."""
    for split in (TEST, VALIDATION):
        ranked = _by_ndcg(score for score in scores if score.split == split)
        own = next((score for score in ranked if score.method == MODEL), None)
        others = [score for score in ranked if score.method not in (MODEL, CHAMPION)]
        if own is not None and others:
            return own, others[0]
    return None


def _sentence(own: Score, rival: Score) -> str:
    name = metric_name(own.metric)
    own_figure, rival_figure = f"{name} {with_error(own)}", with_error(rival)
    name_of_rival = method_name(rival.method)
    other = name_of_rival[0].lower() + name_of_rival[1:]
    people = numbers.plural(own.n_users, "user")
    gain = f" ({100 * (own.value / rival.value - 1):+.0f} %)".replace("-", "−") if rival.value > 0 else ""
    sure = _sureness(own, rival)
    if own.value > rival.value:
        return (
            f"The model wins on the {own.split} split: {own_figure} over {people}, against {rival_figure} for the best "
            f"baseline, “{other}”{gain}. {sure}"
        )
    if own.value == rival.value:
        return f"The model and the best baseline, “{other}”, are level on the {own.split} split: {own_figure}."
    return (
        f"The model does not win on the {own.split} split: the baseline “{other}” ranks best with {name} "
        f"{rival_figure} over {people}; the model reaches {with_error(own)}{gain}. {sure}"
    )


def _sureness(own: Score, rival: Score) -> str:
    if rival.lead_error is None:
        return "The error of the difference is not known."
    if abs(own.value - rival.value) > 2 * rival.lead_error:
        return "The difference is more than twice its standard error, taken user by user."
    return "The difference is within twice its standard error, taken user by user, so it may be chance."


def with_error(score: Score) -> str:
    """A figure and its standard error: 0.1470 ± 0.0060."""
    error = (
        ""
        if score.standard_error is None
        else f"\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{numbers.metric(score.standard_error)}"
    )
    return numbers.metric(score.value) + error


def _by_ndcg(scores: Iterable[Score]) -> list[Score]:
    ndcg = [score for score in scores if score.metric.startswith("ndcg")]
    return sorted(ndcg, key=lambda score: (-score.value, score.method))


def _table(split: str, scores: Sequence[Score]) -> SplitTable:
    order = list(_METRICS)
    metrics = sorted({score.metric for score in scores}, key=lambda name: _place(name, order))
    ranked_by = next((metric for metric in metrics if metric.startswith("ndcg")), metrics[0])
    figures = {(score.method, score.metric): score for score in scores}
    leading = {score.method: score for score in scores if score.metric == ranked_by}
    methods = sorted(
        {score.method for score in scores},
        key=lambda name: (-leading[name].value if name in leading else math.inf, name),
    )
    best = {metric: max(score.value for score in scores if score.metric == metric) for metric in metrics}
    # Bars end at the longest whisker, so that none is cut off.
    longest = max(score.value + 2 * (score.standard_error or 0) for score in leading.values()) or 1
    rows = tuple(
        Row(
            method_name(method),
            method == MODEL,
            tuple(_cell(figures.get((method, metric)), best[metric]) for metric in metrics),
            *_bar(leading.get(method), longest),
        )
        for method in methods
    )
    meanings = tuple(_EXPLAINED.get(metric.partition("@")[0], "") for metric in metrics)
    names = tuple(metric_name(metric) for metric in metrics)
    return SplitTable(split, max(score.n_users for score in scores), names, meanings, metric_name(ranked_by), rows)


def _place(metric: str, order: Sequence[str]) -> tuple[int, str]:
    stem = metric.partition("@")[0]
    return (order.index(stem) if stem in order else len(order), metric)


def _cell(score: Score | None, best: float) -> Cell:
    if score is None:
        return Cell("–", "", False)
    error = "" if score.standard_error is None else f"± {numbers.metric(score.standard_error)}"
    return Cell(numbers.metric(score.value), error, score.value == best)


def _bar(score: Score | None, longest: float) -> tuple[float, float, float]:
    if score is None:
        return 0.0, 0.0, 0.0
    reach = 2 * (score.standard_error or 0)
    ends = (score.value, max(score.value - reach, 0), score.value + reach)
    middle, low, high = (round(100 * end / longest, 2) for end in ends)
    return middle, low, high

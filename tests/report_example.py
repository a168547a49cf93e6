"""A small report with every part, made up, with texts that must not become markup."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta

import numpy as np

from behavior_lib.report import ReportData, data

NOW = datetime(2018, 1, 2, 9, 30)
CUT = datetime(2017, 12, 1)
SCRIPT = "<script>alert('milk')</script> & co"
RIGHT_TO_LEFT = "חלב טרי"
EMOJI = "🥛 milk 😀"

_FIGURES = {  # method → hit_rate, recall, ndcg, mrr, coverage
    "model": (0.52, 0.10, 0.2271, 0.36, 0.12),
    "own_frequency": (0.45, 0.09, 0.1981, 0.31, 0.31),
    "popularity": (0.22, 0.04, 0.0952, 0.15, 0.0002),
}
NINE = {
    **_FIGURES,
    "recent_popularity": (0.24, 0.05, 0.1012, 0.16, 0.0002),
    "decayed_own_frequency": (0.47, 0.09, 0.2172, 0.33, 0.29),
    "transitions": (0.41, 0.08, 0.181, 0.28, 0.22),
    "item_knn": (0.4, 0.08, 0.1712, 0.27, 0.2),
    "tifu_knn": (0.49, 0.1, 0.2253, 0.35, 0.3),
    "ease": (0.44, 0.08, 0.1903, 0.3, 0.18),
}
_METRICS = ("hit_rate@10", "recall@10", "ndcg@10", "mrr", "coverage@10")


def scores(
    model_ndcg: float = 0.2271, split: str = "test", methods: Mapping[str, tuple[float, ...]] = _FIGURES
) -> tuple[data.Score, ...]:
    found = []
    for method, figures in methods.items():
        for metric, value in zip(_METRICS, figures, strict=True):
            error = None if metric.startswith("coverage") else 0.006
            own = model_ndcg if (method, metric) == ("model", "ndcg@10") else value
            found.append(data.Score(split, method, metric, own, error, 1890, None if method == "model" else error))
    return tuple(found)


def vectors(count: int = 40) -> data.ItemVectors:
    """Two groups that point two ways."""
    groups = tuple("Produce" if number % 2 else "Grocery" for number in range(count))
    random = np.random.default_rng(0)
    directions = np.where(np.arange(count)[:, None] % 2, [[1.0, 0, 0]], [[0, 1.0, 0]])
    return data.ItemVectors(
        ids=tuple(str(number) for number in range(count)),
        names=(SCRIPT, RIGHT_TO_LEFT, EMOJI, *(f"item {number}" for number in range(3, count))),
        groups=groups,
        events=np.arange(count, 0, -1),
        vectors=(directions + random.normal(0, 0.1, (count, 3))).astype(np.float32),
        group_title="department",
    )


def items() -> tuple[data.Item, data.Item, data.Item]:
    return (
        data.Item("0", SCRIPT, "Grocery"),
        data.Item("2", EMOJI, "Grocery"),
        data.Item("1", RIGHT_TO_LEFT, "Produce"),
    )


def a_story() -> data.UserStory:
    milk, bread, hebrew = items()
    sessions = tuple(
        data.Session(CUT - timedelta(days=7 * ago), 12.5, (milk, bread), (0.5 / ago, 0.02)) for ago in range(10, 0, -1)
    )
    often = data.Reason(milk, 2.345, 10, CUT - timedelta(days=7))
    once = data.Reason(bread, 0.4, 1, None)
    return data.UserStory(
        user_id="<b>1350</b>",
        n_events=20,
        cut=CUT,
        sessions=sessions,
        recommended=(
            data.Recommendation(milk, True, True, "own past", (often, once)),
            data.Recommendation(hebrew, False, False, "what follows", (once,)),
        ),
        next_items=(milk,),
        n_unnamed=0,
    )


def example() -> ReportData:
    milk, bread, hebrew = items()
    days = [date(2017, 1, 1) + timedelta(days=number) for number in range(365)]
    story = a_story()
    return ReportData(
        source="complete_journey",
        made_at=NOW,
        totals=data.Totals(1_469_307, 2_469, 155_848, 68_509, datetime(2017, 1, 1, 11, 53), datetime(2018, 1, 1, 4, 1)),
        batches=(
            data.Batch("2017", NOW, 1000, 900, 60, 30, 10),
            data.Batch("2018", NOW + timedelta(days=1), 5, 5, 0, 0, 0),
        ),
        rules={"value_missing": 25, "late": 10, "<i>rule</i>": 5},
        jobs=(
            data.JobRun("ingest", NOW, 41.2, "succeeded", {"events": 3}),
            data.JobRun("train", NOW, 200.0, "failed", {}, "no user to judge on"),
        ),
        events_by_day={day: 100 + day.day for day in days},
        cuts={"validation": datetime(2017, 11, 1), "test": CUT},
        sessions=data.Sessions({1: 5, 2: 3, 14: 1}, {0: 6, 45: 3}, {1: 4, 7: 2}),
        model=data.Model(
            "behavior-encoder",
            3,
            "champion",
            tuple(data.Epoch(n, 7 - n, 0.2 - (n - 3) ** 2 / 100) for n in range(1, 6)),
        ),
        scores=(*scores(), *scores(0.21, "validation")),
        vectors=vectors(11),
        neighbours=(data.Neighbours(milk, 40, ((bread, 0.9876), (hebrew, 0.5))),),
        stories=(story, replace(story, user_id="2", next_items=None), replace(story, user_id="3")),
        places={"Tables": "/data/warehouse"},
    )

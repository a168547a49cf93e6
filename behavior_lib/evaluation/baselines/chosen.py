"""Baselines by the names that the configuration and the evaluations table have for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from behavior_lib.config.keys import nearest
from behavior_lib.errors import ConfigError
from behavior_lib.evaluation.baselines.ease import Ease
from behavior_lib.evaluation.baselines.item_knn import ItemKnn
from behavior_lib.evaluation.baselines.own_frequency import OwnFrequency
from behavior_lib.evaluation.baselines.scorer import Scorer
from behavior_lib.evaluation.baselines.tifu_knn import TifuKnn
from behavior_lib.evaluation.baselines.transitions import Transitions
from behavior_lib.evaluation.interactions import Interactions

POPULARITY, RECENT_POPULARITY, OWN_FREQUENCY = "popularity", "recent_popularity", "own_frequency"
DECAYED_OWN_FREQUENCY, TRANSITIONS, ITEM_KNN = "decayed_own_frequency", "transitions", "item_knn"
TIFU_KNN, EASE, ALS = "tifu_knn", "ease", "als"

COUNTED = (POPULARITY, RECENT_POPULARITY, OWN_FREQUENCY)  # whose counts are taken where the events are

FACTORISED = (ALS,)  # in Spark

# Made of whole histories and the number of item indexes.
FROM_HISTORIES: Mapping[str, Callable[[Interactions, int], Scorer]] = {
    DECAYED_OWN_FREQUENCY: OwnFrequency.decayed,
    TRANSITIONS: Transitions,
    ITEM_KNN: ItemKnn,
    TIFU_KNN: TifuKnn,
    EASE: Ease,
}


def check_choice(baselines: Sequence[str], gate: Sequence[str]) -> None:
    """Raises ConfigError for a baseline that does not exist, and for a gate of none or of others than the baselines."""
    for name in baselines:
        _check_known(name, (*COUNTED, *FROM_HISTORIES, *FACTORISED), "evaluate.baselines")
    for name in gate:
        _check_known(name, baselines, "evaluate.gate")
    if not gate:
        raise ConfigError("no baseline to beat", where="evaluate.gate", mend="name one of evaluate.baselines")


def _check_known(name: str, known: Sequence[str], where: str) -> None:
    if name not in known:
        near = nearest(name, known)
        mend = f"did you mean {near}?" if near else f"known there: {', '.join(known)}"
        raise ConfigError("unknown baseline", where=where, value=name, mend=mend)

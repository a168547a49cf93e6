"""What every model must beat: methods that only count, scored for the same users over the same catalogue."""

from behavior_lib.evaluation.baselines.chosen import (
    ALS,
    COUNTED,
    DECAYED_OWN_FREQUENCY,
    EASE,
    FROM_HISTORIES,
    ITEM_KNN,
    OWN_FREQUENCY,
    POPULARITY,
    RECENT_POPULARITY,
    TIFU_KNN,
    TRANSITIONS,
    check_choice,
)
from behavior_lib.evaluation.baselines.ease import Ease
from behavior_lib.evaluation.baselines.factors import Factors
from behavior_lib.evaluation.baselines.item_knn import ItemKnn
from behavior_lib.evaluation.baselines.own_frequency import OwnFrequency
from behavior_lib.evaluation.baselines.popularity import Popularity
from behavior_lib.evaluation.baselines.scorer import Scorer
from behavior_lib.evaluation.baselines.tifu_knn import TifuKnn
from behavior_lib.evaluation.baselines.transitions import Transitions

__all__ = [
    "ALS",
    "COUNTED",
    "DECAYED_OWN_FREQUENCY",
    "EASE",
    "FROM_HISTORIES",
    "ITEM_KNN",
    "OWN_FREQUENCY",
    "POPULARITY",
    "RECENT_POPULARITY",
    "TIFU_KNN",
    "TRANSITIONS",
    "Ease",
    "Factors",
    "ItemKnn",
    "OwnFrequency",
    "Popularity",
    "Scorer",
    "TifuKnn",
    "Transitions",
    "check_choice",
]

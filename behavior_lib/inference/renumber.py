"""From the numbers of one vocabulary to those of another: a model may have been trained on another warehouse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from behavior_lib.data.histories import Histories
from behavior_lib.inference.vocabulary import Vocabulary
from behavior_lib.tables.items import FIRST_INDEX, UNKNOWN_INDEX


@dataclass(frozen=True)
class Renumbering:
    """Reads histories numbered by the tables with a model's numbers, and its scores back with the tables'.

    items, event_types: int32, the model's index for each index of the tables; where the model has no such name that of
    the item's bucket, or the unknown one. In one warehouse numbers never change, and both are 0, 1, 2, … as far as the
    model goes.
    """

    items: NDArray[np.int32]
    event_types: NDArray[np.int32]

    @classmethod
    def between(cls, tables: Vocabulary, model: Vocabulary) -> Renumbering:
        """tables: the vocabulary that histories are numbered by. model: the one that a model was trained with."""
        items = _renumbered(model.item_indexes(tables.item_ids))
        for own in tables.buckets:
            for other in model.buckets:
                if own.count == other.count:
                    items[own.first : own.end] = np.arange(other.first, other.end)
        return cls(items, _renumbered(model.event_type_indexes(tables.event_types)))

    def histories(self, histories: Histories) -> Histories:
        """The same histories with the model's numbers; an index beyond the tables' vocabulary is unknown."""
        return replace(
            histories,
            item_index=_look_up(self.items, histories.item_index),
            event_type=_look_up(self.event_types, histories.event_type),
        )

    def scores(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores [n, the model's items] as [n, the tables' items]; -inf for an item that the model has no score for."""
        scored = np.flatnonzero((self.items >= FIRST_INDEX) & (self.items < scores.shape[1]))
        result = np.full((len(scores), len(self.items)), -np.inf, dtype=np.float32)
        result[:, scored] = scores[:, self.items[scored]]
        return result


def same_names(own: Vocabulary, other: Vocabulary) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of each item and event type of `own` the number of the one of the same name in `other`, -1 where it has none.

    Padding, mask and unknown are the same everywhere; a bucket is where there are as many.
    """
    numbers = Renumbering.between(own, other)
    return (
        _where_alike(own.item_ids, other.item_ids, numbers.items),
        _where_alike(own.event_types, other.event_types, numbers.event_types),
    )


def _where_alike(
    own: Sequence[str | None], other: Sequence[str | None], numbers: NDArray[np.int32]
) -> NDArray[np.int64]:
    alike = np.array(
        [
            index < FIRST_INDEX or (number >= FIRST_INDEX and name == other[number])
            for index, (name, number) in enumerate(zip(own, numbers, strict=True))
        ],
        dtype=bool,
    )
    return np.where(alike, numbers, -1).astype(np.int64)


def _renumbered(indexes: NDArray[np.int32]) -> NDArray[np.int32]:
    """Padding, mask and unknown have the same numbers everywhere."""
    reserved = min(FIRST_INDEX, len(indexes))
    return np.concatenate((np.arange(reserved, dtype=np.int32), indexes[reserved:]))


def _look_up(numbers: NDArray[np.int32], indexes: NDArray[np.int32]) -> NDArray[np.int32]:
    inside = (indexes >= 0) & (indexes < len(numbers))
    return np.where(inside, numbers[np.where(inside, indexes, 0)], UNKNOWN_INDEX).astype(np.int32)

"""The names behind a model's indexes: what travels with the weights so that raw histories can be read anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from behavior_lib.errors import DataRefused
from behavior_lib.tables.items import FIRST_INDEX, UNKNOWN_INDEX

VOCABULARY_FILE = "vocabulary.json"


@dataclass(frozen=True)
class Vocabulary:
    """item_ids, event_types: names by index; None at an index that names nothing (padding, mask, unknown, a gap)."""

    item_ids: tuple[str | None, ...]
    event_types: tuple[str | None, ...]

    @classmethod
    def from_pairs(cls, items: Iterable[tuple[str, int]], event_types: Iterable[tuple[str, int]]) -> Vocabulary:
        """From the (name, index) pairs of the tables items and event_types, in any order.

        Raises DataRefused where an index is below 3 or given twice.
        """
        return cls(_by_index(items, "items"), _by_index(event_types, "event_types"))

    @classmethod
    def load(cls, folder: Path) -> Vocabulary:
        """What `save` wrote into the folder. Raises DataRefused where it is missing or broken."""
        path = folder / VOCABULARY_FILE
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            return cls(tuple(stored["item_ids"]), tuple(stored["event_types"]))
        except (OSError, ValueError, KeyError, TypeError) as problem:
            raise DataRefused("no vocabulary", where=str(path), value=str(problem), mend="train again") from None

    def save(self, folder: Path) -> None:
        """Write the folder's vocabulary file."""
        stored = {"item_ids": self.item_ids, "event_types": self.event_types}
        (folder / VOCABULARY_FILE).write_text(json.dumps(stored, ensure_ascii=False), encoding="utf-8")

    def item_indexes(self, names: Iterable[Any]) -> NDArray[np.int32]:
        """int32: the index of each item id; the unknown item where the vocabulary has none, and for null."""
        return _look_up(self._item_index, names)

    def event_type_indexes(self, names: Iterable[Any]) -> NDArray[np.int32]:
        """int32: the index of each event type; the unknown type where the vocabulary has none, and for null."""
        return _look_up(self._event_type_index, names)

    @cached_property
    def _item_index(self) -> Mapping[str, int]:
        return {name: index for index, name in enumerate(self.item_ids) if name is not None}

    @cached_property
    def _event_type_index(self) -> Mapping[str, int]:
        return {name: index for index, name in enumerate(self.event_types) if name is not None}


def _look_up(index: Mapping[str, int], names: Iterable[Any]) -> NDArray[np.int32]:
    return np.fromiter((index.get(name, UNKNOWN_INDEX) for name in names), dtype=np.int32)


def _by_index(pairs: Iterable[tuple[str, int]], table: str) -> tuple[str | None, ...]:
    by_index = {}
    for name, index in pairs:
        if index < FIRST_INDEX or index in by_index:
            raise DataRefused(f"index {index} is reserved or given twice", where=f"table {table}", value=name)
        by_index[index] = name
    return tuple(by_index.get(index) for index in range(max(by_index, default=FIRST_INDEX - 1) + 1))

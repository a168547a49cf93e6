"""The names behind a model's indexes: what travels with the weights so that raw histories can be read anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from behavior_lib.errors import DataRefused
from behavior_lib.tables.buckets import Buckets
from behavior_lib.tables.items import FIRST_INDEX, UNKNOWN_INDEX

VOCABULARY_FILE = "vocabulary.json"


@dataclass(frozen=True)
class Vocabulary:
    """What the indexes mean.

    item_ids, event_types: names by index; None at an index that names nothing (padding, mask, unknown, bucket, gap).
    buckets: the indexes that rare items share; of a model those that it has learnt, of tables all there ever were.
    """

    item_ids: tuple[str | None, ...]
    event_types: tuple[str | None, ...]
    buckets: tuple[Buckets, ...] = ()

    @classmethod
    def from_pairs(
        cls,
        items: Iterable[tuple[str, int]],
        event_types: Iterable[tuple[str, int]],
        buckets: Iterable[Buckets] = (),
    ) -> Vocabulary:
        """From the (name, index) pairs of the tables items and event_types, in any order, and the reserved buckets.

        Raises DataRefused where an index is below 3 or given twice.
        """
        reserved = tuple(buckets)
        item_ids = _widened(_by_index(items, "items"), reserved)
        return cls(item_ids, _by_index(event_types, "event_types"), reserved)

    def learnt(self, counts: NDArray[np.int64]) -> Vocabulary:
        """What a model knows of it: the items and buckets that train has. Every other item is rare to the model.

        counts: how often train has each item index, as TrainCounts holds them.
        """
        item_ids = tuple(name if count else None for name, count in zip(self.item_ids, counts, strict=False))
        buckets = tuple(each for each in self.buckets if counts[each.first : each.end].any())
        return replace(self, item_ids=_widened(item_ids, buckets), buckets=buckets)

    def with_buckets_of(self, model: Vocabulary) -> Vocabulary:
        """The same names, and behind them indexes for the model's buckets, good for the way to this model alone."""
        buckets = tuple(Buckets(len(self.item_ids), each.count) for each in model.buckets[:1])
        return replace(self, item_ids=_widened(self.item_ids, buckets), buckets=buckets)

    @classmethod
    def load(cls, folder: Path) -> Vocabulary:
        """What `save` wrote into the folder. Raises DataRefused where it is missing or broken."""
        path = folder / VOCABULARY_FILE
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            buckets = tuple(Buckets(*pair) for pair in stored.get("buckets", ()))
            return cls(tuple(stored["item_ids"]), tuple(stored["event_types"]), buckets)
        except (OSError, ValueError, KeyError, TypeError) as problem:
            raise DataRefused("no vocabulary", where=str(path), value=str(problem), mend="train again") from None

    def save(self, folder: Path) -> None:
        """Write the folder's vocabulary file."""
        buckets = [(each.first, each.count) for each in self.buckets]
        stored = {"item_ids": self.item_ids, "event_types": self.event_types, "buckets": buckets}
        (folder / VOCABULARY_FILE).write_text(json.dumps(stored, ensure_ascii=False), encoding="utf-8")

    def item_indexes(self, names: Iterable[Any]) -> NDArray[np.int32]:
        """int32: the index of each item id. Where it has none that of its bucket, if there are buckets; else, and for
        null, the unknown item.
        """
        if not self.buckets:
            return _look_up(self._item_index, names)
        index, buckets = self._item_index, self.buckets[0]

        def look_up(name: Any) -> int:
            return index[name] if name in index else buckets.index_of(name) if isinstance(name, str) else UNKNOWN_INDEX

        return np.fromiter(map(look_up, names), dtype=np.int32)

    def event_type_indexes(self, names: Iterable[Any]) -> NDArray[np.int32]:
        """int32: the index of each event type; the unknown type where the vocabulary has none, and for null."""
        return _look_up(self._event_type_index, names)

    @cached_property
    def _item_index(self) -> Mapping[str, int]:
        return {name: index for index, name in enumerate(self.item_ids) if name is not None}

    @cached_property
    def _event_type_index(self) -> Mapping[str, int]:
        return {name: index for index, name in enumerate(self.event_types) if name is not None}


def _widened(item_ids: tuple[str | None, ...], buckets: Iterable[Buckets]) -> tuple[str | None, ...]:
    """As long as the highest index, be it an item's or a bucket's, + 1."""
    return item_ids + (None,) * (max((each.end for each in buckets), default=0) - len(item_ids))


def _look_up(index: Mapping[str, int], names: Iterable[Any]) -> NDArray[np.int32]:
    return np.fromiter((index.get(name, UNKNOWN_INDEX) for name in names), dtype=np.int32)


def _by_index(pairs: Iterable[tuple[str, int]], table: str) -> tuple[str | None, ...]:
    by_index = {}
    for name, index in pairs:
        if index < FIRST_INDEX or index in by_index:
            raise DataRefused(f"index {index} is reserved or given twice", where=f"table {table}", value=name)
        by_index[index] = name
    return tuple(by_index.get(index) for index in range(max(by_index, default=FIRST_INDEX - 1) + 1))

"""Vectors of items that were made elsewhere, as a model takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from behavior_lib.errors import DataRefused


def vector_table(
    name: str,
    item_ids: Sequence[str],
    item_index: NDArray[np.int64],
    vectors: Sequence[NDArray[np.float32] | None],
    item_counts: NDArray[np.int64],
) -> NDArray[np.float32]:
    """float32 [len(item_counts), width]: the vectors of the items of train, less their mean, divided by the mean length
    that they then have; 0 for an item that has none or is not in train.

    item_ids, item_index: [m]. vectors: of these items, at least one; None where one has none. item_counts: of train.
    name: of the vectors. Raises DataRefused, with the item's id, for vectors of differing widths and for numbers that
    are not finite, also of items that are not in train.
    """
    order = [place for place in np.argsort(item_index) if vectors[place] is not None]
    given, index = _checked(name, {item_ids[place]: vectors[place] for place in order}), item_index[order]
    in_train = index < len(item_counts)
    in_train[in_train] = item_counts[index[in_train]] > 0
    table = np.zeros((len(item_counts), given.shape[1]), np.float32)
    if in_train.any():
        known = given[in_train].astype(np.float64)
        # What is the same for all says nothing, whatever rounding makes of it.
        known = np.where(np.ptp(known, axis=0) > 0, known - known.mean(0), 0.0)
        length = np.linalg.norm(known, axis=1).mean()
        table[index[in_train]] = known / (length or 1.0)
    return table


def _checked(name: str, vectors: Mapping[str, Any]) -> NDArray[np.float32]:
    """float32 [m, width], of m vectors by the ids of their items."""
    where, first = f"items.vectors.{name}", next(iter(vectors))
    width = len(vectors[first])
    for item, vector in vectors.items():
        if len(vector) != width or not width:
            what = f"the vector of item {item!r} is empty or not as wide as that of item {first!r}, {width}"
            mend = "give all items vectors of one width, or null"
            raise DataRefused(what, where=where, value=len(vector), mend=mend)
        if not np.isfinite(vector).all():
            what = f"the vector of item {item!r} holds a null or a number that is not finite"
            mend = "give it finite numbers, or null in place of the vector"
            raise DataRefused(what, where=where, value=float(vector[~np.isfinite(vector)][0]), mend=mend)
    return np.stack(list(vectors.values()))

"""Values of what is known of items, as numbers that a model can look up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from behavior_lib.tables.items import FIRST_INDEX

LEAST_ITEMS = 2  # of train that have a value: what one item alone has says no more than its id


def number_values(
    item_index: NDArray[np.int64], values: Sequence[NDArray[np.object_]], item_counts: NDArray[np.int64]
) -> NDArray[np.int64]:
    """int64 [len(item_counts), attributes]: the number of each item's value of each attribute, 0 where it has none.

    item_index: [m], of the items whose values are given. values: an array of m texts or None for each attribute.
    item_counts: of train. Numbers begin at FIRST_INDEX and ascend by attribute, then by value; an empty text is none,
    and a value that fewer than LEAST_ITEMS items of train have gets no number.
    """
    numbers = np.zeros((len(item_counts), len(values)), np.int64)
    in_train = item_index < len(item_counts)
    in_train[in_train] = item_counts[item_index[in_train]] > 0
    following = FIRST_INDEX
    for column, texts in enumerate(values):
        having = in_train & np.array([bool(text) for text in texts], bool)
        _, place, size = np.unique(texts[having].astype(str), return_inverse=True, return_counts=True)
        is_shared = size >= LEAST_ITEMS
        number = np.where(is_shared, following + np.cumsum(is_shared) - 1, 0)
        numbers[item_index[having], column] = number[place]
        following += int(is_shared.sum())
    return numbers

"""Which sets of columns may tell all rows apart."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

SIZE = 3
_COLUMNS = 8
# FNV's prime: a product that spreads every bit of what came before.
_PRIME = np.uint64(1099511628211)


def likely_keys(rows: NDArray[np.int64]) -> list[list[int]]:
    """Sets of columns in which no two of the rows are equal, the smallest first, then the earliest columns.

    rows: one row a raw row, all different, one column a raw column, as 64-bit hashes; the likeliest parts of a key
    stand first. Tried are all sets of up to SIZE of the first columns, and then the best of them with one column more
    after the other, each time the one that tells the most rows apart.
    """
    columns = range(rows.shape[1])
    sets = [list(chosen) for size in range(1, SIZE + 1) for chosen in combinations(columns[:_COLUMNS], size)]
    counts = [_distinct(rows, chosen) for chosen in sets]
    found = [chosen for chosen, count in zip(sets, counts, strict=True) if count == len(rows)]
    if not sets:
        return found
    # Of equally good ones `max` takes the first, and that is the smallest.
    longer = list(max(zip(counts, sets, strict=True), key=lambda pair: pair[0])[1])
    while rest := [column for column in columns if column not in longer]:
        longer.append(max(rest, key=lambda column: _distinct(rows, [*longer, column])))
        if len(longer) > SIZE and _distinct(rows, longer) == len(rows):
            found.append(sorted(longer))
    return found


def _distinct(rows: NDArray[np.int64], columns: list[int]) -> int:
    mixed = np.zeros(len(rows), np.uint64)
    for column in columns:
        mixed = (mixed ^ rows[:, column].view(np.uint64)) * _PRIME
        mixed ^= mixed >> np.uint64(29)
    return len(np.unique(mixed))

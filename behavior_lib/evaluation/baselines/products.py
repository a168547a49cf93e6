"""Products of sparse matrices a block of rows at a time, of each row only the highest kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

VALUES_HELD = 2**24  # of a product at once: 200 MB where no value is 0


def row_blocks(n_rows: int, width: int) -> Iterator[slice]:
    """Stretches of rows of which a product `width` wide holds at most VALUES_HELD values."""
    step = max(1, VALUES_HELD // max(width, 1))
    return (slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step))


def highest_by_row(block_of: Callable[[slice], csr_array], n_rows: int, width: int, most: int) -> csr_array:
    """float64 CSR [n_rows, width]: the `most` highest positive values of each row; of equal ones the lower columns.

    block_of: the rows of a slice, CSR [n, width].
    """
    return vstack([_highest(block_of(rows), most) for rows in row_blocks(n_rows, width)], format="csr")


def _highest(block: csr_array, most: int) -> csr_array:
    kept = block.data > 0
    n_positive = np.diff(np.append(0, np.cumsum(kept))[block.indptr])
    for row in np.flatnonzero(n_positive > most):
        places = block.indptr[row] + np.flatnonzero(kept[block.indptr[row] : block.indptr[row + 1]])
        chosen = places[highest(block.data[places], block.indices[places], most)]
        kept[places] = False
        kept[chosen] = True
    offsets = np.append(0, np.cumsum(np.minimum(n_positive, most)))
    return csr_array((block.data[kept], block.indices[kept], offsets), shape=block.shape)


def highest(values: NDArray[np.float64], columns: NDArray[np.integer[Any]], most: int) -> NDArray[np.int64]:
    """Where the `most` highest values stand, in no order; of equal ones those with the lower columns."""
    if len(values) <= most:
        return np.arange(len(values))
    least = np.partition(values, len(values) - most)[len(values) - most]
    above, equal = np.flatnonzero(values > least), np.flatnonzero(values == least)
    first = np.argsort(columns[equal])[: most - len(above)]
    return np.concatenate((above, equal[first]))

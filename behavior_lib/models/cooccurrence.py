"""Item vectors to start from: what is bought in one instant lies close together, and what the same people buy does.

The left singular vectors of the regularised, normalised matrix of items by instants, or by histories (spectral
embedding; Qin and Rohe 2013, "Regularized spectral clustering"). Without the regularisation the leading vectors
describe a few rare items that occur only with each other.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import svds
from torch import Tensor

ITEM_REGULARISATION = 50.0  # added to each item's number of events
INSTANT_REGULARISATION, HISTORY_REGULARISATION = 10.0, 100.0  # to that of each instant, and of each history
_TOLERANCE = 1e-3  # of singular values, relative; they lie close together, and a rough decomposition is its seed's


def starting_vectors(item: Tensor, instant: Tensor, history: Tensor, n_items: int, dimension: int, seed: int) -> Tensor:
    """float32 [n_items, dimension] of length 1 at most; 0 for items that never occur beside another event.

    item, instant, history: int64 [m], one entry an event: the item, and any numbers that the events of one instant and
    of one history share. The first half of the columns (the larger, where they are odd) tells instants, the second
    histories; where every event has an instant of its own, all columns tell histories.
    """
    of_instants, of_histories = _beside_others(instant), _beside_others(history)
    width = (dimension + 1) // 2 if bool(of_instants.any()) else 0
    halves = [
        cooccurrence_vectors(item[chosen], together[chosen], n_items, columns, added, seed)
        for chosen, together, columns, added in (
            (of_instants, instant, width, INSTANT_REGULARISATION),
            (of_histories, history, dimension - width, HISTORY_REGULARISATION),
        )
        if columns
    ]
    return torch.cat(halves, 1).div(len(halves) ** 0.5)


def _beside_others(together: Tensor) -> Tensor:
    """bool [m]: the events that share their number with another one."""
    _, place, count = torch.unique(together, return_inverse=True, return_counts=True)
    several: Tensor = count[place] > 1
    return several


def cooccurrence_vectors(
    item: Tensor, together: Tensor, n_items: int, dimension: int, regularisation: float, seed: int
) -> Tensor:
    """float32 [n_items, dimension] of length 1; 0 for items that do not occur.

    item, together: int64 [m], one entry an event: the item, and any number that the events of one group share.
    regularisation: added to each group's number of events.
    The first singular vector, which follows the items' counts alone, is left out (ARPACK's Lanczos method, from a start
    of the seed). Where there are too few items or groups for `dimension` vectors, the rest of the columns is 0.
    """
    vectors = torch.zeros(n_items, dimension)
    if not len(item):
        return vectors
    together = torch.unique(together, return_inverse=True)[1]
    n_groups = int(together.max()) + 1
    rank = min(dimension + 1, n_items - 1, n_groups - 1)
    if rank < 2:
        return vectors
    of_item = torch.bincount(item, minlength=n_items).float() + ITEM_REGULARISATION
    of_group = torch.bincount(together).float() + regularisation
    weight = (of_item[item] * of_group[together]).rsqrt()
    entries = (weight.numpy(), (together.numpy(), item.numpy()))
    matrix = sparse.csr_array(entries, shape=(n_groups, n_items))
    start = np.random.default_rng(seed).standard_normal(min(matrix.shape), dtype=np.float32)
    _, values, right = svds(matrix, k=rank, v0=start, tol=_TOLERANCE, return_singular_vectors="vh")
    # They ascend. What rounding leaves of a value of 0, and in rows of absent items, must not be blown up to length 1.
    values[values < _TOLERANCE * values[-1]] = 0
    vectors[:, : rank - 1] = torch.from_numpy((right * values[:, None])[-2::-1].T.copy())
    vectors[of_item == ITEM_REGULARISATION] = 0
    return torch.nn.functional.normalize(vectors, dim=1)

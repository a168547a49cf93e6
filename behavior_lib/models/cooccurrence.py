"""Item vectors to start from: what is bought in one instant lies close together.

The left singular vectors of the regularised, normalised matrix of items by instants (spectral embedding; Qin and Rohe
2013, "Regularized spectral clustering"). Without the regularisation the leading vectors describe a few rare items that
occur only with each other.
"""

from __future__ import annotations

import torch
from torch import Tensor

ITEM_REGULARISATION, INSTANT_REGULARISATION = 50.0, 10.0  # added to each item's and each instant's number of events
_ITERATIONS = 3


def cooccurrence_vectors(item: Tensor, instant: Tensor, n_items: int, dimension: int, seed: int) -> Tensor:
    """float32 [n_items, dimension] of length 1; 0 for items that do not occur.

    item, instant: int64 [m], one entry an event: the item, and any number that the events of one instant share.
    The first singular vector, which follows the items' counts alone, is left out. Where there are too few items or
    instants for `dimension` vectors, the rest of the columns is 0.
    """
    instant = torch.unique(instant, return_inverse=True)[1]
    n_instants = int(instant.max()) + 1
    of_item = torch.bincount(item, minlength=n_items).float() + ITEM_REGULARISATION
    of_instant = torch.bincount(instant).float() + INSTANT_REGULARISATION
    weight = (of_item[item] * of_instant[instant]).rsqrt()
    matrix = torch.sparse_coo_tensor(
        torch.stack([item, instant]), weight, (n_items, n_instants), check_invariants=False
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        rank = min(dimension + 1, n_items, n_instants)
        left, values, _ = torch.svd_lowrank(matrix.coalesce(), q=rank, niter=_ITERATIONS)
    vectors = torch.zeros(n_items, dimension)
    vectors[:, : rank - 1] = left[:, 1:] * values[1:]
    # What rounding leaves in the rows of absent items must not be blown up to length 1.
    vectors[of_item == ITEM_REGULARISATION] = 0
    return torch.nn.functional.normalize(vectors, dim=1)

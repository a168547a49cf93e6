"""Rows of a table of vectors, whose gradient costs what the rows do and not what the table does."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def lookup(index: Tensor, table: Tensor) -> Tensor:
    """float32 [*index.shape, d]: the rows `index`, int64, of the table [n, d].

    Where the table is a parameter that has a gradient already, as it has in training, that of the lookup is sparse:
    autograd adds it row by row to what is there. A dense one for each lookup is written, read and added in whole: with
    a million items three of them are a second of a step, and these a hundredth of one. Without a gradient that is there
    it is dense, for that is what torch's optimizers expect.
    """
    return F.embedding(index, table, sparse=table.is_leaf and table.grad is not None)

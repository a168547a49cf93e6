"""Vectors of items that were made elsewhere, of texts or pictures: a learned projection is part of an item's vector.

Items that are seldom seen, whose own vectors events cannot teach, so lie near those that are described alike (VBPR's
projection of visual features, He and McAuley 2016, added to the item's own factors).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GivenVectors(nn.Module):
    """Those of several names side by side, each with a projection, which is 0 at first.

    widths: by name, how many numbers a vector has. given: float32 [n_items, width of all], 0 where an item has none; a
    buffer of the model's weights, so that a registered model needs nothing else.
    """

    given: Tensor

    def __init__(self, n_items: int, dimension: int, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.register_buffer("given", torch.zeros(n_items, sum(widths.values())))
        # By name, so that a model that begins with this one finds what was learned of the same vectors.
        self.projections = nn.ParameterDict()
        for name, width in widths.items():
            self.projections[f"of_{name}"] = nn.Parameter(torch.zeros(dimension, width))

    def added(self) -> Tensor:
        """float32 [n_items, d]: what each item's given vectors add to its own."""
        return F.linear(self.given, torch.cat(list(self.projections.values()), 1))

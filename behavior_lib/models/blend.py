"""What scores are made of before a path adds to single items; and a full softmax of it that keeps few gradients."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from behavior_lib.models.slots import LEAST


class Blend(nn.Module):
    """Two numbers: the factor of the products of users and items (its logarithm), and what popularity adds.

    Vectors are taught to rank sampled items. Beside counts they say too much or too little: a temperature, learned
    where whole scores are, mends it (Guo et al. 2017, "On Calibration of Modern Neural Networks", 4.2).
    """

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(2))

    @property
    def factor(self) -> Tensor:
        """float32 []."""
        return self.weights[0].exp()

    @property
    def popularity(self) -> Tensor:
        """float32 []: the weight of an item's log share of all events, beyond that in its bias."""
        return self.weights[1]


@dataclass(frozen=True)
class Logits:
    """Logits [m, V] held without gradients, and the numbers that they follow from linearly, with theirs.

    logits: float32 [m, V], -inf for no candidate: products * factor + popularity * log_share + Σ by_value[value of the
    item] + what has no gradient. products: [m, V]. log_share: [V]. factor, popularity: []. by_value: [m, values], and
    value_index: int64 [V, attributes]; no attributes, no values.
    The gradient of a softmax over V items is then one of a few means under it, and nothing of the size m x V is kept.
    """

    logits: Tensor
    products: Tensor
    log_share: Tensor
    factor: Tensor
    popularity: Tensor
    by_value: Tensor
    value_index: Tensor

    @cached_property
    def _share(self) -> Tensor:
        """[V]: log_share, of items that train does not have what it counts as at least."""
        return self.log_share.clamp(min=LEAST)

    def of_popularity(self, items: Tensor) -> Tensor:
        """float32 [k]: what popularity adds to the logits of items, int64 [k]."""
        return self.popularity * self._share[items]

    def of_products(self, items: Tensor) -> Tensor:
        """float32 [m, k]: what the products are of the logits of items, int64 [k]."""
        return self.factor * self.products[:, items]

    def of_values(self, items: Tensor) -> Tensor:
        """float32 [m, k]: what their values add to the logits of items, int64 [k]."""
        return self.by_value[:, self.value_index[items]].sum(2)

    def at(self, row: Tensor, item: Tensor) -> Tensor:
        """The logits of int64 rows and items of one shape, with gradients."""
        linear = _change(self.factor) * self.products[row, item]
        linear = linear + _change(self.popularity) * self._share[item]
        for index in self.value_index.T:
            linear = linear + _change(self.by_value)[row, index[item]]
        return self.logits[row, item] + linear

    def everything(self) -> Tensor:
        """float32 [m]: the logarithm of the sum of exp over all logits, with gradients."""
        total = self.logits.logsumexp(1)
        share = torch.sub(self.logits, total[:, None]).exp_()
        linear = _change(self.factor) * torch.einsum("mv,mv->m", share, self.products)
        linear = linear + _change(self.popularity) * (share @ self._share)
        for index in self.value_index.T:
            mean = torch.zeros_like(self.by_value).index_add(1, index, share)
            linear = linear + (_change(self.by_value) * mean).sum(1)
        return total + linear


def _change(value: Tensor) -> Tensor:
    """0, with the gradient of the value."""
    return value - value.detach()

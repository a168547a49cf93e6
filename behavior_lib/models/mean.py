"""The mean of the events' vectors so far: what every other encoder has to beat (as in Covington et al. 2016)."""

from __future__ import annotations

import torch
from torch import Tensor

from behavior_lib.models.base import ModelSpec
from behavior_lib.models.batch import Batch
from behavior_lib.models.causal import CausalEncoder
from behavior_lib.models.pooling import running_mean
from behavior_lib.models.slots import Grouping


class RunningMean(CausalEncoder):
    """The mean over the window up to each event, where the k-th event of an item counts k ** -spec.repeat_discount.

    With 1 an item counts by about the logarithm of its number of events, as terms do in sublinear TF-IDF (Manning,
    Raghavan and Schütze 2008, section 6.4.1): what somebody buys every week does not cover all else. Unknown items are
    one item. With 0 all events count alike. It knows no order and has no weights but those of the input.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.discount = spec.repeat_discount

    def states(self, x: Tensor, batch: Batch) -> Tensor:
        """Weighted sums so far, by the sums of their weights."""
        if self.discount == 0:
            return running_mean(x)
        weight = occurrences(batch.item_index).to(x.dtype).pow(-self.discount)[..., None]
        return (x * weight).cumsum(1) / weight.cumsum(1)


def occurrences(item: Tensor) -> Tensor:
    """int64 [n, L]: how many columns up to each one hold its item, itself included. item: int64 [n, L]."""
    groups = Grouping.of(item)
    place = torch.arange(item.shape[1], device=item.device).expand_as(item)
    is_first = torch.ones_like(item, dtype=torch.bool)
    is_first[:, 1:] = groups.slot[:, 1:] != groups.slot[:, :-1]
    begins = (place * is_first).cummax(1).values
    return torch.zeros_like(item).scatter(1, groups.order, place - begins + 1)

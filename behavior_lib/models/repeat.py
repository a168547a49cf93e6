"""The repeat path: a learned score for every item of the user's own history.

People buy, play and visit again what they did before, and how often and how long ago says most of it. A dot product of
vectors has to learn that by heart; here it is given as features (counts, decayed counts, ages), in the spirit of
repeat-aware recommenders (Ren et al. 2019, "RepeatNet"; Hu et al. 2020, "TIFU-KNN"), and a small network scores it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from behavior_lib.models.batch import Batch
from behavior_lib.models.instants import instant_numbers
from behavior_lib.models.slots import CONTEXT, Grouping, Slots, inputs, slot_network
from behavior_lib.tables.items import FIRST_INDEX

DAY = 86_400.0
HALF_LIVES = (7.0, 30.0, 120.0)  # days
INSTANT_HALF_LIVES = (2.0, 8.0, 32.0)  # the user's own instants, however far apart
N_FEATURES = 10 + len(HALF_LIVES) + len(INSTANT_HALF_LIVES)


def own_items(batch: Batch) -> Slots:
    """Counts, decayed counts, ages and the history's own size (N_FEATURES), for every distinct item of every row.

    Its slots are [n, L], in ascending order of the items. Ages are days before the row's newest event; nothing later
    than that is known or used.
    """
    present = batch.present
    newest = (batch.length - 1).clamp(min=0)[:, None]
    elapsed, instant = batch.gap_seconds.cumsum(1), instant_numbers(batch)
    n_instants = (instant.gather(1, newest) + 1).float()
    grouping = Grouping.of(batch.item_index.masked_fill(~present, 0))
    order, slot, own_item = grouping.order, grouping.slot, grouping.item
    weight = present.gather(1, order).float()
    days = ((elapsed.gather(1, newest) - elapsed).clamp(min=0) / DAY).gather(1, order)
    ago = (n_instants - 1 - instant).clamp(min=0).gather(1, order)

    def total(values: Tensor) -> Tensor:
        return torch.zeros_like(values).scatter_add(1, slot, values * weight)

    def extreme(values: Tensor, which: str) -> Tensor:
        return torch.zeros_like(values).scatter_reduce(1, slot, values, which, include_self=False)

    def decayed(distance: Tensor, half_lives: tuple[float, ...]) -> list[Tensor]:
        return [torch.log(total(torch.exp2(-distance / half_life)) + 1e-3) for half_life in half_lives]

    count, distinct = total(weight), (own_item >= FIRST_INDEX).sum(1, keepdim=True)
    age, oldest = extreme(days, "amin"), extreme(days, "amax")
    interval = (oldest - age) / (count - 1).clamp(min=1)
    features = [
        torch.log1p(count),
        *decayed(days, HALF_LIVES),
        *decayed(ago, INSTANT_HALF_LIVES),
        torch.log1p(age),
        torch.log1p(extreme(ago, "amin")),
        torch.log1p(interval),
        torch.log1p((age - interval).clamp(min=0)) * (count > 1),
        (count <= 1).float(),
        torch.log(count.clamp(min=1) / (extreme(ago, "amax") + 1)),
        torch.log(n_instants).expand_as(count),
        torch.log(batch.length[:, None].clamp(min=1) / n_instants).expand_as(count),
        torch.log(distinct.clamp(min=1) / batch.length[:, None].clamp(min=1)).expand_as(count),
    ]
    return Slots(own_item, torch.stack(features, 2))


class RepeatPath(nn.Module):
    """What a user's own item gets on top of its score from vectors.

    A network on the features, the item's popularity and the score so far, plus each item's own repeat propensity.
    """

    def __init__(self, n_items: int, width: int = 32) -> None:
        super().__init__()
        self.network = slot_network(N_FEATURES + CONTEXT, width)
        self.propensity = nn.Embedding(n_items, 1)
        nn.init.zeros_(self.propensity.weight)

    def forward(self, own: Slots, log_share: Tensor, logit: Tensor) -> Tensor:
        """float32 [n, L]: the addend of each slot, 0 in the empty ones.

        log_share: [items], logarithm of each item's share of all events. logit: [n, L], each slot's logit so far.
        """
        addend: Tensor = self.network(inputs(own, log_share, logit)) + self.propensity(own.item)
        return addend.squeeze(2).masked_fill(~own.present, 0.0)

    def shrinkage(self, own: Slots) -> Tensor:
        """The mean square of the propensities that were used: keeps those of rare items near 0. 0 where none was."""
        used: Tensor = self.propensity(own.item[own.present])
        return used.square().sum() / max(1, len(used))

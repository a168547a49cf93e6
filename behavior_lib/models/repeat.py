"""The repeat path: a learned score for every item of the user's own history.

People buy, play and visit again what they did before, and how often and how long ago says most of it. A dot product of
vectors has to learn that by heart; here it is given as features (counts, decayed counts, ages), in the spirit of
repeat-aware recommenders (Ren et al. 2019, "RepeatNet"; Hu et al. 2020, "TIFU-KNN"), and a small network scores it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from behavior_lib.models.batch import Batch
from behavior_lib.models.instants import instant_numbers
from behavior_lib.tables.items import FIRST_INDEX

DAY = 86_400.0
HALF_LIVES = (7.0, 30.0, 120.0)  # days
INSTANT_HALF_LIVES = (2.0, 8.0, 32.0)  # the user's own instants, however far apart
N_FEATURES = 10 + len(HALF_LIVES) + len(INSTANT_HALF_LIVES)


@dataclass(frozen=True)
class OwnItems:
    """The distinct items of each history, in ascending order, one slot each.

    item: int64 [n, L], 0 in empty slots. features: float32 [n, L, N_FEATURES].
    """

    item: Tensor
    features: Tensor

    @property
    def present(self) -> Tensor:
        """bool [n, L]: slots that hold a known item."""
        return self.item >= FIRST_INDEX


def own_items(batch: Batch) -> OwnItems:
    """Counts, decayed counts, ages and the history's own size, for every distinct item of every row.

    Ages are days before the row's newest event; nothing later than that is known or used.
    """
    present = batch.present
    newest = (batch.length - 1).clamp(min=0)[:, None]
    elapsed, instant = batch.gap_seconds.cumsum(1), instant_numbers(batch)
    n_instants = (instant.gather(1, newest) + 1).float()
    item, order = batch.item_index.masked_fill(~present, 0).sort(dim=1, stable=True)
    slot = torch.zeros_like(item)
    slot[:, 1:] = (item[:, 1:] != item[:, :-1]).cumsum(1)
    weight = present.gather(1, order).float()
    days = ((elapsed.gather(1, newest) - elapsed).clamp(min=0) / DAY).gather(1, order)
    ago = (n_instants - 1 - instant).clamp(min=0).gather(1, order)

    def total(values: Tensor) -> Tensor:
        return torch.zeros_like(values).scatter_add(1, slot, values * weight)

    def extreme(values: Tensor, which: str) -> Tensor:
        return torch.zeros_like(values).scatter_reduce(1, slot, values, which, include_self=False)

    def decayed(distance: Tensor, half_lives: tuple[float, ...]) -> list[Tensor]:
        return [torch.log(total(torch.exp2(-distance / half_life)) + 1e-3) for half_life in half_lives]

    own_item = torch.zeros_like(item).scatter(1, slot, item)
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
    return OwnItems(own_item, torch.stack(features, 2))


class RepeatPath(nn.Module):
    """What a user's own item gets on top of its score from vectors.

    A network on the features, the item's popularity and the score so far, plus each item's own repeat propensity.
    """

    def __init__(self, n_items: int, width: int = 32) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(N_FEATURES + 2, width), nn.GELU(), nn.Linear(width, 1))
        self.propensity = nn.Embedding(n_items, 1)
        nn.init.zeros_(self.propensity.weight)

    def forward(self, own: OwnItems, log_share: Tensor, logit: Tensor) -> Tensor:
        """float32 [n, L]: the addend of each slot, 0 in the empty ones.

        log_share: [items], logarithm of each item's share of all events. logit: [n, L], each slot's logit so far.
        """
        before = torch.stack([log_share[own.item], logit], 2).clamp(min=-20.0)
        addend: Tensor = self.network(torch.cat([own.features, before], 2)) + self.propensity(own.item)
        return addend.squeeze(2).masked_fill(~own.present, 0.0)

    def shrinkage(self, own: OwnItems) -> Tensor:
        """The mean square of the propensities that were used: keeps those of rare items near 0."""
        used: Tensor = self.propensity(own.item[own.present])
        return used.square().mean()

"""Histories with a fault in them, and the model that must find it."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from behavior_lib.models.base import Drawn, ModelSpec
from behavior_lib.models.batch import Batch
from behavior_lib.models.losses import NegativeSampler
from behavior_lib.models.objectives.base import Objective, Task, uniform

REPLACED = 0.15  # share of events


class ReplacedItems(Objective):
    """Replaced-token detection (ELECTRA, Clark et al. 2020): which events have an item that was not theirs?

    The generator is the items' popularity, so that it needs no training of its own. A replacement that happens to be
    the item itself counts as not replaced.
    """

    teaches_users = False

    def __init__(self, spec: ModelSpec, item_counts: Tensor) -> None:
        """See Objective."""
        super().__init__(spec, item_counts)
        self.head = nn.Linear(spec.dimension, 1)
        self.sampler = NegativeSampler(item_counts, "popularity", 1)

    def draw(self, batch: Batch, generator: torch.Generator) -> Drawn:
        """item: int64 [n, L], the item of each event afterwards."""
        shape = (len(batch), batch.columns)
        is_replaced = (uniform(shape, generator) < REPLACED) & batch.present
        place = torch.rand(shape, generator=generator, dtype=torch.float64)
        return {"item": torch.where(is_replaced, self.sampler.popular(place), batch.item_index)}

    def forward(self, task: Task) -> Tensor:
        """Binary cross-entropy, the mean over all events."""
        batch, item = task.batch, task.drawn["item"]
        states = task.model.states(replace(batch, item_index=item))
        present = batch.present
        fault = (item != batch.item_index)[present].float()
        logits = self.head(states[present]).squeeze(1)
        return F.binary_cross_entropy_with_logits(logits, fault, reduction="sum") / max(1, len(fault))


class Order(Objective):
    """Sentence-order prediction (ALBERT, Lan et al. 2020): were the two halves of a history exchanged?

    Gaps stay where they are and no hour is shown: a first event's gap of 0 in the middle, or hours that do not go on by
    the gaps, would tell it without a look at the events.
    """

    def __init__(self, spec: ModelSpec, item_counts: Tensor) -> None:
        """See Objective."""
        super().__init__(spec, item_counts)
        self.head = nn.Linear(spec.dimension, 1)

    def draw(self, batch: Batch, generator: torch.Generator) -> Drawn:
        """exchanged: bool [n]."""
        return {"exchanged": uniform((len(batch),), generator) < 0.5}

    def forward(self, task: Task) -> Tensor:
        """Binary cross-entropy, the mean over rows with two events or more."""
        batch = task.batch
        row = (batch.length >= 2).nonzero().squeeze(1)
        exchanged, length = task.drawn["exchanged"][row], batch.length[row]
        position = torch.arange(batch.columns, device=row.device).expand(len(row), -1)
        turned = (position + length[:, None] // 2) % length[:, None]
        column = torch.where(exchanged[:, None], turned, position)
        halves = batch.arrange(row, column, length)
        halves = replace(halves, gap_seconds=batch.gap_seconds[row], hour_of_week=torch.zeros_like(halves.hour_of_week))
        logits = self.head(task.model.newest_states(halves)).squeeze(1)
        return F.binary_cross_entropy_with_logits(logits, exchanged.float(), reduction="sum") / max(1, len(row))

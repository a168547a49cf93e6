"""Histories with a fault in them, and the model that must find it."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from behavior_lib.models.base import Drawn, ModelSpec
from behavior_lib.models.batch import Batch
from behavior_lib.models.lookup import lookup
from behavior_lib.models.losses import NegativeSampler
from behavior_lib.models.objectives.base import Objective, Task, uniform
from behavior_lib.tables.items import FIRST_INDEX, MASK_INDEX

REPLACED = 0.15  # share of events
CANDIDATES = 32  # items, of which the generator takes one
REACH = 2  # events to either side that one layer of the generator reads


class Generator(nn.Module):
    """Says from what stands around hidden events which items they are: two convolutions, a quarter as wide as vectors.

    It looks both ways, over 2 * REACH events to either side, and reads items alone.
    """

    def __init__(self, dimension: int) -> None:
        super().__init__()
        width = max(1, dimension // 4)
        self.first = nn.Conv1d(dimension, width, 2 * REACH + 1, padding=REACH)
        self.second = nn.Conv1d(width, dimension, 2 * REACH + 1, padding=REACH)

    def forward(self, vectors: Tensor, present: Tensor) -> Tensor:
        """float32 [n, L, d], a state an event. vectors: [n, L, d], of the items. present: bool [n, L]."""
        seen = present[:, None]
        hidden = F.gelu(self.first(vectors.transpose(1, 2) * seen)) * seen
        states: Tensor = self.second(hidden).transpose(1, 2)
        return states


class ReplacedItems(Objective):
    """Replaced-token detection (ELECTRA, Clark et al. 2020): which events have an item that was not theirs?

    The generator is taught beside the model that is asked (the discriminator) to tell hidden items, over the model's
    own item vectors; what it draws stands in their place. It draws one of CANDIDATES items that came by popularity, by
    its softmax over the popularity (sampling importance resampling, Rubin 1988), so that no softmax over the catalogue
    is needed. No gradient goes through the draw. What happens to be the item itself counts as not replaced. No value is
    shown: a price of another item would tell.
    """

    teaches_users = False

    def __init__(self, spec: ModelSpec, item_counts: Tensor) -> None:
        """See Objective."""
        super().__init__(spec, item_counts)
        self.generator = Generator(spec.dimension)
        self.head = nn.Linear(spec.dimension, 1)
        self.sampler = NegativeSampler(item_counts, "popularity", 1)

    def draw(self, batch: Batch, generator: torch.Generator) -> Drawn:
        """hidden: bool [n, L], m events of known items. candidates: int64 [m, CANDIDATES]. noise: float32 as those."""
        hidden = (uniform((len(batch), batch.columns), generator) < REPLACED) & batch.present
        hidden &= batch.item_index >= FIRST_INDEX
        shape = (int(hidden.sum()), CANDIDATES)
        place = torch.rand(shape, generator=generator, dtype=torch.float64)
        noise = -(-uniform(shape, generator).log()).log()  # Gumbel's: what has the largest sum with it is drawn
        return {"hidden": hidden, "candidates": self.sampler.popular(place), "noise": noise}

    def forward(self, task: Task) -> Tensor:
        """The generator's loss over the catalogue, and binary cross-entropy, the mean over all events."""
        batch, hidden = task.batch, task.drawn["hidden"]
        vectors = lookup(batch.item_index.masked_fill(hidden, MASK_INDEX), task.model.item_vectors())
        told, targets = self.generator(vectors, batch.present)[hidden], batch.item_index[hidden]
        owner = torch.arange(len(targets), device=targets.device)
        taught = task.model.item_loss(told, owner, targets, task.drawn)
        item = batch.item_index.masked_scatter(hidden, self.replacements(told, task))
        states = task.model.states(replace(batch, item_index=item, value=torch.zeros_like(batch.value)))
        present = batch.present
        fault = (item != batch.item_index)[present].float()
        logits = self.head(states[present]).squeeze(1)
        return taught + F.binary_cross_entropy_with_logits(logits, fault, reduction="sum") / max(1, len(fault))

    def replacements(self, told: Tensor, task: Task) -> Tensor:
        """int64 [m]: one candidate each, by the generator's states [m, d]."""
        candidates = task.drawn["candidates"]
        with torch.no_grad():
            logits = task.model.item_logits(told, candidates) - self.sampler.log_share[candidates]
            best = (logits + task.drawn["noise"]).argmax(1, keepdim=True)
        return candidates.gather(1, best).squeeze(1)


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

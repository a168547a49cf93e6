"""Items that are hidden, and told from what stands around them: for encoders that look both ways."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from behavior_lib.models.base import Drawn, ModelSpec
from behavior_lib.models.batch import Batch
from behavior_lib.models.encoders import looks_both_ways
from behavior_lib.models.instants import instant_numbers
from behavior_lib.models.objectives.base import Objective, Task, uniform, whole_up_to
from behavior_lib.tables.items import FIRST_INDEX, MASK_INDEX

MASKED = 0.2  # share of events
NEWEST_ALONE = 0.1  # share of rows whose end alone is hidden, as it is when the next item is asked for
SPAN, LONGEST_SPAN = 0.2, 10  # a span ends after each event with this probability, and at this length


class MaskedItems(Objective):
    """BERT4Rec (Sun et al. 2019): single events are hidden; at least one in each row.

    A row's end is its newest event; for an encoder that looks both ways all of its newest instant, for of the next
    instant it will know nothing either.
    """

    teaches_users = False

    def __init__(self, spec: ModelSpec, item_counts: Tensor) -> None:
        """See Objective."""
        super().__init__(spec, item_counts)
        self.hides_instants = looks_both_ways(spec.name)

    def draw(self, batch: Batch, generator: torch.Generator) -> Drawn:
        """masked: bool [n, L]."""
        position = torch.arange(batch.columns)
        masked = self.chosen(batch, generator)
        newest = (batch.length - 1).clamp(min=0)
        masked = masked | (position == whole_up_to(newest, generator)[:, None])
        alone = uniform((len(batch),), generator) < NEWEST_ALONE
        place = instant_numbers(batch) if self.hides_instants else position.expand(len(batch), -1)
        masked = torch.where(alone[:, None], place == place.gather(1, newest[:, None]), masked)
        return {"masked": masked & batch.present}

    def chosen(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """bool [n, L]: which events to hide."""
        return uniform((len(batch), batch.columns), generator) < MASKED

    def forward(self, task: Task) -> Tensor:
        """The model's loss over the catalogue, the mean over the hidden events of known items."""
        batch, masked = task.batch, task.drawn["masked"]
        item = batch.item_index.masked_fill(masked, MASK_INDEX)
        hidden = replace(batch, item_index=item, value=batch.value * ~masked)
        told = masked & (batch.item_index >= FIRST_INDEX)
        states, targets = task.model.states(hidden)[told], batch.item_index[told]
        return task.model.item_loss(states, torch.arange(len(targets), device=item.device), targets, task.drawn)


class MaskedSpans(MaskedItems):
    """SpanBERT (Joshi et al. 2020): runs of events are hidden together, of geometric length."""

    def chosen(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """About MASKED of the events, less what overlaps."""
        shape, position = (len(batch), batch.columns), torch.arange(batch.columns)
        mean = (1 - (1 - SPAN) ** LONGEST_SPAN) / SPAN
        begins = uniform(shape, generator) < MASKED / mean
        # 1 - u is in (0, 1], so the logarithm is finite and the length at least 1.
        length = (uniform(shape, generator).neg().add(1).log() / torch.tensor(1 - SPAN).log()).long() + 1
        end = torch.where(begins, position + length.clamp(max=LONGEST_SPAN), 0)
        return end.cummax(dim=1).values > position

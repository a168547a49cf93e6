"""What comes next, beside the item: the next session, later events told apart, type, time and value."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from behavior_lib.models.base import Drawn, ModelSpec
from behavior_lib.models.batch import Batch
from behavior_lib.models.instants import InstantEnds, instant_ends
from behavior_lib.models.lookup import lookup
from behavior_lib.models.objectives.base import Foretelling, Objective, Task
from behavior_lib.tables.items import FIRST_INDEX

NEXT_TYPE, NEXT_TIME, NEXT_VALUE = "next_type", "next_time", "next_value"
AHEAD, ANCHORS = 4, 256
SMALLEST_SCALE = 1e-3


class LaterItems(Objective):
    """CPC (van den Oord et al. 2018): a state tells the items 1 … AHEAD events later from those behind other states.

    One bilinear form a distance; the candidates of an anchor are what comes so much later at all anchors of the batch,
    of the same history too, as in the paper. Events of one instant are asked for in the order in which they stand; an
    event of no known item is neither asked for nor a candidate.
    """

    needs_causal = True

    def __init__(self, spec: ModelSpec, item_counts: Tensor) -> None:
        """See Objective."""
        super().__init__(spec, item_counts)
        self.forms = nn.ModuleList(nn.Linear(spec.dimension, spec.dimension, bias=False) for _ in range(AHEAD))

    def draw(self, batch: Batch, generator: torch.Generator) -> Drawn:
        """row, column: int64 [m], m <= ANCHORS: events that have AHEAD later ones."""
        anchors = (torch.arange(batch.columns) < batch.length[:, None] - AHEAD).nonzero()
        chosen = anchors[torch.randperm(len(anchors), generator=generator)[:ANCHORS]]
        return {"row": chosen[:, 0], "column": chosen[:, 1]}

    def forward(self, task: Task) -> Tensor:
        """The mean of InfoNCE over anchors and distances."""
        row, column = task.drawn["row"], task.drawn["column"]
        if len(row) < 2:
            return task.nothing()
        state, losses = task.states[row, column], []
        for distance, form in enumerate(self.forms, 1):
            later = task.batch.item_index[row, column + distance]
            known = (later >= FIRST_INDEX).nonzero().squeeze(1)
            if len(known) < 2:
                continue
            item = later[known]
            logits = form(state[known]) @ lookup(item, task.model.item_vectors()).T
            # Another anchor with the same item ahead is no negative.
            same = (item[:, None] == item) & ~torch.eye(len(item), dtype=torch.bool, device=item.device)
            own = torch.arange(len(item), device=item.device)
            losses.append(F.cross_entropy(logits.masked_fill(same, -torch.inf), own))
        return torch.stack(losses).mean() if losses else task.nothing()


class NextSession(Objective):
    """The items of the next session, a silence of more than spec.session_gap away, each once however often it is there.

    The user after a session is asked, by the spec's loss over the catalogue: the next basket or visit as a set, as
    evaluation asks for it (Yu et al. 2016, "A dynamic recurrent model for next basket recommendation").
    """

    needs_causal = True

    def __init__(self, spec: ModelSpec, item_counts: Tensor) -> None:
        """See Objective."""
        super().__init__(spec, item_counts)
        self.session_gap, self.n_items = spec.session_gap, spec.n_items

    def forward(self, task: Task) -> Tensor:
        """As item_loss takes the mean."""
        ends = instant_ends(task.batch, self.session_gap)
        owner, items = ends.known_targets(task.batch.item_index)
        pairs = torch.unique(owner * self.n_items + items)
        states = task.states[ends.row, ends.column]
        return task.model.item_loss(states, pairs // self.n_items, pairs % self.n_items, task.drawn)


class NextType(Foretelling):
    """The event types of the next instant, each as likely as it is frequent there: cross-entropy, as of the marker in
    Du et al. 2016 ("Recurrent marked temporal point processes").
    """

    needs_causal = True

    def __init__(self, spec: ModelSpec, item_counts: Tensor) -> None:
        """See Objective."""
        super().__init__(spec, item_counts)
        self.head = nn.Linear(spec.dimension, spec.n_event_types)

    def forward(self, task: Task) -> Tensor:
        """The mean over all events of next instants that have a known type."""
        ends = instant_ends(task.batch)
        owner, kind = ends.known_targets(task.batch.event_type)
        logits = self.head(task.states[ends.row, ends.column])[owner]
        return F.cross_entropy(logits, kind, reduction="sum") / max(1, len(kind))

    def foretold(self, states: Tensor) -> Tensor:
        """int64 [m]: the most likely type."""
        likeliest: Tensor = self.head(states)[:, FIRST_INDEX:].argmax(1)
        return likeliest + FIRST_INDEX


class _NextNumber(Foretelling):
    """A normal distribution of one number of the next instant: mean and scale from the state, by likelihood."""

    needs_causal = True

    def __init__(self, spec: ModelSpec, item_counts: Tensor) -> None:
        """See Objective."""
        super().__init__(spec, item_counts)
        self.head = nn.Linear(spec.dimension, 2)

    def surprise(self, states: Tensor, number: Tensor) -> Tensor:
        """The mean negative log-likelihood of `number` [m] under the states [m, d]."""
        mean, scale = self.head(states).unbind(1)
        scale = F.softplus(scale) + SMALLEST_SCALE
        each = 0.5 * ((number - mean) / scale).square() + scale.log() + 0.5 * math.log(2 * math.pi)
        mean_surprise: Tensor = each.sum() / max(1, len(number))
        return mean_surprise

    def mean(self, states: Tensor) -> Tensor:
        """float32 [m]: the mean of the number under the states [m, d]."""
        mean: Tensor = self.head(states)[:, 0]
        return mean


class NextTime(_NextNumber):
    """The silence before the next instant: its logarithm in days, normal (one component of Shchur et al. 2020).

    It is log(1 + days), of which SMALLEST_SCALE is a minute and a half: shorter silences are hardly told apart.
    """

    def forward(self, task: Task) -> Tensor:
        """The mean over the ends of instants."""
        ends = instant_ends(task.batch)
        return self.surprise(task.states[ends.row, ends.column], log_days(task.batch, ends))

    def foretold(self, states: Tensor) -> Tensor:
        """float32 [m]: the median of the days, never below 0."""
        return self.mean(states).clamp(min=0).expm1()


class NextValue(_NextNumber):
    """The sum of the values of the next instant: its signed logarithm, normal."""

    def forward(self, task: Task) -> Tensor:
        """The mean over the ends of instants."""
        ends = instant_ends(task.batch)
        owner, value = ends.targets(task.batch.value)
        total = value.new_zeros(len(ends)).index_add(0, owner, value)
        return self.surprise(task.states[ends.row, ends.column], total.sign() * total.abs().log1p())

    def foretold(self, states: Tensor) -> Tensor:
        """float32 [m]: the median of the value."""
        mean = self.mean(states)
        return mean.sign() * mean.abs().expm1()


def log_days(batch: Batch, ends: InstantEnds) -> Tensor:
    """float32 [m]: log(1 + days) from each end to the next instant."""
    return (batch.gap_seconds[ends.row, ends.start] / 86_400).float().log1p()

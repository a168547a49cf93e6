"""The family of next-item models: any encoder, tied item vectors, a repeat path over the user's own items."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from behavior_lib.models.base import Drawn, ModelSpec, SequenceModel
from behavior_lib.models.batch import Batch
from behavior_lib.models.causal import CausalEncoder
from behavior_lib.models.encoders import ENCODERS
from behavior_lib.models.instants import InstantEnds, instant_ends
from behavior_lib.models.losses import CatalogueLoss, repeat_softmax
from behavior_lib.models.objectives.chosen import NEXT_ITEM, Objectives
from behavior_lib.models.repeat import RepeatPath, own_items
from behavior_lib.models.transitions import ItemGraph
from behavior_lib.tables.items import FIRST_INDEX

SHRINKAGE = 0.3  # weight of the mean squared propensity


class NextItem(SequenceModel):
    """The encoder of spec.name; item vectors are both input and output (as in SASRec, Kang and McAuley 2018).

    The newest state is the user: of a causal encoder that of the newest event, of one that looks both ways that of a
    hidden event behind it. A score is state · item vector + item bias + the repeat path's logit for items of the
    user's own history.
    """

    log_share: Tensor

    def __init__(self, spec: ModelSpec, item_counts: Tensor) -> None:
        super().__init__(spec, item_counts)
        self.items = nn.Embedding(spec.n_items, spec.dimension)
        share = self.item_counts.double() / self.item_counts.sum()
        self.register_buffer("log_share", share.log().float(), persistent=False)
        self.bias = nn.Parameter(self.log_share.clamp(min=-20.0))
        self.encoder = ENCODERS[spec.name](spec)
        self.is_causal = isinstance(self.encoder, CausalEncoder)
        self.repeat = RepeatPath(spec.n_items) if spec.repeat_path else None
        self.catalogue_loss = CatalogueLoss(spec, self.item_counts)
        nn.init.normal_(self.items.weight, std=spec.dimension**-0.5)
        self.objectives = Objectives(spec, self.item_counts)

    def user_vectors(self, batch: Batch) -> Tensor:
        """The encoder's newest state."""
        batch = self.prepare(batch)
        return self.newest_states(batch)

    def blocks(self) -> list[nn.Module]:
        """Those of the encoder."""
        return list(self.encoder.layers())

    def item_graph(self) -> ItemGraph | None:
        """That of the encoder."""
        return self.encoder.item_graph()

    def item_vectors(self) -> Tensor:
        """The vectors that are input and output alike."""
        return self.items.weight

    def scores(self, batch: Batch) -> Tensor:
        """Vectors, bias and repeat path together."""
        batch = self.prepare(batch)
        logits = self._vector_logits(self.newest_states(batch))
        if self.repeat is not None:
            own = own_items(batch)
            logits = logits.scatter_add(1, own.item, self.repeat(own, self.log_share, logits.gather(1, own.item)))
        return logits

    def draw(self, batch: Batch, generator: torch.Generator) -> Drawn:
        """negatives: int64, see CatalogueLoss. boundaries: int64, ends of instants where all items are scored.

        And what the objectives beside the next item draw.
        """
        ends = instant_ends(batch)
        negatives = self.catalogue_loss.draw(known_targets(ends, batch)[1], generator)
        n = min(self.spec.boundaries * len(batch), len(ends))
        # Late ends are preferred: their histories are as long as those that are scored in the end.
        likely = ends.column + 1.0
        boundaries = torch.multinomial(likely, n, generator=generator) if n else ends.column
        return {"negatives": negatives, "boundaries": boundaries, **self.objectives.draw(batch, generator)}

    def loss(self, batch: Batch, drawn: Drawn) -> Tensor:
        """The spec's objectives by their weights, plus full softmax of whole scores at some ends of instants.

        The next item's is the spec's loss of the vectors at every instant's end. The full softmax teaches the repeat
        path alone: vectors that also had to please it ranked worse.
        """
        ends = instant_ends(batch)
        states = self.states(batch) if self.is_causal else batch.value.new_empty(len(batch), 0, self.spec.dimension)
        loss = self.objectives.loss(self, batch, states, drawn)
        if (weight := self.spec.objectives.get(NEXT_ITEM, 0.0)) > 0:
            owner, targets = known_targets(ends, batch)
            loss = loss + weight * self.item_loss(states[ends.row, ends.column], owner, targets, drawn)
        if self.repeat is not None and len(ends):
            loss = loss + self._repeat_loss(self.repeat, states.detach(), batch, ends.select(drawn["boundaries"]))
        return loss

    def states(self, batch: Batch) -> Tensor:
        """float32 [n, L, d]: the state of each event, read in windows; what stands at padding means nothing."""
        window, place = batch.windows(self.encoder.columns)
        states: Tensor = self.encoder(window, self.items.weight)
        pieces = -(-batch.columns // self.encoder.columns)
        whole = states.new_zeros(len(batch) * pieces, *states.shape[1:]).index_copy(0, place, states)
        return whole.view(len(batch), -1, self.spec.dimension)[:, : batch.columns]

    def item_loss(self, states: Tensor, owner: Tensor, targets: Tensor, drawn: Drawn) -> Tensor:
        """The spec's loss over the catalogue: how far states [m, d] are from the items that each of them owns."""
        loss: Tensor = self.catalogue_loss(states, owner, targets, self.items.weight, self.bias, drawn["negatives"])
        return loss

    def _repeat_loss(self, repeat: RepeatPath, states: Tensor, batch: Batch, ends: InstantEnds) -> Tensor:
        past = batch.rows(ends.row).cut(ends.column + 1)
        own = own_items(past)
        owner, targets = known_targets(ends, batch)
        with torch.no_grad():
            # A state that looks both ways has seen the targets: then each end is read once more, cut there.
            users = states[ends.row, ends.column] if self.is_causal else self.newest_states(past)
            logits = self._vector_logits(users)
            everything, own_logit = logits.logsumexp(1), logits.gather(1, own.item)
            target_logit = logits[owner, targets]
        addend = repeat(own, self.log_share, own_logit)
        loss = repeat_softmax(everything, own_logit, addend, own.item, target_logit, owner, targets)
        return loss + SHRINKAGE * repeat.shrinkage(own)

    def newest_states(self, batch: Batch) -> Tensor:
        """float32 [n, d]: the newest state of each row of a prepared batch; 0 for a row without events."""
        window = self.encoder.asked(batch)
        states: Tensor = self.encoder(window, self.items.weight)
        newest = (window.length - 1).clamp(min=0)
        return states[torch.arange(len(window)), newest] * (batch.length > 0)[:, None]

    def _vector_logits(self, states: Tensor) -> Tensor:
        return self.only_candidates(torch.addmm(self.bias, states, self.items.weight.T))


def known_targets(ends: InstantEnds, batch: Batch) -> tuple[Tensor, Tensor]:
    """The targets of the ends, without events that name no known item."""
    owner, targets = ends.targets(batch.item_index)
    known = targets >= FIRST_INDEX
    return owner[known], targets[known]

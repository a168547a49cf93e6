"""The family of next-item models: any encoder, tied item vectors, and two paths beside them.

The repeat path scores the user's own items, the successor path those that others had next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from behavior_lib.models.attributes import ItemAttributes
from behavior_lib.models.base import (
    IN_COMMON,
    OWN_PAST,
    POPULARITY,
    VECTORS,
    WHAT_FOLLOWS,
    Drawn,
    ModelSpec,
    SequenceModel,
)
from behavior_lib.models.batch import Batch
from behavior_lib.models.blend import Blend, Logits
from behavior_lib.models.causal import CausalEncoder
from behavior_lib.models.encoders import ENCODERS
from behavior_lib.models.instants import InstantEnds, instant_ends
from behavior_lib.models.item_graph import ItemGraph
from behavior_lib.models.losses import CatalogueLoss, path_softmax
from behavior_lib.models.objectives.chosen import NEXT_ITEM, Objectives
from behavior_lib.models.pooling import pooling_of
from behavior_lib.models.repeat import RepeatPath, own_items
from behavior_lib.models.similarity import Similarity
from behavior_lib.models.slots import LEAST, Slots
from behavior_lib.models.successors import SuccessorPath, fold_of
from behavior_lib.models.transfer import BY_EVENT_TYPE, BY_ITEM, check_alike, take_weights
from behavior_lib.models.vectors import GivenVectors
from behavior_lib.tables.items import FIRST_INDEX

SHRINKAGE = 0.3  # weight of the mean squared propensity


class NextItem(SequenceModel):
    """The encoder of spec.name; item vectors are both input and output (as in SASRec, Kang and McAuley 2018).

    The newest state is the user: of a causal encoder that of the newest event, of one that looks both ways that of a
    hidden event behind it; or what the spec's pooling makes of the states. A score is user · item vector, or what the
    spec's similarity makes of them, + item bias + the repeat path's addend for items of the user's own history, or the
    successor path's for others that followed its newest ones, + what the values of its items give all items that have
    them. With spec.blend the products have a factor and popularity a weight of their own in it, which are learned with
    the paths: vectors alone are taught to rank sampled items, and say too much beside counts.
    """

    log_share: Tensor

    def __init__(self, spec: ModelSpec, item_counts: Tensor) -> None:
        super().__init__(spec, item_counts)
        self.items = nn.Embedding(spec.n_items, spec.dimension)
        share = self.item_counts.double() / self.item_counts.sum()
        self.register_buffer("log_share", share.log().float(), persistent=False)
        self.bias = nn.Parameter(self.log_share.clamp(min=LEAST))
        self.attributes = ItemAttributes(spec) if spec.item_attributes else None
        self.given = _given_of(spec)
        self.encoder = ENCODERS[spec.name](spec)
        self.is_causal = isinstance(self.encoder, CausalEncoder)
        self.repeat = RepeatPath(spec.n_items) if spec.repeat_path else None
        self.successors = SuccessorPath(spec.n_items, spec.successors) if spec.successors else None
        self.blend = Blend() if spec.blend and self._has_paths else None
        self.catalogue_loss = CatalogueLoss(spec, self.item_counts)
        nn.init.normal_(self.items.weight, std=spec.dimension**-0.5)
        self.objectives = Objectives(spec, self.item_counts)
        self._shared_table: Tensor | None = None
        self.pooling, self.similarity = pooling_of(spec), Similarity(spec)

    def user_vectors(self, batch: Batch) -> Tensor:
        """What the pooling makes of the states, as the similarity compares it."""
        return self.similarity.vectors(self.newest_states(self.prepare(batch)))

    def blocks(self) -> list[nn.Module]:
        """Those of the encoder."""
        return list(self.encoder.layers())

    def item_graph(self) -> ItemGraph | None:
        """That of the encoder."""
        return self.encoder.item_graph()

    def item_vectors(self) -> Tensor:
        """Those that are the encoder's input, as the similarity compares them."""
        return self.similarity.vectors(self._item_table())

    def take_attributes(self, value_index: Tensor) -> None:
        """As SequenceModel."""
        if self.attributes is not None:
            self.attributes.value_index.copy_(value_index)

    def take_vectors(self, given: Tensor) -> None:
        """As SequenceModel."""
        if self.given is not None:
            self.given.given.copy_(given)

    def start_item_vectors(self, vectors: Tensor) -> None:
        """As SequenceModel: the table itself takes them, but for what the given vectors add."""
        started = self.known_items & (vectors.norm(dim=1) > 0)
        with torch.no_grad():
            self.items.weight[started] = vectors[started]
            self._leave_to_given(started)

    def start_from(self, other: SequenceModel, items: Tensor, event_types: Tensor) -> Tensor:
        """As SequenceModel. What the values of an item gave its vector is then part of its own, and a bias is taken as
        far as it had left the item's share of train, which is another one here. Projections of given vectors are taken
        where both have them; an item that both know is then where it was, another one where its given vectors say.
        """
        check_alike(self.spec, other.spec)
        assert isinstance(other, NextItem)
        is_learned = other.known_items[items.clamp(0, other.spec.n_items - 1)] & (items < other.spec.n_items)
        items = items.masked_fill(~(is_learned | (items < FIRST_INDEX)), -1)
        event_types = event_types.masked_fill(event_types >= other.spec.n_event_types, -1)
        rows = {**dict.fromkeys(BY_ITEM, items), **dict.fromkeys(BY_EVENT_TYPE, event_types)}
        with torch.no_grad():
            moved = {"items.weight": other._item_table(), "bias": other.bias - other.log_share.clamp(min=LEAST)}
            take_weights(self, self.spec, other.spec, {**dict(other.named_parameters()), **moved}, rows)
            self._leave_to_given(items >= 0)
            self.bias[items >= 0] += self.log_share.clamp(min=LEAST)[items >= 0]
        return (items >= FIRST_INDEX) & self.known_items

    def scores(self, batch: Batch) -> Tensor:
        """Vectors, bias and paths together."""
        batch = self.prepare(batch)
        logits = self._logits(self.newest_states(batch), batch).logits
        if self._has_paths:
            item, addend = self._paths(self._own(batch), batch, logits)
            logits = logits.scatter_add(1, item, addend)
        return logits

    def product_terms(self) -> tuple[float, Tensor]:
        """Those of the similarity and the blend, and the item bias."""
        factor, weight = self._blended()
        return float(factor) * self.similarity.scale, self._addend(weight)

    def score_parts(self, batch: Batch, items: Tensor) -> dict[str, Tensor]:
        """The bias with the blend's popularity, user · item vector, what values give, and the addend of each path."""
        batch = self.prepare(batch)
        blended = self._logits(self.newest_states(batch), batch)
        popularity = self.bias[items] + blended.of_popularity(items)
        parts = {POPULARITY: popularity.expand(len(batch), -1), VECTORS: blended.of_products(items)}
        if self.attributes is not None and self.attributes.is_scored:
            parts[IN_COMMON] = blended.of_values(items)
        logits = blended.logits
        for name, (item, addend) in self._by_path(self._own(batch), batch, logits).items():
            parts[name] = torch.zeros_like(logits).scatter_add(1, item, addend)[:, items]
        return parts

    def foretold(self, batch: Batch) -> dict[str, Tensor]:
        """As SequenceModel, by the objectives' heads."""
        if not (heads := self.objectives.foretelling()):
            return {}
        states = self.newest_states(self.prepare(batch))
        return {name: head.foretold(states) for name, head in heads.items()}

    def draw(self, batch: Batch, generator: torch.Generator) -> Drawn:
        """negatives: int64, see CatalogueLoss. boundaries: int64, ends of instants where all items are scored.

        And what the objectives beside the next item draw.
        """
        ends = instant_ends(batch)
        negatives = self.catalogue_loss.draw(ends.known_targets(batch.item_index)[1], generator)
        n = min(self.spec.boundaries * len(batch), len(ends)) if self._has_paths else 0
        # Late ends are preferred: their histories are as long as those that are scored in the end.
        likely = ends.column + 1.0
        boundaries = torch.multinomial(likely, n, generator=generator) if n else ends.column
        return {"negatives": negatives, "boundaries": boundaries, **self.objectives.draw(batch, generator)}

    def loss(self, batch: Batch, drawn: Drawn) -> Tensor:
        """The spec's objectives by their weights, plus full softmax of whole scores at some ends of instants.

        The next item's is the spec's loss of the users at every instant's end. The full softmax teaches the paths and
        the blend alone: vectors that also had to please it ranked worse.
        """
        with self._one_item_table():
            return self._loss(batch, drawn)

    def _loss(self, batch: Batch, drawn: Drawn) -> Tensor:
        ends = instant_ends(batch)
        no_users = batch.value.new_empty(len(batch), 0, self.spec.dimension)
        users = self._in_windows(batch, self.pooling) if self.is_causal else no_users
        loss = self.objectives.loss(self, batch, users, drawn)
        if (weight := self.spec.objectives.get(NEXT_ITEM, 0.0)) > 0:
            owner, targets = ends.known_targets(batch.item_index)
            loss = loss + weight * self.item_loss(users[ends.row, ends.column], owner, targets, drawn)
        if self._has_paths and len(ends):
            loss = loss + self._path_loss(users.detach(), batch, ends.select(drawn["boundaries"]))
        return loss

    def states(self, batch: Batch) -> Tensor:
        """float32 [n, L, d]: the state of each event, read in windows; what stands at padding means nothing."""
        return self._in_windows(batch, lambda states: states)

    def _in_windows(self, batch: Batch, change: Callable[[Tensor], Tensor]) -> Tensor:
        window, place = batch.windows(self.encoder.columns)
        states = change(self.encoder(window, self._item_table()))
        pieces = -(-batch.columns // self.encoder.columns)
        if len(place) < len(batch) * pieces:
            states = states.new_zeros(len(batch) * pieces, *states.shape[1:]).index_copy(0, place, states)
        return states.reshape(len(batch), -1, self.spec.dimension)[:, : batch.columns]

    def item_loss(self, states: Tensor, owner: Tensor, targets: Tensor, drawn: Drawn) -> Tensor:
        """The spec's loss over the catalogue: how far states [m, d] are from the items that each of them owns.

        With prefixes the mean of it over all widths, the whole one among them: Matryoshka representation learning
        (Kusupati et al. 2022, eq. 1 with equal weights), the biases being shared.
        """
        items = self._item_table()
        pairs = [(states, items)]
        pairs += [(states[:, :width], items[:, :width]) for width in self.spec.prefixes]
        losses = [self._catalogue_loss(*pair, owner, targets, drawn["negatives"]) for pair in pairs]
        return losses[0] if len(losses) == 1 else torch.stack(losses).mean()

    def item_logits(self, states: Tensor, items: Tensor) -> Tensor:
        """float32 [m, c]: state · vector + bias of the items, int64 [m, c], at the states [m, d]."""
        asked, vectors = self.similarity.asked(states), self.item_vectors()
        return torch.einsum("md,mcd->mc", asked, vectors[items]) + self.bias[items]

    def _catalogue_loss(
        self, states: Tensor, items: Tensor, owner: Tensor, targets: Tensor, negatives: Tensor
    ) -> Tensor:
        asked, vectors = self.similarity.asked(states), self.similarity.vectors(items)
        loss: Tensor = self.catalogue_loss(asked, owner, targets, vectors, self.bias, negatives)
        return loss

    @contextmanager
    def _one_item_table(self) -> Iterator[None]:
        """Inside, the item table is added up once and not at every use: it is a sum over the whole catalogue."""
        if self.attributes is not None or self.given is not None:
            self._shared_table = self._item_table()
        try:
            yield
        finally:
            self._shared_table = None

    def _item_table(self) -> Tensor:
        """float32 [n_items, d]: each item's own vector, those of its values and what is made of those given."""
        if self._shared_table is not None:
            return self._shared_table
        table: Tensor = self.items.weight
        for part in (self.attributes, self.given):
            table = table if part is None else table + part.added()
        return table

    def _leave_to_given(self, items: Tensor) -> None:
        """Take what given vectors add out of the own vectors of these items, bool [n_items]."""
        if self.given is not None:
            self.items.weight[items] -= self.given.added()[items]

    @property
    def _has_paths(self) -> bool:
        return self.repeat is not None or self.successors is not None

    def _own(self, batch: Batch) -> Slots | None:
        """What the repeat path scores; None without it."""
        return None if self.repeat is None else own_items(batch)

    def _paths(
        self, own: Slots | None, batch: Batch, logits: Tensor, fold: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """What `_by_path` gives, side by side."""
        items, addends = zip(*self._by_path(own, batch, logits, fold).values(), strict=True)
        return torch.cat(items, 1), torch.cat(addends, 1)

    def _by_path(
        self, own: Slots | None, batch: Batch, logits: Tensor, fold: Tensor | None = None
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """The items that each path scores, int64 [n, S], each once a row, 0 in empty slots, and what each gets: [n, S].

        No item is scored by both. own: of the batch. logits: [n, n_items], so far. fold: of rows of train, whose counts
        they must not see.
        """
        found = {}
        if self.repeat is not None and own is not None:
            found[OWN_PAST] = (own.item, self.repeat(own, self.log_share, logits.gather(1, own.item)))
        if self.successors is not None:
            others = self.successors.slots(batch, self.item_counts, fold)
            addend = self.successors(others, self.log_share, logits.gather(1, others.item))
            found[WHAT_FOLLOWS] = (others.item, addend)
        return found

    def _path_loss(self, users: Tensor, batch: Batch, ends: InstantEnds) -> Tensor:
        past = batch.rows(ends.row).cut(ends.column + 1)
        owner, targets = ends.known_targets(batch.item_index)
        with torch.no_grad():
            # A state that looks both ways has seen the targets: then each end is read once more, cut there.
            chosen = users[ends.row, ends.column] if self.is_causal else self.newest_states(past)
        logits = self._logits(chosen, past)
        own = self._own(past)
        item, addend = self._paths(own, past, logits.logits, fold_of(batch)[ends.row])
        row = torch.arange(len(item), device=item.device)[:, None].expand_as(item)
        loss = path_softmax(
            logits.everything(), logits.at(row, item), addend, item, logits.at(owner, targets), owner, targets
        )
        if self.repeat is not None and own is not None:
            loss = loss + SHRINKAGE * self.repeat.shrinkage(own)
        return loss

    def newest_states(self, batch: Batch) -> Tensor:
        """float32 [n, d]: the user of each row of a prepared batch, of any length; 0 for a row without events."""
        window = self.encoder.asked(batch)
        users: Tensor = self.pooling(self.encoder(window, self._item_table()))
        newest = (window.length - 1).clamp(min=0)
        return users[torch.arange(len(window)), newest] * (batch.length > 0)[:, None]

    def _blended(self) -> tuple[Tensor, Tensor]:
        """float32 [] each: the factor of products, and how much of popularity is added; 1 and 0 without a blend."""
        if self.blend is not None:
            return self.blend.factor, self.blend.popularity
        return self.bias.new_ones(()), self.bias.new_zeros(())

    def _addend(self, weight: Tensor) -> Tensor:
        """float32 [n_items]: the bias, and so much of popularity."""
        return self.bias + weight * self.log_share.clamp(min=LEAST)

    def _logits(self, users: Tensor, batch: Batch) -> Logits:
        """Everything but the paths, and without gradients of users and items.

        users: [n, d], the states behind the rows of a prepared batch.
        """
        factor, weight = self._blended()
        values = self.attributes
        by_value, value_index = users.new_zeros(len(users), 0), batch.item_index.new_zeros(self.spec.n_items, 0)
        if values is not None and values.is_scored:
            by_value, value_index = values.by_value(batch, self.log_share.exp()), values.value_index
        with torch.no_grad():
            products = self.similarity.asked(users) @ self.item_vectors().T
            logits = torch.addcmul(self._addend(weight), products, factor)
            for index in value_index.T:
                logits += by_value.index_select(1, index)  # eight times as fast as by_value[:, index]
        return Logits(self.only_candidates(logits), products, self.log_share, factor, weight, by_value, value_index)


def _given_of(spec: ModelSpec) -> GivenVectors | None:
    widths = dict(zip(spec.item_vectors, spec.vector_widths, strict=True))
    return GivenVectors(spec.n_items, spec.dimension, widths) if widths else None

"""The one interface of all models: what training, evaluation and serving call."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from behavior_lib.errors import ConfigError
from behavior_lib.models.batch import Batch
from behavior_lib.models.item_graph import ItemGraph
from behavior_lib.models.successors import SuccessorPath
from behavior_lib.models.vectors import GivenVectors
from behavior_lib.tables.item_graph import NEXT
from behavior_lib.tables.items import FIRST_INDEX, PADDING_INDEX, UNKNOWN_INDEX


@dataclass(frozen=True)
class ModelSpec:
    """Everything that builds a model again, as JSON can hold it.

    layers, heads, positions: of encoders that have them. fusion: how an event's inputs become one vector.
    length: newest events of a history that the model looks at; window: those of them that the encoder reads, the rest
    only counts in the repeat path. successors: items that followed an item, kept for the successor path; 0: without it.
    n_items, n_event_types: highest index in train + 1. The use_* flags say which inputs
    beside the item are read; hour and weekday are UTC's.
    negatives, boundaries: of the loss, see the family. loss, negative_sampling: names in
    losses/chosen.py, None for the loss's own sampling; calibration: of gbce. neighbours: of graph encoders, an item's
    heaviest edges; graph: their kind in ITEM_GRAPH.
    objectives: the weight of each thing that is learned, by its name (objectives/chosen.py); what is
    not there weighs nothing. pooling: how states become a user (pooling.py). similarity, temperature: how users and
    items are compared (similarity.py). prefixes: widths below dimension at which the head of each vector is to be a
    good vector too. item_attributes: what is known of items and read (attributes.py); attribute_values: the highest
    number of one of their values + 1. item_vectors: names of vectors of items that were made elsewhere, and are read
    (vectors.py); vector_widths: how many numbers each of them has.
    session_gap: seconds of silence that a session may hold, for next_session.
    blend: what the paths are added to is weighed where they learn (NextItem). repeat_discount: of the mean.
    """

    name: str
    length: int
    n_items: int
    n_event_types: int
    window: int = 256
    dimension: int = 64
    layers: int = 2
    heads: int = 2
    positions: str = "rotary"
    dropout: float = 0.1
    repeat_path: bool = True
    successors: int = 0
    fusion: str = "sum"
    use_event_type: bool = True
    use_gap: bool = True
    use_value: bool = True
    use_hour: bool = False
    use_weekday: bool = False
    negatives: int = 1024
    boundaries: int = 4
    loss: str = "sampled_softmax"
    negative_sampling: str | None = None
    calibration: float = 0.75
    neighbours: int = 10
    graph: str = NEXT
    pooling: str = "newest"
    similarity: str = "dot"
    temperature: float = 0.05
    prefixes: Sequence[int] = field(default_factory=list)
    item_attributes: Sequence[str] = field(default_factory=list)
    attribute_values: int = 0
    item_vectors: Sequence[str] = field(default_factory=list)
    vector_widths: Sequence[int] = field(default_factory=list)
    session_gap: int = 1800
    blend: bool = False
    repeat_discount: float = 0.0
    objectives: Mapping[str, float] = field(default_factory=lambda: {"next_item": 1.0})

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the arrays that such a model is built with, by the names that `build_model` has for them."""
        others = {"attribute_index": (self.n_items, len(self.item_attributes))} if self.item_attributes else {}
        if self.item_vectors:
            others["given_vectors"] = (self.n_items, sum(self.vector_widths))
        return {"item_counts": (self.n_items,), **others}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ModelSpec:
        """The spec that `as_json` wrote. Raises ConfigError where a key is unknown or missing."""
        try:
            return cls(**values)
        except TypeError as problem:
            what = "the model's description does not fit this version of the code"
            raise ConfigError(what, value=str(problem)) from None


# What a score is made of: see SequenceModel.score_parts.
POPULARITY, VECTORS, IN_COMMON = "popularity", "vectors", "in common"
OWN_PAST, WHAT_FOLLOWS = "own past", "what follows"

Drawn = Mapping[str, Tensor]
DONE = "done"  # in Drawn: float32 [], the share of a run's steps before this one; where it is not there all are done


class SequenceModel(nn.Module, ABC):
    """Histories in, user vectors and scores of next items out.

    item_counts: int64 [n_items], how often train has each item. known_items: bool [n_items], those with a count. Every
    other index in an input is read as the unknown item, and is never a candidate in the output. Histories may be of
    any length; the newest `spec.length` events count. An empty history has the zero vector.
    successors: what must be given the counts of train before it learns; given: what holds vectors of items that were
    made elsewhere; None where there is no such part.
    """

    item_counts: Tensor
    known_items: Tensor

    def __init__(self, spec: ModelSpec, item_counts: Tensor) -> None:
        super().__init__()
        if item_counts.shape != (spec.n_items,):
            raise ValueError(f"item_counts must be [{spec.n_items}], not {list(item_counts.shape)}")
        item_counts = item_counts.long()
        item_counts = item_counts * (torch.arange(spec.n_items) >= FIRST_INDEX)
        self.spec = spec
        self.successors: SuccessorPath | None = None
        self.given: GivenVectors | None = None
        # The counts are part of the model: the repeat path reads the items' shares when it scores.
        self.register_buffer("item_counts", item_counts)
        self.register_buffer("known_items", item_counts > 0, persistent=False)

    @abstractmethod
    def user_vectors(self, batch: Batch) -> Tensor:
        """float32 [n, dimension]: each user's state after the newest event."""

    @abstractmethod
    def item_vectors(self) -> Tensor:
        """float32 [n_items, dimension]: one vector an item index; rows of items that are not known mean nothing."""

    @abstractmethod
    def take_attributes(self, value_index: Tensor) -> None:
        """Take int64 [n_items, attributes], the number of each item's value of each of spec.item_attributes: numbers
        from FIRST_INDEX that no two attributes share, below spec.attribute_values; 0 where an item has none.
        """

    @abstractmethod
    def take_vectors(self, given: Tensor) -> None:
        """Take float32 [n_items, width of all], vectors of spec.item_vectors side by side; 0 where an item has none."""

    @abstractmethod
    def start_item_vectors(self, vectors: Tensor) -> None:
        """Take [n_items, dimension] for the vectors of the known items; rows of length 0 leave the own ones."""

    @abstractmethod
    def start_from(self, other: SequenceModel, items: Tensor, event_types: Tensor) -> Tensor:
        """Take what another model has learned, of these items and event types or of others; the rest stays as it is.
        Returns bool [n_items], the known items whose vectors were taken.

        items: int64 [n_items], event_types: int64 [n_event_types]: the number that the other model has for what is the
        same item or type, -1 where it has none. Counts of train are never taken. Raises ConfigError where the other
        model has another architecture.
        """

    def blocks(self) -> list[nn.Module]:
        """The layers that take most of the time and memory; none where there is no such part.

        Training may compute them in bfloat16, compile them, or compute them once more in the backward pass.
        """
        return []

    def item_graph(self) -> ItemGraph | None:
        """What training fills with the transitions of train before its first step; None where there is no such part."""
        return None

    @abstractmethod
    def scores(self, batch: Batch) -> Tensor:
        """float32 [n, n_items]: a logit for each item to be in the user's next instant; -inf for no candidate."""

    @abstractmethod
    def product_terms(self) -> tuple[float, Tensor]:
        """What `scores` make of user · item vector: its factor, and float32 [n_items], what popularity adds to it."""

    @abstractmethod
    def score_parts(self, batch: Batch, items: Tensor) -> dict[str, Tensor]:
        """What `scores` of the known items `items`, int64 [m], are made of: float32 [n, m] each, and they add up to it.

        popularity: what a user without events gives the item. vectors: what the user's vector does. in common: what the
        item gets for attributes that it shares with the user's items. own past: what the
        item gets for being in the history. what follows: what it gets for what followed history items elsewhere. Parts
        that the model does not have are not there.
        """

    def foretold(self, batch: Batch) -> dict[str, Tensor]:
        """What is said of each row's next instant by objectives that learned it, by their names.

        next_type: int64 [n], the type of its events. next_time: float32 [n], days until it. next_value: float32 [n],
        the sum of its values. Empty where nothing was learned of it.
        """
        return {}

    @abstractmethod
    def draw(self, batch: Batch, generator: torch.Generator) -> Drawn:
        """Every random choice that the loss of a prepared batch needs, but dropout. Reads no weights: it runs in the
        thread that makes batches ahead.
        """

    @abstractmethod
    def loss(self, batch: Batch, drawn: Drawn) -> Tensor:
        """The scalar to minimise on a prepared batch of training rows. drawn: what `draw` gave for it, and DONE."""

    def prepare(self, batch: Batch) -> Batch:
        """The newest `spec.length` events. Items that train does not have are read as unknown, and event types that
        have no row here.
        """
        batch = batch.newest(self.spec.length)
        present = batch.present
        item, kind = batch.item_index, batch.event_type
        seen = self.known_items[item.clamp(0, self.spec.n_items - 1)] & (item >= 0) & (item < self.spec.n_items)
        item = torch.where(seen, item, UNKNOWN_INDEX)
        kind = torch.where((kind >= 0) & (kind < self.spec.n_event_types), kind, UNKNOWN_INDEX)
        return replace(
            batch,
            item_index=torch.where(present, item, PADDING_INDEX),
            event_type=torch.where(present, kind, PADDING_INDEX),
        )

    def only_candidates(self, scores: Tensor) -> Tensor:
        """The scores [n, n_items] with -inf for every index that is not a known item."""
        return scores.masked_fill(~self.known_items, float("-inf"))

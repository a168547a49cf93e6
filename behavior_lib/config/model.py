"""The keys of model."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Positions(str, Enum):
    rotary = "rotary"
    learned = "learned"
    time = "time"


class PoolingName(str, Enum):
    newest = "newest"
    mean = "mean"
    attention = "attention"
    cls = "cls"


class SimilarityName(str, Enum):
    dot = "dot"
    cosine = "cosine"


class GraphName(str, Enum):
    next = "next"
    session = "session"


class Fusion(str, Enum):
    sum = "sum"
    concat = "concat"


class LossName(str, Enum):
    sampled_softmax = "sampled_softmax"
    softmax = "softmax"
    chunked_softmax = "chunked_softmax"
    gbce = "gbce"
    bce = "bce"
    bpr = "bpr"


class SamplingName(str, Enum):
    popularity = "popularity"
    uniform = "uniform"
    in_batch = "in_batch"
    mixed = "mixed"


@dataclass
class ModelConfig:
    """Architecture. One file a named model in conf/models."""

    name: str = "mean"  # of an encoder; each has a file that changes some of these defaults
    dimension: int = 64
    layers: int = 1  # mean has none
    heads: int = 2  # of attention: transformers, hstu, gat
    positions: Positions = Positions.rotary  # of transformers; rotary, learned: instants; time: between two events
    dropout: float = 0.1
    window: int = 128  # newest events that the encoder reads; the repeat path sees all of sequences.length
    repeat_discount: float = 1.0  # of mean: an item's k-th event counts k ** -this; 0: all alike, 1: as its logarithm
    neighbours: int = 10  # of gcn, gat: an item's edges in the item graph, the heaviest
    graph: GraphName = GraphName.next  # of gcn, gat: whether edges are what follows what or what is in one session
    repeat_path: bool = True  # add a learned score of the user's own past items
    successors: int = 64  # add one of other items that followed its newest; so many are kept an item; 0: no such score
    fusion: Fusion = Fusion.sum  # an event's inputs are added, or laid side by side and taken through a linear layer
    # How much vectors and popularity count beside those scores is learned with them; nothing where there are none.
    blend: bool = True
    # What items.attributes has under these names is read beside the item: similar items begin alike, and what a user's
    # items have in common is scored. Empty: nothing.
    item_attributes: list[str] = field(default_factory=list)
    # What items.vectors has under these names, made elsewhere, is part of an item's vector, by a learned projection.
    item_vectors: list[str] = field(default_factory=list)
    use_event_type: bool = True  # inputs beside the item
    use_gap: bool = True
    use_value: bool = True
    use_hour: bool = False  # of the day, UTC
    use_weekday: bool = False  # UTC
    pooling: PoolingName = PoolingName.newest  # how states become the user's vector
    # How users and items are compared, in the loss, in scores and in what is written: cosine has vectors of length 1.
    similarity: SimilarityName = SimilarityName.dot
    temperature: float = 0.05  # of cosine, which it divides
    prefixes: list[int] = field(default_factory=list)  # widths at which the head of each vector is a good vector too
    # What is learned, by weight: next_item, and what behavior_lib/models/objectives has beside it. 0 leaves one out.
    objectives: dict[str, float] = field(default_factory=lambda: {"next_item": 1.0})
    session_gap: str | None = None  # what next_session takes for the end of a session, as 30m; null: the source's
    loss: LossName = LossName.sampled_softmax  # of the vectors, over the catalogue; softmax holds positions * items
    # How negatives are drawn; null: as in the loss's paper, popularity for sampled_softmax, uniform for gbce, bce, bpr.
    negative_sampling: SamplingName | None = None
    calibration: float = 0.75  # of gbce: 0 is bce, at 1 the sigmoid of a score is a probability

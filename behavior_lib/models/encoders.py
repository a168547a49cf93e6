"""Encoders by the name of the model that is built around each."""

from __future__ import annotations

from behavior_lib.models.bidirectional import BidirectionalTransformer
from behavior_lib.models.causal import CausalEncoder, WindowEncoder
from behavior_lib.models.convolution import DilatedConvolutions
from behavior_lib.models.graph import Gat, Gcn, GraphEncoder
from behavior_lib.models.hstu import Hstu
from behavior_lib.models.mean import RunningMean
from behavior_lib.models.recurrent import Gru, Lstm, Rnn
from behavior_lib.models.transformer import CausalTransformer

ENCODERS: dict[str, type[WindowEncoder]] = {
    "transformer_repeat": CausalTransformer,  # the same as transformer; registered models have this name
    "transformer": CausalTransformer,
    "gru": Gru,
    "lstm": Lstm,
    "rnn": Rnn,
    "cnn": DilatedConvolutions,
    "mean": RunningMean,
    "hstu": Hstu,
    "gcn": Gcn,
    "gat": Gat,
    "bidirectional": BidirectionalTransformer,
}


def reads_graph(name: str) -> bool:
    """Whether the encoder of this name reads the graph of items."""
    return name in ENCODERS and issubclass(ENCODERS[name], GraphEncoder)


def looks_both_ways(name: str) -> bool:
    """Whether the states of the encoder of this name also see what comes after an event."""
    return name in ENCODERS and not issubclass(ENCODERS[name], CausalEncoder)

"""Causal encoders by the name of the model that is built around each."""

from __future__ import annotations

from behavior_lib.models.causal import CausalEncoder
from behavior_lib.models.convolution import DilatedConvolutions
from behavior_lib.models.hstu import Hstu
from behavior_lib.models.mean import RunningMean
from behavior_lib.models.recurrent import Gru, Lstm, Rnn
from behavior_lib.models.transformer import CausalTransformer

ENCODERS: dict[str, type[CausalEncoder]] = {
    "transformer_repeat": CausalTransformer,  # the same as transformer; registered models have this name
    "transformer": CausalTransformer,
    "gru": Gru,
    "lstm": Lstm,
    "rnn": Rnn,
    "cnn": DilatedConvolutions,
    "mean": RunningMean,
    "hstu": Hstu,
}

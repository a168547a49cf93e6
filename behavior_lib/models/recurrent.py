"""Recurrent networks over one window of events (GRU4Rec, Hidasi et al. 2016), by torch's fused modules."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from torch import Tensor, nn

from behavior_lib.models.base import ModelSpec
from behavior_lib.models.batch import Batch
from behavior_lib.models.causal import CausalEncoder


class Recurrent(CausalEncoder):
    """spec.layers recurrent layers, dropout between them; every window begins at the zero state."""

    network: ClassVar[type[nn.RNN] | type[nn.LSTM] | type[nn.GRU]]

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        between = spec.dropout if spec.layers > 1 else 0.0
        self.recurrent = self.network(spec.dimension, spec.dimension, spec.layers, batch_first=True, dropout=between)

    def layers(self) -> Iterable[nn.Module]:
        """One fused module."""
        return (self.recurrent,)

    def states(self, x: Tensor, batch: Batch) -> Tensor:
        """The last layer's hidden states, as exact as `x`: in lower precision some modules leave theirs low."""
        states: Tensor = self.recurrent(x)[0]
        return states.to(x.dtype)


class Gru(Recurrent):
    """Gated recurrent units (Cho et al. 2014)."""

    network = nn.GRU


class Lstm(Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber 1997)."""

    network = nn.LSTM


class Rnn(Recurrent):
    """Plain hidden states through tanh (Elman 1990)."""

    network = nn.RNN

"""How the states of a window become the user's vector."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from behavior_lib.errors import ConfigError
from behavior_lib.models.base import ModelSpec


class Newest(nn.Module):
    """The newest state is the user."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()

    def forward(self, states: Tensor) -> Tensor:
        """float32 [n, L, d], the users after each event, of the states [n, L, d] of one window."""
        return states


class Mean(Newest):
    """The mean of the states so far."""

    def forward(self, states: Tensor) -> Tensor:
        """As Newest."""
        return running_mean(states)


class Attention(Newest):
    """The sum by α of the states so far, α being the softmax of query · tanh(key(state)) (Yang et al. 2016,
    "Hierarchical attention networks for document classification", eq. 8 to 10, without its bias).
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.key = nn.Linear(spec.dimension, spec.dimension, bias=False)
        self.query = nn.Parameter(torch.empty(spec.dimension))
        nn.init.normal_(self.query, std=spec.dimension**-0.5)

    def forward(self, states: Tensor) -> Tensor:
        """As Newest."""
        key, query = self.key(states).tanh()[:, None], self.query.expand(states.shape)[:, None]
        return F.scaled_dot_product_attention(query, key, states[:, None], is_causal=True, scale=1.0).squeeze(1)


POOLINGS: dict[str, type[Newest]] = {"newest": Newest, "mean": Mean, "attention": Attention}


def pooling_of(spec: ModelSpec) -> Newest:
    """What the spec names. Raises ConfigError for an unknown name."""
    if spec.pooling not in POOLINGS:
        mend = f"known: {', '.join(POOLINGS)}"
        raise ConfigError("unknown pooling", where="model.pooling", value=spec.pooling, mend=mend)
    return POOLINGS[spec.pooling](spec)


def running_mean(x: Tensor) -> Tensor:
    """[n, L, d]: of each column the mean over it and those before it."""
    seen = torch.arange(1, x.shape[1] + 1, device=x.device)
    return x.cumsum(1) / seen[:, None]

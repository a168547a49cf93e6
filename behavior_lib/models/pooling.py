"""How the states of a window become the user's vector."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from behavior_lib.errors import ConfigError
from behavior_lib.models.base import ModelSpec
from behavior_lib.models.causal import START


class Newest(nn.Module):
    """The newest state is the user (as in SASRec, Kang and McAuley 2018)."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()

    def forward(self, states: Tensor) -> Tensor:
        """float32 [n, L, d], the users after each event, of the states [n, L, d] of one window."""
        return states


class Mean(Newest):
    """The mean of the states so far (as of a history's items in Covington et al. 2016)."""

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


class ClassToken(Newest):
    """A learned vector that attends to the states so far and to itself, then a feed-forward network, each with a norm
    in front and what it had added (Touvron et al. 2021, "Going deeper with image transformers", class-attention, eq. 4
    to 6). BERT's token stands in the history and is read by events; no event reads this one, so that there can be one
    behind each of them in one pass.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        width = spec.dimension
        self.heads = spec.heads
        self.token = nn.Parameter(torch.empty(width))
        nn.init.normal_(self.token, std=START)
        self.attention_norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, states: Tensor) -> Tensor:
        """As Newest."""
        n, columns, width = states.shape
        token = self.token.expand(n, 1, width)
        normed = self.attention_norm(torch.cat([token, states], 1))
        apart = self.key_value(normed).view(n, columns + 1, 2, self.heads, -1)
        key, value = apart.permute(2, 0, 3, 1, 4)
        query = self.query(normed[:, :1]).view(n, 1, self.heads, -1).transpose(1, 2).expand_as(key)
        # The first attends to itself alone, the next one to the oldest state too, and so on.
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)[:, :, 1:]
        user = token + self.out(attended.transpose(1, 2).reshape(n, columns, width))
        pooled: Tensor = user + self.feed_forward(user)
        return pooled


POOLINGS: dict[str, type[Newest]] = {"newest": Newest, "mean": Mean, "attention": Attention, "cls": ClassToken}


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

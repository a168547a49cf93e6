"""Graph encoders: item vectors refined by their neighbours in the item graph, then a causal readout.

The graph layers are those of Kipf and Welling 2017 and of Veličković et al. 2018. The readout is the last event and
soft attention over those before it, and scores are taken with the items' own vectors, as in SR-GNN (Wu et al. 2019).
SR-GNN's graph is that of one session; here it is one graph of all of train.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from behavior_lib.models.base import ModelSpec
from behavior_lib.models.batch import Batch
from behavior_lib.models.causal import CausalEncoder
from behavior_lib.models.item_graph import ItemGraph

SLOPE = 0.2  # of LeakyReLU below 0


class GraphLayer(nn.Module, ABC):
    """Item vectors plus what their neighbours say."""

    @abstractmethod
    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, vectors: Tensor, graph: ItemGraph) -> Tensor:
        """float32 [n_items, d] of [n_items, d]."""


class Convolution(GraphLayer):
    """H + ReLU(D^-½ A D^-½ H W): A has the edges' weights, D the sums of its rows (Kipf and Welling 2017, eq. 2; with
    the residual of its eq. 14, so that an item keeps what is its own). Where all edges weigh 1, A is the paper's A + I.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.project = nn.Linear(spec.dimension, spec.dimension, bias=False)

    def forward(self, vectors: Tensor, graph: ItemGraph) -> Tensor:
        """See GraphLayer."""
        degree = torch.zeros(graph.n_items, device=vectors.device).index_add(0, graph.ends, graph.edge_weight)
        weight = graph.edge_weight * (degree[graph.ends] * degree[graph.begins]).rsqrt()
        return vectors + F.relu(gathered(self.project(vectors), weight, weight, graph))


class Attention(GraphLayer):
    """H + ELU(heads side by side of Σ α W h): α is the softmax over an item's edges of LeakyReLU(aᵀ [W h_i, W h_j])
    (Veličković et al. 2018, eq. 3 to 5, with its skip connection). The edges' weights do not count, as in the paper.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.heads = spec.heads
        self.project = nn.Linear(spec.dimension, spec.dimension, bias=False)
        self.ask = nn.Parameter(torch.empty(spec.heads, spec.dimension // spec.heads))
        self.answer = nn.Parameter(torch.empty_like(self.ask))
        for half in (self.ask, self.answer):
            nn.init.normal_(half, std=half.shape[1] ** -0.5)

    def forward(self, vectors: Tensor, graph: ItemGraph) -> Tensor:
        """See GraphLayer."""
        split = self.project(vectors).view(len(vectors), self.heads, -1)
        ask, answer = (split * self.ask).sum(2), (split * self.answer).sum(2)
        logit = F.leaky_relu(ask[graph.ends] + answer[graph.begins], SLOPE)
        place = graph.ends[:, None].expand_as(logit)
        highest = torch.full_like(ask, -torch.inf).scatter_reduce(0, place, logit.detach(), "amax")
        share = (logit - highest[graph.ends]).exp()
        share = share / torch.zeros_like(ask).index_add(0, graph.ends, share)[graph.ends]
        mirrored = share.detach()[graph.mirror]
        heads = [gathered(split[:, head], share[:, head], mirrored[:, head], graph) for head in range(self.heads)]
        return vectors + F.elu(torch.cat(heads, 1))


def gathered(vectors: Tensor, weight: Tensor, mirrored: Tensor, graph: ItemGraph) -> Tensor:
    """[n_items, w]: of each item the sum by weight [edges] of the vectors [n_items, w] where its edges begin.

    mirrored: [edges], the weight of each edge's other direction. A vector for every edge is never held.
    """
    result: Tensor = _Gathered.apply(vectors, weight, mirrored, graph.begins, graph.firsts)  # type: ignore[no-untyped-call]
    return result


class _Gathered(torch.autograd.Function):
    """Edges go both ways, so that the gradient of the vectors is gathered along the same edges: a twentieth of the time
    that the gradient of an embedding bag took (100,000 items, 1.9 million edges).
    """

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, weight: Tensor, mirrored: Tensor, begins: Tensor, firsts: Tensor) -> Tensor:
        vectors, weight = vectors.contiguous(), weight.contiguous()
        ctx.save_for_backward(vectors, weight, mirrored, begins, firsts)
        return F.embedding_bag(begins, vectors, firsts, mode="sum", per_sample_weights=weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        vectors, weight, mirrored, begins, firsts = ctx.saved_tensors
        gradient = gradient.contiguous()
        of_vectors = F.embedding_bag(begins, gradient, firsts, mode="sum", per_sample_weights=mirrored.contiguous())
        of_weight = None
        if ctx.needs_input_grad[1]:
            with torch.enable_grad():
                asked = weight.detach().requires_grad_()
                again = F.embedding_bag(begins, vectors, firsts, mode="sum", per_sample_weights=asked)
                (of_weight,) = torch.autograd.grad(again, asked, gradient)
        return of_vectors, of_weight, None, None, None


class GraphEncoder(CausalEncoder):
    """spec.layers graph layers over the whole table of items, at every pass; then out([x_i, Σ_j≤i α_ij x_j]).

    α is the softmax over the events so far of the products of query and key. SR-GNN's own weights, which a small
    network gives each pair of events and which add up to anything, are for sessions of a few events: here they would
    hold a vector for each pair of up to spec.window events. The graph knows all of train, the readout no later event.
    """

    layer: ClassVar[type[GraphLayer]]

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.graph = ItemGraph(spec.n_items)
        self.refine = nn.ModuleList(self.layer(spec) for _ in range(spec.layers))
        self.query = nn.Linear(spec.dimension, spec.dimension, bias=False)
        self.key = nn.Linear(spec.dimension, spec.dimension, bias=False)
        self.out = nn.Linear(2 * spec.dimension, spec.dimension)

    def item_graph(self) -> ItemGraph:
        """That of its layers."""
        return self.graph

    def forward(self, batch: Batch, item_vectors: Tensor) -> Tensor:
        """As WindowEncoder."""
        for layer in self.refine:
            item_vectors = layer(item_vectors, self.graph)
        return super().forward(batch, item_vectors)

    def states(self, x: Tensor, batch: Batch) -> Tensor:
        """Each event beside what attention takes from those so far."""
        query, key, value = self.query(x)[:, None], self.key(x)[:, None], x[:, None]
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True).squeeze(1)
        states: Tensor = self.out(torch.cat([x, attended], 2))
        return states


class Gcn(GraphEncoder):
    """Graph convolutions."""

    layer = Convolution


class Gat(GraphEncoder):
    """Graph attention of spec.heads heads."""

    layer = Attention

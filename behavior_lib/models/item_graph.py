"""The graph of items that graph encoders read."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class ItemGraph(nn.Module):
    """Undirected weighted edges between items, each there both ways, and a self loop at every item.

    edge_index: int64 [2, edges], where each edge ends and where it begins, ascending. edge_weight: float32 [edges].
    Both are buffers of the model's weights, so that a registered model needs nothing else; how many edges there are is
    taken from what is loaded. A new graph has self loops of weight 1 alone.
    """

    edge_index: Tensor
    edge_weight: Tensor
    _mirror: Tensor | None

    def __init__(self, n_items: int) -> None:
        super().__init__()
        self.n_items = n_items
        self.register_buffer("edge_index", torch.arange(n_items).repeat(2, 1))
        self.register_buffer("edge_weight", torch.ones(n_items))
        self.register_buffer("_mirror", None, persistent=False)

    @property
    def ends(self) -> Tensor:
        """int64 [edges]: the item that an edge leads to."""
        return self.edge_index[0]

    @property
    def begins(self) -> Tensor:
        """int64 [edges]: the item that it comes from."""
        return self.edge_index[1]

    @property
    def firsts(self) -> Tensor:
        """int64 [n_items]: the place of the first edge that leads to each item."""
        degree = torch.bincount(self.ends, minlength=self.n_items)
        return degree.cumsum(0) - degree

    @property
    def mirror(self) -> Tensor:
        """int64 [edges]: the place of each edge's other direction."""
        if self._mirror is None:
            # As edges ascend by end, then beginning, these places ascend by beginning, then end.
            self._mirror = self.begins.argsort(stable=True)
        return self._mirror

    def make_room(self, edges: int) -> None:
        """Have place for so many edges, whose values then have to be filled in."""
        self.edge_index = self.edge_index.new_zeros(2, edges)
        self.edge_weight = self.edge_weight.new_zeros(edges)
        self._mirror = None

    def take(self, edge_index: Tensor, edge_weight: Tensor) -> None:
        """Have these edges."""
        self.make_room(len(edge_weight))
        self.edge_index.copy_(edge_index)
        self.edge_weight.copy_(edge_weight)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *others: Any) -> None:
        stored = state_dict.get(f"{prefix}edge_weight")
        if stored is not None:
            self.make_room(len(stored))
        super()._load_from_state_dict(state_dict, prefix, *others)

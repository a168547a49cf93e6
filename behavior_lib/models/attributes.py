"""What is known of items beside their ids: part of their vectors, and a path that scores what the user's items share.

An item's vector is the sum of its own and one of each value that it has (Kula 2015, "LightFM"), so that items that are
seldom seen are near their like. The path is the repeat path a step up: a category that the user comes back to is scored
by how often and how long ago, and what it gets all items of the category get, those that the user never had among them.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from behavior_lib.models.base import ModelSpec
from behavior_lib.models.batch import Batch
from behavior_lib.models.repeat import N_FEATURES, own_items
from behavior_lib.models.slots import LEAST, slot_network


class ItemAttributes(nn.Module):
    """Values of spec.item_attributes, numbered across all of them from FIRST_INDEX; 0 where an item has none.

    value_index: int64 [n_items, attributes], a buffer of the model's weights. With spec.repeat_path the values are
    also scored.
    """

    value_index: Tensor

    def __init__(self, spec: ModelSpec, width: int = 32) -> None:
        super().__init__()
        n_attributes, n_values = len(spec.item_attributes), spec.attribute_values
        self.register_buffer("value_index", torch.zeros(spec.n_items, n_attributes, dtype=torch.int64))
        self.vectors = nn.Embedding(n_values, spec.dimension)
        nn.init.zeros_(self.vectors.weight)
        self.networks = nn.ModuleList(
            slot_network(N_FEATURES + 1, width)  # and a value's log share
            for _ in range(n_attributes if spec.repeat_path else 0)
        )

    @property
    def is_scored(self) -> bool:
        """Whether there is a path."""
        return len(self.networks) > 0

    def added(self) -> Tensor:
        """float32 [n_items, d]: what each item's values add to its vector."""
        return F.embedding_bag(self.value_index, self.vectors.weight, mode="sum", padding_idx=0)

    def by_value(self, batch: Batch, item_share: Tensor) -> Tensor:
        """float32 [n, values]: what each value that the user's items have gives all items that have it.

        batch: prepared. item_share: [n_items], each item's share of all events.
        """
        n_values = len(self.vectors.weight)
        by_value = batch.value.new_zeros(len(batch), n_values)
        for column, network in enumerate(self.networks):
            index = self.value_index[:, column]
            share = item_share.new_zeros(n_values).index_add(0, index, item_share)
            slots = own_items(replace(batch, item_index=index[batch.item_index]))
            told = share.log().clamp(min=LEAST)[slots.item][..., None]
            addend = network(torch.cat([slots.features, told], 2)).squeeze(2).masked_fill(~slots.present, 0.0)
            by_value = by_value.scatter_add(1, slots.item, addend)
        return by_value

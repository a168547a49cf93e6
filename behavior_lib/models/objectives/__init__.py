"""What a model can learn beside the next item, by the names of model.objectives."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from behavior_lib.models.base import ModelSpec
from behavior_lib.models.objectives.autoencoder import Reconstruction, Variational
from behavior_lib.models.objectives.base import Encodes, Objective, Task
from behavior_lib.models.objectives.contrastive import Augmentations, SubSequences
from behavior_lib.models.objectives.corrupted import Order, ReplacedItems
from behavior_lib.models.objectives.masked import MaskedItems, MaskedSpans
from behavior_lib.models.objectives.upcoming import LaterItems, NextTime, NextType, NextValue

OBJECTIVES: dict[str, Callable[[ModelSpec, Tensor], Objective]] = {
    "masked_items": lambda spec, item_counts: MaskedItems(),
    "masked_spans": lambda spec, item_counts: MaskedSpans(),
    "sub_sequences": lambda spec, item_counts: SubSequences(),
    "augmentations": lambda spec, item_counts: Augmentations(),
    "later_items": lambda spec, item_counts: LaterItems(spec),
    "next_type": lambda spec, item_counts: NextType(spec),
    "next_time": lambda spec, item_counts: NextTime(spec),
    "next_value": lambda spec, item_counts: NextValue(spec),
    "replaced_items": ReplacedItems,
    "order": lambda spec, item_counts: Order(spec),
    "reconstruction": lambda spec, item_counts: Reconstruction(spec),
    "variational": lambda spec, item_counts: Variational(spec),
}

__all__ = ["OBJECTIVES", "Encodes", "Objective", "Task"]

"""The objectives that a model's spec names, by their weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from behavior_lib.errors import ConfigError
from behavior_lib.models.base import Drawn, ModelSpec
from behavior_lib.models.batch import Batch
from behavior_lib.models.encoders import looks_both_ways
from behavior_lib.models.objectives.autoencoder import Reconstruction, Variational
from behavior_lib.models.objectives.base import Encodes, Foretelling, Objective, Task
from behavior_lib.models.objectives.contrastive import Augmentations, SubSequences
from behavior_lib.models.objectives.corrupted import Order, ReplacedItems
from behavior_lib.models.objectives.masked import MaskedItems, MaskedSpans
from behavior_lib.models.objectives.upcoming import (
    NEXT_TIME,
    NEXT_TYPE,
    NEXT_VALUE,
    LaterItems,
    NextSession,
    NextTime,
    NextType,
    NextValue,
)

NEXT_ITEM, MASKED_ITEMS, NEXT_SESSION = "next_item", "masked_items", "next_session"  # the first is the model's own
OBJECTIVES: dict[str, type[Objective]] = {
    MASKED_ITEMS: MaskedItems,
    "masked_spans": MaskedSpans,
    "sub_sequences": SubSequences,
    "augmentations": Augmentations,
    NEXT_SESSION: NextSession,
    "later_items": LaterItems,
    NEXT_TYPE: NextType,
    NEXT_TIME: NextTime,
    NEXT_VALUE: NextValue,
    "replaced_items": ReplacedItems,
    "order": Order,
    "reconstruction": Reconstruction,
    "variational": Variational,
}


class Objectives(nn.Module):
    """All that a model learns beside the next item, over one pass of its encoder where that is all they need."""

    def __init__(self, spec: ModelSpec, item_counts: Tensor) -> None:
        """Raises ConfigError where `check_objectives` does."""
        super().__init__()
        check_objectives(spec.name, spec.pooling, spec.objectives)
        self.weights = {name: weight for name, weight in spec.objectives.items() if weight > 0 and name != NEXT_ITEM}
        self.parts = nn.ModuleDict({name: OBJECTIVES[name](spec, item_counts) for name in self.weights})

    def draw(self, batch: Batch, generator: torch.Generator) -> Drawn:
        """What each of them draws, by `objective.name`."""
        drawn = {name: part.draw(batch, generator) for name, part in self._named()}
        return {f"{name}.{key}": tensor for name, own in drawn.items() for key, tensor in own.items()}

    def loss(self, model: Encodes, batch: Batch, states: Tensor, drawn: Drawn) -> Tensor:
        """Their sum by weight. states: see Task. drawn: all that the model drew."""
        total = states.new_zeros(())
        for name, part in self._named():
            prefix = f"{name}."
            own = {key.removeprefix(prefix): value for key, value in drawn.items() if key.startswith(prefix)}
            total = total + self.weights[name] * part(Task(model, batch, states, {**drawn, **own}))
        return total

    def foretelling(self) -> dict[str, Foretelling]:
        """Those that say something of the next instant, by name."""
        return {name: part for name, part in self._named() if isinstance(part, Foretelling)}

    def _named(self) -> list[tuple[str, Objective]]:
        return [(name, part) for name, part in self.parts.items() if isinstance(part, Objective)]


def check_objectives(encoder: str, pooling: str, weights: Mapping[str, float]) -> None:
    """Raises ConfigError for an unknown name, a weight below 0, where nothing would be learned, where an encoder, by
    its name, would have seen what it is asked for, and where nothing teaches what a pooling makes of states.
    """
    for name, weight in weights.items():
        where = f"model.objectives.{name}"
        if name != NEXT_ITEM and name not in OBJECTIVES:
            known = ", ".join([NEXT_ITEM, *OBJECTIVES])
            raise ConfigError("unknown objective", where="model.objectives", value=name, mend=f"known: {known}")
        if weight < 0:
            raise ConfigError("an objective weighs less than nothing", where=where, value=weight, mend="give 0 or more")
        if weight > 0 and looks_both_ways(encoder) and (name == NEXT_ITEM or OBJECTIVES[name].needs_causal):
            what = f"the objective {name} asks for what the encoder {encoder} has seen, as it looks both ways"
            mend = f"--set {where}=0 --set model.objectives.{MASKED_ITEMS}=1, or a causal encoder as model.name"
            raise ConfigError(what, where=where, value=weight, mend=mend)
    if not any(weights.values()):
        mend = f"--set model.objectives.{NEXT_ITEM}=1"
        raise ConfigError("no objective has a weight", where="model.objectives", value=dict(weights), mend=mend)
    learned = [name for name, weight in weights.items() if weight > 0]
    if pooling != "newest" and not any(name == NEXT_ITEM or OBJECTIVES[name].teaches_users for name in learned):
        mend = "--set model.pooling=newest, or a weight for an objective that reads users: sub_sequences, augmentations"
        raise ConfigError("no objective teaches users", where="model.pooling", value=pooling, mend=mend)

"""The small interface of everything that can be learned from histories without labels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from behavior_lib.models.base import Drawn, ModelSpec
from behavior_lib.models.batch import Batch


class Encodes(Protocol):
    """What an objective asks of the model that it teaches."""

    def states(self, batch: Batch) -> Tensor:
        """float32 [n, L, d]: the state of each event; what stands at padding means nothing."""

    def newest_states(self, batch: Batch) -> Tensor:
        """float32 [n, d]: the users, of any length; 0 for a row without events."""

    def item_vectors(self) -> Tensor:
        """float32 [n_items, d]."""

    def item_loss(self, states: Tensor, owner: Tensor, targets: Tensor, drawn: Drawn) -> Tensor:
        """The loss over the catalogue: how far states [m, d] are from the items that each of them owns."""

    def item_logits(self, states: Tensor, items: Tensor) -> Tensor:
        """float32 [m, c]: of the items, int64 [m, c], at the states [m, d], as that loss has them."""


@dataclass(frozen=True)
class Task:
    """One training step as all objectives see it.

    batch: prepared rows. states: float32 [n, L, d], the users after each event of the batch as it is, made once for all
    objectives that need a causal encoder; without columns where the encoder is none. drawn: what the objective drew,
    `negatives` for item_loss, and DONE.
    """

    model: Encodes
    batch: Batch
    states: Tensor
    drawn: Drawn

    def nothing(self) -> Tensor:
        """The loss of a batch that has nothing to learn from: 0, and backward can start from it."""
        return self.model.item_vectors()[:0].sum()


class Objective(nn.Module, ABC):
    """Something to learn. What it needs beside the encoder (heads, a decoder) are its own parameters.

    needs_causal: whether it asks the states of the batch as it is for what comes later, so that an encoder that looks
    both ways would have seen the answer. teaches_users: whether it reads users, and not the states of single events
    alone, of which a pooling with weights would learn nothing. compares_users: whether it tells the rows of a batch
    from each other, so that one row alone teaches nothing.
    """

    needs_causal: ClassVar[bool] = False
    teaches_users: ClassVar[bool] = True
    compares_users: ClassVar[bool] = False

    def __init__(self, spec: ModelSpec, item_counts: Tensor) -> None:
        """spec: of the model that it teaches. item_counts: int64 [n_items], counts in train."""
        super().__init__()

    def draw(self, batch: Batch, generator: torch.Generator) -> Drawn:
        """Every random choice of one step, by name. Reads no weights."""
        return {}

    @abstractmethod
    def forward(self, task: Task) -> Tensor:
        """A scalar to minimise; 0 where the batch has nothing to learn from."""


class Foretelling(Objective):
    """An objective that says something of the next instant."""

    @abstractmethod
    def foretold(self, states: Tensor) -> Tensor:
        """[m]: what it says of the instant behind each of the states [m, d]."""


def uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """float32 in [0, 1)."""
    return torch.rand(shape, generator=generator)


def whole_up_to(most: Tensor, generator: torch.Generator) -> Tensor:
    """int64: for each of `most` [m] a whole number from 0 to it, all equally likely."""
    drawn = torch.rand(most.shape, generator=generator, dtype=torch.float64)
    return torch.minimum((drawn * (most + 1)).long(), most)

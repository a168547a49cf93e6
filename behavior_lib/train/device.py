"""Where a rank computes, how the blocks of its model do, and how batches come there."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from behavior_lib.config.train import DeviceName, PrecisionName
from behavior_lib.data.histories import Histories
from behavior_lib.errors import ConfigError, EnvironmentProblem
from behavior_lib.models.base import DONE, Drawn, SequenceModel
from behavior_lib.models.batch import Batch
from behavior_lib.train.settings import FitSettings


@dataclass(frozen=True)
class Prepared:
    """A batch as the model reads it, what its loss draws, and the seed of its dropout."""

    batch: Batch
    drawn: Drawn
    seed: int

    def map(self, change: Callable[[Tensor], Tensor]) -> Prepared:
        """The same with every tensor changed."""
        batch = Batch(**{name: change(tensor) for name, tensor in vars(self.batch).items()})
        return Prepared(batch, {name: change(tensor) for name, tensor in self.drawn.items()}, self.seed)

    def tensors(self) -> dict[str, Tensor]:
        """All of it, by name."""
        return {**vars(self.batch), **self.drawn, "seed": torch.tensor([self.seed], dtype=torch.uint64)}


class PlacedModel:
    """A model on the device where it is trained.

    model: the one that was given, moved. twin: makes batches on the CPU, so that what is drawn is the same on every
    device; it is the model itself where that is on the CPU, else its buffers are equal and its weights are those from
    before the first step.
    """

    def __init__(self, model: SequenceModel, settings: FitSettings, local_rank: int = 0) -> None:
        """local_rank: of the ranks on this machine, so that each takes a GPU of its own.

        Raises EnvironmentProblem without the device that is asked for, ConfigError where the model has no blocks for
        what is asked of them.
        """
        self.device = device_of(settings.device, local_rank)
        self.model = model
        self.twin = model if self.device.type == "cpu" else copy.deepcopy(model)
        model.to(self.device)
        set_up_blocks(model, settings, self.device)

    def take_weights_of_twin(self) -> None:
        """Where the twin was changed, the model follows."""
        if self.twin is not self.model:
            self.model.load_state_dict(self.twin.state_dict())

    def prepare(self, histories: Histories, for_loss: int, for_dropout: int, done: float = 1.0) -> Prepared:
        """A batch and what is drawn for it, by two seeds. It may run in another thread than the steps.

        done: the share of the run's steps before that of the batch.
        """
        batch = self.twin.prepare(Batch.from_histories(histories))
        drawn = {**self.twin.draw(batch, torch.Generator().manual_seed(for_loss)), DONE: torch.tensor(done)}
        prepared = Prepared(batch, drawn, for_dropout)
        # From pinned memory a GPU copies while the CPU goes on.
        return prepared if self.device.type == "cpu" else prepared.map(Tensor.pin_memory)

    def loss(self, prepared: Prepared) -> Tensor:
        """The model's loss, with the dropout of the batch's own seed."""
        torch.manual_seed(prepared.seed)
        here = prepared.map(lambda tensor: tensor.to(self.device, non_blocking=True))
        return self.model.loss(here.batch, here.drawn)


def device_of(name: str, local_rank: int) -> torch.device:
    """name: auto, cpu or cuda. Raises EnvironmentProblem for cuda where there is none."""
    has_gpu = torch.cuda.is_available()
    if name == DeviceName.cuda.value and not has_gpu:
        mend = "--set train.device=cpu"
        raise EnvironmentProblem("PyTorch finds no GPU", where="train.device", value=name, mend=mend)
    if name == DeviceName.cpu.value or not has_gpu:
        return torch.device("cpu")
    return torch.device("cuda", local_rank % torch.cuda.device_count())


def set_up_blocks(model: SequenceModel, settings: FitSettings, device: torch.device) -> None:
    """Have the model's blocks compute as the settings say. Weights and all that is around the blocks stay float32."""
    in_bfloat16 = settings.precision == PrecisionName.bfloat16.value
    wanted = {"precision": in_bfloat16, "compile": settings.compile, "recompute": settings.recompute}
    if any(wanted.values()) and not model.blocks():
        key = next(name for name, is_wanted in wanted.items() if is_wanted)
        raise ConfigError(f"the model has no blocks for train.{key}", where="model.name", value=model.spec.name)
    for block in model.blocks():
        forward = block.forward
        if settings.compile:
            forward = torch.compile(forward, dynamic=True)
        if in_bfloat16:
            forward = torch.autocast(device.type, torch.bfloat16)(forward)
        if settings.recompute:
            forward = partial(checkpoint, forward, use_reentrant=False)
        block.forward = forward

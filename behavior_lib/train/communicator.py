"""How the processes of a training run talk: Horovod, torch.distributed, or one process that talks to nobody.

Every collective has a name, so that ranks that disagree are told apart in a timeline or a stall warning.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from behavior_lib.errors import EnvironmentProblem


class Communicator(Protocol):
    """What the loop needs. `rank` is in 0 … size - 1. All ranks must make the same calls in the same order."""

    rank: int
    size: int

    def broadcast(self, module: nn.Module) -> None:
        """Give every rank the parameters of rank 0. Buffers are made of the same data on every rank."""

    def average_gradients(self, module: nn.Module) -> None:
        """Replace every gradient by its mean over the ranks; a rank without one counts as zero."""

    def sum(self, name: str, values: Sequence[float]) -> list[float]:
        """Each value summed over the ranks, in float64."""

    def minimum(self, name: str, value: int) -> int:
        """The smallest value of all ranks."""

    def close(self) -> None:
        """Leave the group."""


class SingleProcess:
    """One rank."""

    rank, size = 0, 1

    def broadcast(self, module: nn.Module) -> None:
        """Nobody else needs them."""

    def average_gradients(self, module: nn.Module) -> None:
        """The mean of one."""

    def sum(self, name: str, values: Sequence[float]) -> list[float]:
        """The values themselves."""
        return list(values)

    def minimum(self, name: str, value: int) -> int:
        """The value itself."""
        return value

    def close(self) -> None:
        """Nobody is left alone."""


class HorovodCommunicator:
    """Ranks that horovodrun (or horovod.spark.run) started."""

    def __init__(self) -> None:
        try:
            import horovod.torch as horovod
        except ImportError:
            mend = "run make setup, or --set train.communicator=torch"
            raise EnvironmentProblem("Horovod is not installed", mend=mend) from None
        self._horovod: Any = horovod
        horovod.init()
        self.rank: int = horovod.rank()
        self.size: int = horovod.size()

    def broadcast(self, module: nn.Module) -> None:
        """Through horovod.broadcast_parameters."""
        self._horovod.broadcast_parameters(dict(module.named_parameters()), root_rank=0)

    def average_gradients(self, module: nn.Module) -> None:
        """One allreduce a gradient, all under way together; Horovod fuses small ones."""
        handles = [
            self._horovod.allreduce_async_(gradient, op=self._horovod.Average, name=f"gradient.{name}")
            for name, gradient in _gradients(module)
        ]
        for handle in handles:
            self._horovod.synchronize(handle)

    def sum(self, name: str, values: Sequence[float]) -> list[float]:
        """One allreduce."""
        tensor = torch.tensor(values, dtype=torch.float64)
        return [float(value) for value in self._horovod.allreduce(tensor, op=self._horovod.Sum, name=name)]

    def minimum(self, name: str, value: int) -> int:
        """One allreduce."""
        return int(self._horovod.allreduce(torch.tensor([value]), op=self._horovod.Min, name=name))

    def close(self) -> None:
        """Shut Horovod down."""
        self._horovod.shutdown()


class TorchCommunicator:
    """Ranks of torch.distributed (gloo), started by this package's launcher, torchrun or TorchDistributor."""

    def __init__(self, rendezvous: str = "env://") -> None:
        """rendezvous: as init_process_group takes it; RANK and WORLD_SIZE come from the environment."""
        self.rank, self.size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        torch.distributed.init_process_group("gloo", init_method=rendezvous, rank=self.rank, world_size=self.size)

    def broadcast(self, module: nn.Module) -> None:
        """One broadcast a parameter."""
        for parameter in module.parameters():
            torch.distributed.broadcast(parameter.data, src=0)

    def average_gradients(self, module: nn.Module) -> None:
        """One all_reduce a gradient, all under way together."""
        work = [(gradient, torch.distributed.all_reduce(gradient, async_op=True)) for _, gradient in _gradients(module)]
        for gradient, handle in work:
            handle.wait()
            gradient.div_(self.size)

    def sum(self, name: str, values: Sequence[float]) -> list[float]:
        """One all_reduce."""
        tensor = torch.tensor(values, dtype=torch.float64)
        torch.distributed.all_reduce(tensor)
        return [float(value) for value in tensor]

    def minimum(self, name: str, value: int) -> int:
        """One all_reduce."""
        tensor = torch.tensor([value])
        torch.distributed.all_reduce(tensor, op=torch.distributed.ReduceOp.MIN)
        return int(tensor)

    def close(self) -> None:
        """Leave the process group."""
        torch.distributed.destroy_process_group()


def connect(name: str, rendezvous: str) -> Communicator:
    """Join the ranks of this run. name: horovod, torch or single; rendezvous: for torch alone."""
    if name == "horovod":
        return HorovodCommunicator()
    if name == "torch":
        return TorchCommunicator("env://" if "MASTER_ADDR" in os.environ else rendezvous)
    return SingleProcess()


def _gradients(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Every parameter's gradient by name, in one order on all ranks; zeros where the last loss did not reach it."""
    for parameter in module.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    return [(name, parameter.grad) for name, parameter in module.named_parameters() if parameter.grad is not None]

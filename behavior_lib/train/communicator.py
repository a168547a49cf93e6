"""How the processes of a training run talk: Horovod, torch.distributed, or one process that talks to nobody.

Every collective has a name, so that ranks that disagree are told apart in a timeline or a stall warning.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from behavior_lib.errors import EnvironmentProblem
from behavior_lib.train.rowwise import looked_up, sparse_tables


class Communicator(Protocol):
    """What the loop needs. All ranks must make the same calls in the same order.

    rank: in 0 … size - 1. local_rank: among the ranks of this machine.
    """

    rank: int
    size: int
    local_rank: int

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Give every rank the values that the tensors have on rank 0, in place."""

    def share(self, name: str, text: str) -> str:
        """Rank 0's text."""

    def average_gradients(self, module: nn.Module, vote: float, half: bool = False) -> float:
        """Replace every gradient by its mean over the ranks; a rank without one counts as zero.

        Of sparse tables the rows that any rank looked up travel, and the gradients are sparse again.
        half: they travel as float16, a value beyond it as the largest, one below 6e-8 as 0. Returns the votes of all
        ranks, summed: they travel with the gradients.
        """

    def sum(self, name: str, values: Sequence[float]) -> list[float]:
        """Each value summed over the ranks, in float64."""

    def minimum(self, name: str, value: int) -> int:
        """The smallest value of all ranks."""

    def alive(self) -> None:
        """Called now and then by a rank that works for long without an exchange."""

    def close(self) -> None:
        """Leave the group."""


class _Unwatched:
    """Nobody asks whether the rank is alive."""

    def alive(self) -> None:
        """Nothing to tell."""


class SingleProcess(_Unwatched):
    """One rank."""

    rank, size, local_rank = 0, 1, 0

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Nobody else needs them."""

    def share(self, name: str, text: str) -> str:
        """The text itself."""
        return text

    def average_gradients(self, module: nn.Module, vote: float, half: bool = False) -> float:
        """The mean of one, and the vote itself."""
        return vote

    def sum(self, name: str, values: Sequence[float]) -> list[float]:
        """The values themselves."""
        return list(values)

    def minimum(self, name: str, value: int) -> int:
        """The value itself."""
        return value

    def close(self) -> None:
        """Nobody is left alone."""


class HorovodCommunicator(_Unwatched):
    """Ranks that horovodrun (or horovod.spark.run) started."""

    def __init__(self) -> None:
        try:
            import horovod.torch as horovod
        except ImportError:
            raise without_horovod() from None
        self._horovod: Any = horovod
        horovod.init()
        self.rank: int = horovod.rank()
        self.size: int = horovod.size()
        self.local_rank: int = horovod.local_rank()

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """One broadcast a tensor, all under way together."""
        with torch.no_grad():
            handles = [
                self._horovod.broadcast_async_(tensor, root_rank=0, name=f"broadcast.{number}")
                for number, tensor in enumerate(tensors)
            ]
        for handle in handles:
            self._horovod.synchronize(handle)

    def share(self, name: str, text: str) -> str:
        """Two broadcasts: of the length and of the bytes."""
        return _shared(text, lambda tensor, part: self._horovod.broadcast_(tensor, root_rank=0, name=f"{name}.{part}"))

    def average_gradients(self, module: nn.Module, vote: float, half: bool = False) -> float:
        """One allreduce a dense gradient, two allgathers a sparse one, all under way together: small ones are fused."""
        votes, gradients = torch.tensor([vote]), _Shares(module, self.size, half)
        handles = [
            self._horovod.allreduce_async_(tensor, op=self._horovod.Sum, name=name)
            for name, tensor in [("votes", votes), *gradients.shares]
        ]
        gathers = [self._horovod.allgather_async(tensor, name=name) for name, tensor in gradients.rows]
        for handle in handles:
            self._horovod.synchronize(handle)
        gradients.take([self._horovod.synchronize(gather) for gather in gathers])
        return float(votes)

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


class TorchCommunicator(_Unwatched):
    """Ranks of torch.distributed, started by this package's launcher, torchrun or TorchDistributor.

    What is on a CPU travels by gloo, what is on a GPU by NCCL.
    """

    def __init__(self, rendezvous: str = "env://", wait_minutes: float = 30.0) -> None:
        """rendezvous: as init_process_group takes it; RANK and WORLD_SIZE come from the environment.

        wait_minutes: how long a rank waits in a collective for the others.
        """
        self.rank, self.size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        self.local_rank = int(os.environ.get("LOCAL_RANK", self.rank))
        # It takes the group of the moment for the defaults of its functions, and optimizers import it: after the group
        # was made, it would outlive `close`, and threads of gloo that still drop tensors abort a process that ends.
        importlib.import_module("torch.distributed.nn.functional")
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        torch.distributed.init_process_group(
            backend, rendezvous, timedelta(minutes=wait_minutes), rank=self.rank, world_size=self.size
        )

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """One broadcast a tensor."""
        for tensor in tensors:
            torch.distributed.broadcast(tensor.detach(), src=0)

    def share(self, name: str, text: str) -> str:
        """Two broadcasts: of the length and of the bytes."""
        return _shared(text, lambda tensor, _: torch.distributed.broadcast(tensor, src=0))

    def average_gradients(self, module: nn.Module, vote: float, half: bool = False) -> float:
        """One all_reduce a dense gradient, all under way together, then four all_gathers a sparse one."""
        votes, gradients = torch.tensor([vote]), _Shares(module, self.size, half)
        tensors = [votes, *(tensor for _, tensor in gradients.shares)]
        for handle in [torch.distributed.all_reduce(tensor, async_op=True) for tensor in tensors]:
            handle.wait()
        gradients.take([_gathered(tensor, self.size) for _, tensor in gradients.rows])
        return float(votes)

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


def connect(name: str, rendezvous: str, wait_minutes: float = 30.0) -> Communicator:
    """Join the ranks of this run. name: horovod, torch or single; rendezvous, wait_minutes: for torch alone."""
    if name == "horovod":
        return HorovodCommunicator()
    if name == "torch":
        return TorchCommunicator("env://" if "MASTER_ADDR" in os.environ else rendezvous, wait_minutes)
    return SingleProcess()


def without_horovod(instead: str = "train.communicator=torch") -> EnvironmentProblem:
    """What to raise where Horovod cannot be imported. instead: the settings that go without it."""
    return EnvironmentProblem("Horovod is not installed", mend=f"run make setup, or --set {instead}")


def _shared(text: str, broadcast: Callable[[Tensor, str], object]) -> str:
    """Rank 0's text through two tensors; broadcast: fills a tensor on all ranks with rank 0's values."""
    own = text.encode()
    length = torch.tensor([len(own)])
    broadcast(length, "length")
    content = torch.zeros(int(length), dtype=torch.uint8)
    content[: len(own)] = torch.tensor(list(own[: len(content)]), dtype=torch.uint8)
    broadcast(content, "bytes")
    return bytes(content.tolist()).decode()


def _gathered(tensor: Tensor, size: int) -> Tensor:
    """The ranks' tensors one behind the other; each has its own length, to which all are padded on the way."""
    lengths = [tensor.new_zeros(1, dtype=torch.int64) for _ in range(size)]
    torch.distributed.all_gather(lengths, torch.full_like(lengths[0], len(tensor)))
    longest = int(max(lengths))
    parts = [tensor.new_empty(longest, *tensor.shape[1:]) for _ in range(size)]
    padding = tensor.new_zeros(longest - len(tensor), *tensor.shape[1:])
    torch.distributed.all_gather(parts, torch.cat([tensor, padding]))
    return torch.cat([part[: int(length)] for part, length in zip(parts, lengths, strict=True)])


class _Shares:
    """Each gradient divided by the number of ranks, as it travels: the sum over the ranks is the mean.

    shares: names and tensors, in one order on all ranks; zeros where the last loss did not reach a parameter.
    rows: the same for the sparse tables, of each the numbers of the rows and then their gradients; every rank has as
    many as it looked up.
    """

    def __init__(self, module: nn.Module, size: int, half: bool) -> None:
        # A little less, as float16 may round up.
        largest = torch.finfo(torch.float16).max / size * (1 - 2**-10)
        self._tables = sparse_tables(module)
        dense = [(name, weight) for name, weight in module.named_parameters() if name not in self._tables]
        self._gradients = [(name, _gradient(weight).div_(size)) for name, weight in dense]
        self.shares = [
            (f"gradient.{name}", _as_half(gradient, largest) if half else gradient)
            for name, gradient in self._gradients
        ]
        self.rows: list[tuple[str, Tensor]] = []
        for name, table in self._tables.items():
            index, values = looked_up(table)
            values = values / size
            self.rows.append((f"rows.{name}", index))
            self.rows.append((f"gradient.{name}", _as_half(values, largest) if half else values))

    def take(self, gathered: Sequence[Tensor] = ()) -> None:
        """What the tensors hold now becomes the gradients. gathered: those of `rows` of all ranks."""
        for (_, gradient), (_, share) in zip(self._gradients, self.shares, strict=True):
            if share is not gradient:
                gradient.copy_(share)
        for table, index, values in zip(self._tables.values(), gathered[::2], gathered[1::2], strict=True):
            table.grad = torch.sparse_coo_tensor(
                index[None], values.to(table.dtype), table.shape, check_invariants=False
            ).coalesce()


def _as_half(gradient: Tensor, largest: float) -> Tensor:
    """Float16, at most the largest; what is no finite number stays none."""
    return torch.where(gradient.isfinite(), gradient.clamp(-largest, largest), gradient).half()


def _gradient(parameter: nn.Parameter) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad

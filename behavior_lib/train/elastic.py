"""Ranks that go on when one of them is lost: Horovod's elastic mode, on this machine."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from behavior_lib.train.communicator import without_horovod

Result = TypeVar("Result")


def elastic_command(workers: int, least: int, interface: str, worker: Sequence[str]) -> list[str]:
    """What starts so many workers under Horovod, which goes on as long as `least` of them are left.

    interface: the loopback one. Where it is not named, Horovod starts a service on each host to find what all share.
    Horovod gives up the whole host of a lost worker. So each worker here has a host of its own, all of them spellings
    of this machine's address: 127.0.0.1, 127.0.0.01, …
    """
    hosts = ",".join(f"127.0.0.{'0' * number}1:1" for number in range(workers))
    ranks = ["-np", str(workers), "--min-np", str(least), "--max-np", str(workers), "-H", hosts]
    return [sys.executable, "-m", "horovod.runner.launch", "--gloo", "--network-interface", interface, *ranks, *worker]


def survive(work: Callable[[], Result]) -> Result:
    """Do the work in this rank, again from its start with the ranks that are left each time that one is lost.

    work: makes its communicator itself, and goes on from what it stored. Raises what the work raises by itself, and
    EnvironmentProblem where Horovod is not installed.
    """
    try:
        import horovod.torch as horovod
        from horovod.common.elastic import ObjectState
        from horovod.torch import elastic
    except ImportError:
        raise without_horovod() from None
    horovod.init()
    # All state is in the store of the run: nothing has to be kept in memory or sent to the others.
    state = ObjectState(bcast_object=horovod.broadcast_object, get_rank=horovod.rank)
    result: Result = elastic.run(lambda _: work())(state)
    return result

"""Ranks that another launcher started: torchrun, TorchDistributor or horovodrun.

All of them run one command. Rank 0 does what it says; the others wait until that trains, train with it, and end.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from behavior_lib.config.train import CommunicatorName, TrainConfig
from behavior_lib.data.snapshot import Snapshot, TrainCounts
from behavior_lib.errors import BehaviorError, ConfigError, EnvironmentProblem
from behavior_lib.models.build import as_tensors, blank_tensors
from behavior_lib.train.communicator import Communicator, connect
from behavior_lib.train.executor import reason, telling_why
from behavior_lib.train.launch import Listener, asked_to_end, fetch
from behavior_lib.train.messages import Silent, Teller
from behavior_lib.train.settings import FitResult, RunSettings
from behavior_lib.train.store import FolderStore
from behavior_lib.train.worker import train_rank

_RUN = "run"  # the name of what rank 0 tells the others: a run, or nothing where it ends without one


class Ranks:
    """The group of ranks, as one of them sees it. Rank 0 calls `launch` or not, then `release`; the others `follow`."""

    def __init__(self, communicator: Communicator) -> None:
        self._communicator = communicator
        self._is_over = False

    @property
    def rank(self) -> int:
        """Of this process."""
        return self._communicator.rank

    def check(self, workers: int) -> None:
        """Raises ConfigError where other than `workers` ranks were started."""
        size = self._communicator.size
        if size != workers:
            mend = f"--set train.workers={size}, or start {workers}"
            raise ConfigError("the launcher started another number of ranks than train.workers", value=size, mend=mend)

    def launch(self, settings: RunSettings, snapshot: Snapshot, counts: TrainCounts, listen: Listener) -> FitResult:
        """Train as rank 0, once at most; listen: called with what happens on this rank.

        SIGTERM to any rank stores the state and ends the run. Time limits and second starts are the launcher's. Raises
        what a rank refused, as it refused it, and what a collective raises where a rank died.
        """
        shutil.rmtree(settings.folder, ignore_errors=True)
        Path(settings.folder).mkdir(parents=True)
        store = FolderStore(settings.checkpoints_of(snapshot))
        reason(store)  # what an earlier run did not hear is not this one's
        told = {"settings": settings.to_json(), "snapshot": snapshot.to_json()}
        self._is_over = True
        self._communicator.share(_RUN, json.dumps(told))
        try:
            with _asked_to_end() as should_stop:
                watcher = Teller(self.rank, self._communicator.size, listen)
                result = self._train(settings, snapshot, as_tensors(counts.arrays()), watcher, should_stop)
        except BehaviorError:
            raise
        except Exception as problem:
            raise reason(store) or problem from None
        return fetch(result, settings, snapshot)

    def follow(self) -> None:
        """Train as another rank once rank 0 does; return where it ends without."""
        self._is_over = True
        text = self._communicator.share(_RUN, "")
        if text:
            told = json.loads(text)
            settings, snapshot = RunSettings.from_json(told["settings"]), Snapshot.from_json(told["snapshot"])
            counts = blank_tensors(settings.spec)
            store = FolderStore(settings.checkpoints_of(snapshot))
            with _asked_to_end() as should_stop, telling_why(store, self.rank):
                self._train(settings, snapshot, counts, Silent(), should_stop)

    def release(self) -> None:
        """Let the others go where they still wait, and leave the group: who is in a collective then fails too."""
        if not self._is_over:
            self._communicator.share(_RUN, "")
        self._communicator.close()

    def _train(
        self,
        settings: RunSettings,
        snapshot: Snapshot,
        counts: Mapping[str, Tensor],
        watcher: Silent | Teller,
        should_stop: Callable[[], bool],
    ) -> FitResult:
        self._communicator.broadcast(list(counts.values()))
        return train_rank(settings, snapshot, counts, self._communicator, watcher, should_stop)


def gather(train: TrainConfig) -> Ranks:
    """Wait for all ranks that the launcher started. Raises ConfigError and EnvironmentProblem where there can be none.

    Called before anything else is begun: Horovod's ranks wait half a minute for one another. Those of torch wait for
    rank 0 for train.timeout_minutes.
    """
    if train.communicator is CommunicatorName.single:
        mend = "--set train.communicator=horovod or torch"
        raise ConfigError("train.launcher=external needs ranks that talk", value=train.communicator.value, mend=mend)
    if train.communicator is CommunicatorName.torch and "RANK" not in os.environ:
        mend = "start the command with torchrun, or --set train.launcher=local"
        raise EnvironmentProblem("no launcher has started this command", where="train.launcher=external", mend=mend)
    return Ranks(connect(train.communicator.value, "env://", train.timeout_minutes))


@contextmanager
def _asked_to_end() -> Iterator[Callable[[], bool]]:
    """Inside, SIGTERM does not end this process: what is yielded says whether it came."""
    asked = threading.Event()
    with asked_to_end(asked.set):
        yield asked.is_set

"""One rank of a training run: `python -m behavior_lib.train.worker FOLDER`, started by the launcher."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from behavior_lib.data.snapshot import Snapshot
from behavior_lib.errors import BehaviorError
from behavior_lib.models.build import build_model
from behavior_lib.train import reason
from behavior_lib.train.communicator import Communicator, connect
from behavior_lib.train.elastic import survive
from behavior_lib.train.heartbeat import WatchedCommunicator
from behavior_lib.train.loop import Observer, fit
from behavior_lib.train.messages import observer
from behavior_lib.train.settings import FitResult, RunSettings
from behavior_lib.train.store import FolderStore

SETTINGS, SNAPSHOT, COUNTS = "run.json", "snapshot.json", "counts.safetensors"
RESULT, FAILURE, STOP, RENDEZVOUS = "result.json", "failure", "stop", "rendezvous"
DRIVER = "BEHAVIOR_DRIVER_PROCESS"


def main(folder: Path) -> int:
    """Train; rank 0 leaves the result in the folder, and a rank that knows why it failed leaves its sentence.

    SIGTERM, or a file named STOP in the folder, lets the run store its state and end well.
    """
    _die_with(int(os.environ.get(DRIVER, "0")))
    try:
        _train(folder)
    except BehaviorError as error:
        (folder / f"{FAILURE}-{os.getpid()}.json").write_text(reason.as_text(error), encoding="utf-8")
        return 1
    return 0


def _train(folder: Path) -> None:
    run = RunSettings.from_json((folder / SETTINGS).read_text(encoding="utf-8"))
    snapshot = Snapshot.from_json((folder / SNAPSHOT).read_text(encoding="utf-8"))
    counts = load_file(folder / COUNTS)
    should_stop = _listen_for_the_end(folder)

    def work() -> None:
        communicator = WatchedCommunicator(connect(run.communicator, (folder / RENDEZVOUS).as_uri()), folder)
        watcher = observer(folder, communicator.rank, communicator.size)
        if communicator.size < run.workers:
            watcher.note(f"a worker is lost: {communicator.size} of {run.workers} go on from the newest state")
        result = train_rank(run, snapshot, counts, communicator, watcher, should_stop)
        if communicator.rank == 0:
            draft = folder / f"{RESULT}.draft"
            draft.write_text(result.to_json(), encoding="utf-8")
            draft.rename(folder / RESULT)
        communicator.close()

    if run.min_workers is None:
        work()
    else:
        survive(work)


def train_rank(
    run: RunSettings,
    snapshot: Snapshot,
    counts: Mapping[str, Tensor],
    communicator: Communicator,
    watcher: Observer,
    should_stop: Callable[[], bool],
) -> FitResult:
    """What every rank does, whatever started it. counts: the arrays of TrainCounts, as tensors."""
    torch.set_num_threads(run.fit.threads)
    torch.manual_seed(run.fit.seed)
    model = build_model(run.spec, **counts)
    store = FolderStore(run.checkpoints_of(snapshot))
    return fit(model, snapshot, run.fit_of(communicator.size), communicator, watcher, store, should_stop)


def _listen_for_the_end(folder: Path) -> Callable[[], bool]:
    asked = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
    return lambda: asked.is_set() or (folder / STOP).exists()


def _die_with(driver: int) -> None:
    """End this process soon after the driver: one that was killed cannot end its workers."""

    def watch() -> None:
        while True:
            time.sleep(1.0)
            try:
                os.kill(driver, 0)
            except ProcessLookupError:
                os._exit(1)

    if driver:
        threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    if code:
        sys.exit(code)

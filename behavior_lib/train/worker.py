"""One rank of a training run: `python -m behavior_lib.train.worker FOLDER`, started by the launcher."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

from behavior_lib.data.snapshot import Snapshot
from behavior_lib.errors import BehaviorError
from behavior_lib.models.build import build_model
from behavior_lib.train.communicator import connect
from behavior_lib.train.loop import fit
from behavior_lib.train.messages import observer
from behavior_lib.train.settings import RunSettings

SETTINGS, SNAPSHOT, COUNTS = "run.json", "snapshot.json", "counts.safetensors"
RESULT, FAILURE = "result.json", "failure"
DRIVER = "BEHAVIOR_DRIVER_PROCESS"


def main(folder: Path) -> int:
    """Train; rank 0 leaves the result in the folder, and a rank that knows why it failed leaves its sentence."""
    _die_with(int(os.environ.get(DRIVER, "0")))
    try:
        _train(folder)
    except BehaviorError as error:
        reason = {"kind": type(error).__name__, "sentence": str(error)}
        (folder / f"{FAILURE}-{os.getpid()}.json").write_text(json.dumps(reason), encoding="utf-8")
        return 1
    return 0


def _train(folder: Path) -> None:
    run = RunSettings.load(folder / SETTINGS)
    torch.set_num_threads(run.fit.threads)
    snapshot = Snapshot.from_json((folder / SNAPSHOT).read_text(encoding="utf-8"))
    counts = load_file(folder / COUNTS)["item_counts"]
    communicator = connect(run.communicator, (folder / "rendezvous").as_uri())
    torch.manual_seed(run.fit.seed)
    model = build_model(run.spec, counts)
    watcher = observer(folder, communicator.rank, communicator.size)
    result = fit(model, snapshot, run.fit, communicator, watcher, folder)
    if communicator.rank == 0:
        result.save(folder / RESULT)
    communicator.close()


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

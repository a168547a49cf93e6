"""Start the processes of a training run, watch over them, and bring their result back."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import psutil
import torch
from safetensors.torch import save_file

import behavior_lib
from behavior_lib import errors
from behavior_lib.data.snapshot import Snapshot, TrainCounts, shard
from behavior_lib.errors import BehaviorError, EnvironmentProblem, TrainingFailed
from behavior_lib.tables.sequences import TRAIN
from behavior_lib.train.messages import MESSAGES, MessageReader, StepMessage
from behavior_lib.train.settings import EpochResult, FitResult, RunSettings
from behavior_lib.train.worker import COUNTS, DRIVER, FAILURE, RESULT, SETTINGS, SNAPSHOT

LOG = "workers.log"
POLL_SECONDS = 0.2
GRACE_SECONDS = 5.0
_RANK_PREFIX = re.compile(r"^((\[\d+(,\d+)?\]<\w+>:)|(\[rank\d+\]:))+")
_PORT_TAKEN = re.compile(r"address already in use", re.IGNORECASE)
_CONSEQUENCE = re.compile("Horovod (has been shut down|detected that)|Connection (closed|reset) by peer")
_ERROR_LINE = re.compile(r"^[\w.]*(Error|Exception|Interrupt|Problem|Refused|Failed)\b")

Listener = Callable[[StepMessage | EpochResult], None]


def launch(settings: RunSettings, snapshot: Snapshot, counts: TrainCounts, listen: Listener) -> FitResult:
    """Train in processes of their own and wait for the result.

    listen: called in this process with every message, as it comes. settings.folder is emptied first.
    Raises EnvironmentProblem where the processes cannot start, ConfigError for more workers than files, TrainingFailed
    where they fail or take longer than settings.timeout_minutes, and what a worker refused, as it refused it. No
    process is left behind.
    """
    folder = Path(settings.folder)
    shard(snapshot.files.get(TRAIN, ()), 0, settings.workers)  # refuses what every worker would refuse
    _prepare(folder, settings, snapshot, counts)
    messages = MessageReader(folder / MESSAGES)
    deadline = time.monotonic() + 60 * settings.timeout_minutes
    with open(folder / LOG, "wb") as log, _processes(settings, log.fileno()) as processes:
        while _running(processes):
            if time.monotonic() > deadline:
                mend = "raise train.timeout_minutes, or train with fewer epochs"
                raise TrainingFailed(
                    "training did not end in time", where=str(folder / LOG), value=settings.timeout_minutes, mend=mend
                )
            for message in messages.new():
                listen(message)
            time.sleep(POLL_SECONDS)
        for message in messages.new():
            listen(message)
        if any(process.returncode for process in processes) or not (folder / RESULT).exists():
            raise _failure(folder)
    return FitResult.load(folder / RESULT)


def _prepare(folder: Path, settings: RunSettings, snapshot: Snapshot, counts: TrainCounts) -> None:
    """A clean folder: what an earlier run that was killed left there must not be taken for this one's."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    settings.save(folder / SETTINGS)
    (folder / SNAPSHOT).write_text(snapshot.to_json(), encoding="utf-8")
    save_file({"item_counts": torch.from_numpy(counts.items)}, folder / COUNTS)


def commands(settings: RunSettings) -> list[list[str]]:
    """What to start: one command that starts all ranks under Horovod, one a rank otherwise.

    Raises EnvironmentProblem where Horovod is not installed.
    """
    worker = [sys.executable, "-m", "behavior_lib.train.worker", settings.folder]
    if settings.communicator != "horovod":
        return [worker] * (settings.workers if settings.communicator == "torch" else 1)
    if find_spec("horovod") is None:
        mend = "run make setup, or --set train.communicator=torch"
        raise EnvironmentProblem("Horovod is not installed", mend=mend)
    ranks = ["-np", str(settings.workers), "-H", f"localhost:{settings.workers}"]
    return [[sys.executable, "-m", "horovod.runner.launch", "--gloo", *ranks, *worker]]


@contextmanager
def _processes(settings: RunSettings, log: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start the commands, and end whatever of them still runs when the block is left, however it is left."""
    package = str(Path(behavior_lib.__file__).parents[1])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    common = {
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": str(settings.fit.threads),
        "PYTHONUNBUFFERED": "1",
        "GLOO_SOCKET_IFNAME": _loopback(),
        DRIVER: str(os.getpid()),
    }
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for rank, command in enumerate(commands(settings)):
            own = {"RANK": str(rank), "WORLD_SIZE": str(settings.workers)}
            environment = {**os.environ, **common, **(own if settings.communicator == "torch" else {})}
            try:
                process = subprocess.Popen(
                    command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
            except OSError as problem:
                raise EnvironmentProblem("a worker cannot start", where=command[0], value=str(problem)) from None
            processes.append(process)
        yield processes
    finally:
        _end(processes)


def _running(processes: Sequence[subprocess.Popen[bytes]]) -> bool:
    """False when all are done, or one has failed: the others would wait for it for ever."""
    codes = [process.poll() for process in processes]
    return any(code is None for code in codes) and not any(codes)


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ask first, then kill. Horovod starts its workers in sessions of their own, so descendants are looked up."""
    family: dict[int, psutil.Process] = {}
    for process in processes:
        try:
            parent = psutil.Process(process.pid)
            family |= {child.pid: child for child in [parent, *parent.children(recursive=True)]}
        except psutil.NoSuchProcess:
            continue
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    _, alive = psutil.wait_procs(list(family.values()), timeout=GRACE_SECONDS)
    for survivor in alive:
        try:
            survivor.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(alive, timeout=GRACE_SECONDS)
    for process in processes:
        process.wait()


def _failure(folder: Path) -> BehaviorError:
    """The sentence that a worker left, or the last words of the log."""
    for path in sorted(folder.glob(f"{FAILURE}-*.json")):
        reason = json.loads(path.read_text(encoding="utf-8"))
        kind = getattr(errors, reason["kind"], TrainingFailed)
        failure: BehaviorError = kind(reason["sentence"])
        return failure
    text = (folder / LOG).read_text(encoding="utf-8", errors="replace")
    if _PORT_TAKEN.search(text):
        mend = "end the program that holds the port, or run again"
        return EnvironmentProblem("the workers found a port in use", where=str(folder / LOG), mend=mend)
    where = str(folder / LOG)
    return TrainingFailed("the workers ended early", where=where, value=last_words(text), mend="see that file")


def last_words(log: str) -> str:
    """The first line that names an error and is not the consequence of another rank's, else the newest line."""
    lines = [_RANK_PREFIX.sub("", line).strip() for line in log.splitlines()]
    named = [line for line in lines if _ERROR_LINE.match(line) and not _CONSEQUENCE.search(line)]
    said = [line for line in lines if line]
    return named[0] if named else said[-1] if said else "nothing was said"


def _loopback() -> str:
    """All workers of this launcher run here, whatever the host's name resolves to."""
    return next((name for name in psutil.net_if_addrs() if name.startswith("lo")), "lo")

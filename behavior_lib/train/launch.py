"""Start the processes of a training run, watch over them, and bring their result back."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

import psutil
from safetensors.torch import save_file

import behavior_lib
from behavior_lib.data.snapshot import Snapshot, TrainCounts
from behavior_lib.errors import BehaviorError, EnvironmentProblem, TrainingFailed
from behavior_lib.models.build import as_tensors
from behavior_lib.train import reason
from behavior_lib.train.communicator import without_horovod
from behavior_lib.train.elastic import elastic_command
from behavior_lib.train.heartbeat import Heartbeat, clear_heartbeats, read_heartbeats, who_hangs
from behavior_lib.train.messages import MESSAGES, Message, MessageReader, Note
from behavior_lib.train.settings import EpochResult, FitResult, RunSettings
from behavior_lib.train.store import FolderStore
from behavior_lib.train.trace import TRACE
from behavior_lib.train.worker import COUNTS, DRIVER, FAILURE, RENDEZVOUS, RESULT, SETTINGS, SNAPSHOT, STOP

LOG, CHECKPOINT = "workers.log", "checkpoint"
POLL_SECONDS = 0.2
GRACE_SECONDS = 5.0
LATE_ROUNDS = 3  # looks for what was started while others were ended
WORKER = "behavior_lib.train.worker"
_RANK_PREFIX = re.compile(r"^((\[\d+(,\d+)?\]<\w+>:)|(\[rank\d+\]:))+")
_PORT_TAKEN = re.compile(r"address already in use", re.IGNORECASE)
_CONSEQUENCE = re.compile("Horovod (has been shut down|detected that)|Connection (closed|reset) by peer")
_ERROR_LINE = re.compile(r"^[\w.]*(Error|Exception|Interrupt|Problem|Refused|Failed)\b")

Listener = Callable[[Message], None]


def launch(
    settings: RunSettings,
    snapshot: Snapshot,
    counts: TrainCounts,
    listen: Listener,
    should_stop: Callable[[], bool] = lambda: False,
) -> FitResult:
    """Train in processes of their own and wait for the result.

    listen: called in this process with every message, as it comes. should_stop: asked again and again; a yes ends the
    run as SIGTERM does. settings.folder is emptied first; a run that an
    earlier call began goes on from the state that it stored. Where processes die or hang without a reason of their own,
    all are started again from the newest state, up to settings.restarts times, unless they had done no step. SIGTERM to
    this process lets the run store its state, and the result says that it is stopped; else its checkpoint is a folder
    below settings.folder. With settings.min_workers the ranks that are left go on by themselves when one is lost, as
    long as they are so many.
    Raises EnvironmentProblem where the processes cannot start, TrainingFailed where they fail, hang or take longer than
    settings.timeout_minutes, and what a worker refused, as it refused it. No process is left behind.
    """
    folder = Path(settings.folder)
    _prepare(folder, settings, snapshot, counts)
    watch = _Watch(settings, listen, should_stop)
    with asked_to_end((folder / STOP).touch):
        while (failure := watch.start()) is not None:
            if not watch.may_start_again(failure):
                raise failure
            listen(Note(f"{failure}; starting again from the newest state"))
    return fetch(FitResult.from_json((folder / RESULT).read_text(encoding="utf-8")), settings, snapshot)


def fetch(result: FitResult, settings: RunSettings, snapshot: Snapshot) -> FitResult:
    """The result with its checkpoint, and the trace where there is one, in folders below settings.folder."""
    if result.is_stopped:
        return result
    folder, store = Path(settings.folder), FolderStore(settings.checkpoints_of(snapshot))
    store.get(result.checkpoint, folder / CHECKPOINT)
    if settings.fit.profile and TRACE in store.names():
        store.get(TRACE, folder / TRACE)
    return replace(result, checkpoint=str(folder / CHECKPOINT))


class _Watch:
    """Starts the processes of one run, as often as need be, and sees them to their end."""

    def __init__(self, settings: RunSettings, listen: Listener, should_stop: Callable[[], bool]) -> None:
        self._settings, self._listen, self._folder = settings, listen, Path(settings.folder)
        self._should_stop = should_stop
        self._messages = MessageReader(self._folder / MESSAGES)
        self._deadline = time.monotonic() + 60 * settings.timeout_minutes
        self._starts, self._has_moved = 0, False
        self._heartbeats: list[Heartbeat] | None = None
        self._changed = time.monotonic()
        self._told: set[int] = set()

    def start(self) -> BehaviorError | None:
        """Start them and wait. Returns why they ended without a result, or None where there is one."""
        self._starts, self._has_moved = self._starts + 1, False
        clear_heartbeats(self._folder)
        (self._folder / RENDEZVOUS).unlink(missing_ok=True)
        with open(self._folder / LOG, "wb") as log, _processes(self._settings, log.fileno()) as processes:
            while _running(processes):
                if time.monotonic() > self._deadline:
                    raise self._out_of_time()
                self._pass_on()
                if self._settings.min_workers is not None and _refusals(self._folder):
                    break  # the others would try again what this rank refused
                if self._should_stop():
                    (self._folder / STOP).touch()
                if (culprit := self._who_hangs()) is not None:
                    mend = "see that file, or raise train.stall_minutes"
                    return TrainingFailed("training hangs", where=str(self._folder / LOG), value=culprit, mend=mend)
                time.sleep(POLL_SECONDS)
            self._pass_on()
            if any(process.returncode for process in processes) or not (self._folder / RESULT).exists():
                return _failure(self._folder)
        return None

    def may_start_again(self, failure: BehaviorError) -> bool:
        """Not for what a worker refused, and not where the newest start got nowhere."""
        is_accident = type(failure) is TrainingFailed and not _refusals(self._folder)
        return is_accident and self._has_moved and self._starts <= self._settings.restarts

    def _pass_on(self) -> None:
        for message in self._messages.new():
            if isinstance(message, EpochResult):
                if message.number in self._told:
                    continue
                self._told.add(message.number)
            self._has_moved = self._has_moved or not isinstance(message, Note)
            self._listen(message)

    def _who_hangs(self) -> str | None:
        """None as long as heartbeats change: by this process's own clock, which nobody sets."""
        heartbeats = read_heartbeats(self._folder)
        if heartbeats != self._heartbeats:
            self._heartbeats, self._changed = heartbeats, time.monotonic()
        if heartbeats is None or time.monotonic() - self._changed < 60 * self._settings.stall_minutes:
            return None
        return who_hangs(heartbeats, _is_frozen)

    def _out_of_time(self) -> TrainingFailed:
        mend = "raise train.timeout_minutes, or train with fewer epochs"
        where, minutes = str(self._folder / LOG), self._settings.timeout_minutes
        return TrainingFailed("training did not end in time", where=where, value=minutes, mend=mend)


def _is_frozen(process: int) -> bool:
    try:
        return bool(psutil.Process(process).status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False


@contextmanager
def asked_to_end(ask: Callable[[], None]) -> Iterator[None]:
    """Inside, SIGTERM calls `ask`, and who listened before. Python lets the main thread alone listen for signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)

    def listen(number: int, frame: FrameType | None) -> None:
        ask()
        if callable(before):
            before(number, frame)

    signal.signal(signal.SIGTERM, listen)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _prepare(folder: Path, settings: RunSettings, snapshot: Snapshot, counts: TrainCounts) -> None:
    """A clean folder: what an earlier run that was killed left there must not be taken for this one's."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / SETTINGS).write_text(settings.to_json(), encoding="utf-8")
    (folder / SNAPSHOT).write_text(snapshot.to_json(), encoding="utf-8")
    save_file(as_tensors(counts.arrays()), folder / COUNTS)


def commands(settings: RunSettings) -> list[list[str]]:
    """What to start: one command that starts all ranks under Horovod, one a rank otherwise.

    Raises EnvironmentProblem where Horovod is not installed.
    """
    worker = [sys.executable, "-m", WORKER, settings.folder]
    if settings.communicator != "horovod":
        return [worker] * (settings.workers if settings.communicator == "torch" else 1)
    if find_spec("horovod") is None:
        raise without_horovod()
    if settings.min_workers is not None:
        return [elastic_command(settings.workers, settings.min_workers, _loopback(), worker)]
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
        _end(processes, settings.folder)


def _running(processes: Sequence[subprocess.Popen[bytes]]) -> bool:
    """False when all are done, or one has failed: the others would wait for it for ever."""
    codes = [process.poll() for process in processes]
    return any(code is None for code in codes) and not any(codes)


def _end(processes: Sequence[subprocess.Popen[bytes]], folder: str) -> None:
    """Ask first, then kill. Horovod starts its workers in sessions of their own, so descendants are looked up.

    folder: of the run. What was started while the others were ended is nobody's descendant: it is found by its command.
    """
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
    for _ in range(LATE_ROUNDS):
        late = _of_run(folder)
        for straggler in late:
            with suppress(psutil.Error):
                straggler.kill()
        psutil.wait_procs(late, timeout=GRACE_SECONDS)


def _of_run(folder: str) -> list[psutil.Process]:
    """The workers of a run, and the shells around them, that are alive now on this machine."""
    endings = tuple(f" {words}" for words in (folder, shlex.quote(folder)))
    commands_of_all = ((process, process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"]))
    return [
        process
        for process, words in commands_of_all
        if any(WORKER in word for word in words) and any(word == folder or word.endswith(endings) for word in words)
    ]


def _refusals(folder: Path) -> list[Path]:
    """What workers left that knew why they failed."""
    return sorted(folder.glob(f"{FAILURE}-*.json"))


def _failure(folder: Path) -> BehaviorError:
    """The sentence that a worker left, or the last words of the log."""
    for path in _refusals(folder):
        return reason.from_text(path.read_text(encoding="utf-8"))
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

"""CPU seconds of a process and all that it started: Python, the JVM, Python workers, DuckDB's threads."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil

SAMPLE_SECONDS = 0.1
_PR_SET_PDEATHSIG = 1


@dataclass
class Cost:
    """What one piece of work took. jit_seconds: the JVM's compiler threads' part, where it is known."""

    cpu_seconds: float = 0.0
    jit_seconds: float = 0.0
    seconds: float = 0.0
    started: float = 0.0
    ended: float = 0.0


class ProcessTree:
    """Adds up the CPU time of a process and its descendants, those that ended since the last look included."""

    def __init__(self, pid: int | None = None) -> None:
        self._root, self._known = psutil.Process(pid), dict[tuple[int, float], float]()

    def cpu_seconds(self) -> float:
        """User and system time of all processes ever seen in the tree."""
        try:
            processes = [self._root, *self._root.children(recursive=True)]
        except psutil.NoSuchProcess:
            processes = []
        for process in processes:
            try:
                times, born = process.cpu_times(), process.create_time()
            except psutil.Error:
                continue  # ended between being listed and being asked
            self._known[process.pid, born] = times.user + times.system
        return sum(self._known.values())

    @contextmanager
    def measure(self) -> Iterator[Cost]:
        """What the block costs this tree. Its fields are filled in when the block ends."""
        cost, before = Cost(started=time.time()), self.cpu_seconds()
        yield cost
        cost.ended = time.time()
        cost.cpu_seconds, cost.seconds = self.cpu_seconds() - before, cost.ended - cost.started


def kill_tree(process: subprocess.Popen[bytes]) -> int:
    """kill -9 a process, then all that came of it, which it would start again. Returns how many children it had.

    Not how many came of it: an executor of Spark has a child of its own for a moment where Hadoop calls chmod. And
    only those that live: spark-class becomes the worker by exec, and the shell that it read the command from stays a
    dead child of the worker wherever it ended after that.
    """
    n_children = 0
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(process.pid)
        n_children, offspring = sum(map(_lives, root.children())), root.children(recursive=True)
        for one in (root, *offspring):
            with suppress(psutil.NoSuchProcess):
                one.kill()
    process.wait()
    return n_children


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def run_cold(words: Sequence[str]) -> tuple[Cost, str]:
    """Run `python WORDS` in a process of its own. Returns its cost, looked at ten times a second, and its last line."""
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    tree, cost = ProcessTree(process.pid), Cost(started=time.time())
    while process.poll() is None:
        cost.cpu_seconds = tree.cpu_seconds()
        time.sleep(SAMPLE_SECONDS)
    cost.ended = time.time()
    cost.seconds = cost.ended - cost.started
    assert process.stdout is not None
    last = process.stdout.read().strip().splitlines()[-1]
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} ended with exit code {process.returncode}: {last}")
    return cost, last


def die_with_parent() -> None:
    """For `preexec_fn`: the kernel kills the new process when this one dies, even by kill -9."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

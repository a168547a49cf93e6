"""A Spark standalone cluster on this machine: a master and workers as processes of their own, and jobs sent to it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from behavior_lib.doctor.java import require_java
from behavior_lib.layout import jobs_root
from benchmarks.jobs import event_log
from benchmarks.processes import die_with_parent, kill_tree

ROOT = Path(__file__).parents[1]
_BIN = Path(sys.executable).parent
_POLL_SECONDS, _START_SECONDS = 0.01, 60


@dataclass(frozen=True)
class Submitted:
    """How a job ended. told: its JSON line; log: what it said on standard error; seconds: with Spark's start."""

    code: int
    told: dict[str, Any]
    log: Path
    seconds: float


class Standalone:
    """A master and `workers` workers of one core each.

    Each worker has a loopback address of its own: on one address an executor reads a dead neighbour's files from the
    disk, so that a death loses nothing. All files lie below `folder`; `log` is where the jobs' event logs go.
    """

    def __init__(self, folder: Path, *, workers: int = 2, worker_mb: int = 3072, executor_mb: int = 2048) -> None:
        self.folder, self.log = folder, folder / "eventlog"
        self._executor_mb = executor_mb
        self._processes: list[subprocess.Popen[bytes]] = []
        self.log.mkdir(parents=True)
        _, found = self._start("master", "127.0.0.1", r"Starting Spark master at (spark://\S+)", "--port", "0")
        self.master = found
        self._workers = [
            self._start(
                f"worker-{number}",
                f"127.0.0.{number}",
                r"(Successfully registered) with master",
                *("--cores", "1", "--memory", f"{worker_mb}m", "--work-dir", str(self._local(number)), self.master),
            )[0]
            for number in range(1, workers + 1)
        ]

    def submit(self, job: str, words: Sequence[str], meanwhile: Callable[[], bool] | None = None) -> Submitted:
        """Send jobs/JOB.py to the cluster with its arguments, and wait for its end.

        meanwhile: called a hundred times a second while the job runs, until it returns True.
        """
        conf = {
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            **event_log(self.log),
        }
        options = [word for key, value in conf.items() for word in ("--conf", f"{key}={value}")]
        memory = ["--driver-memory", "2g", "--executor-memory", f"{self._executor_mb}m"]
        script = str(jobs_root() / f"{job}.py")
        command = [str(_BIN / "spark-submit"), "--master", self.master, *memory, *options, script, *words]
        out, log, started = self.folder / f"{job}.out", self.folder / f"{job}.log", time.monotonic()
        process = self._popen(command, out, log, {"SPARK_LOCAL_DIRS": str(self._local(0))})
        waiting = meanwhile
        while process.poll() is None:
            if waiting is not None and waiting():
                waiting = None
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_SECONDS if waiting is not None else None)
        lines = out.read_text(encoding="utf-8").strip().splitlines()
        told = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
        return Submitted(process.returncode, told, log, time.monotonic() - started)

    def kill_worker(self, number: int) -> int:
        """kill -9 worker 1, 2, … and its executors. Returns how many executors there were."""
        return kill_tree(self._workers[number - 1])

    def writer(self, folder: Path) -> int | None:
        """The first worker that has a file below the folder open; None where none has."""
        for number, worker in enumerate(self._workers, start=1):
            for executor in psutil.Process(worker.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if any(Path(one.path).is_relative_to(folder) for one in executor.open_files()):
                        return number
        return None

    def close(self) -> None:
        """End every process that this cluster started, whatever it is doing."""
        for process in reversed(self._processes):
            kill_tree(process)

    def _start(self, name: str, host: str, pattern: str, *words: str) -> tuple[subprocess.Popen[bytes], str]:
        """Start the master or a worker, and wait until it says what the pattern means. Returns the pattern's group."""
        kind = name.split("-")[0].capitalize()
        entry = f"org.apache.spark.deploy.{kind.lower()}.{kind}"
        command = [str(_BIN / "spark-class"), entry, "--host", host, "--webui-port", "0", *words]
        log = self.folder / f"{name}.log"
        number = int(name.split("-")[1]) if "-" in name else 0
        environ = {"SPARK_LOCAL_IP": host, "SPARK_LOCAL_DIRS": str(self._local(number))}
        process = self._popen(command, log, log, environ)
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until and process.poll() is None:
            found = re.search(pattern, log.read_text(encoding="utf-8"))
            if found:
                return process, found[1]
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_SECONDS)
        self.close()
        raise SystemExit(f"{name} did not start: {log.read_text(encoding='utf-8')[-2000:]}")

    def _popen(self, command: list[str], out: Path, log: Path, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("SPARK_", "PYSPARK_"))}
        own = {"JAVA_HOME": str(require_java().home), "PYTHONPATH": str(ROOT), "PYSPARK_PYTHON": sys.executable}
        path = f"{_BIN}{os.pathsep}{os.environ['PATH']}"
        with out.open("ab") as output, log.open("ab") as errors:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**inherited, **own, "PATH": path, **environ},
                stdout=output,
                stderr=errors,
                preexec_fn=die_with_parent,  # executors end when their worker is gone
            )
        self._processes.append(process)
        return process

    def _local(self, number: int) -> Path:
        folder = self.folder / "local" / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        return folder


@contextlib.contextmanager
def standalone(folder: Path, **sizes: int) -> Iterator[Standalone]:
    """A cluster that is gone after the block, also where the block or this process is ended by a signal."""

    def end(number: int, _: Any) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    cluster = None
    try:
        cluster = Standalone(folder, **sizes)
        yield cluster
    finally:
        if cluster is not None:
            cluster.close()
        signal.signal(signal.SIGTERM, before)


def parquet_files(table: Path) -> int:
    """Data files that lie in a table's folder, committed or not."""
    return sum(1 for name in _names(table) if name.endswith(".parquet") and not name.startswith("."))


def _names(folder: Path) -> Iterator[str]:
    for _, _, names in os.walk(folder):
        yield from names

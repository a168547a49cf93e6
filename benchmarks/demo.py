"""The demo in an empty folder: seconds, peak memory and rows of each job, then the same command once more."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import psutil

SAMPLE_SECONDS = 0.5


def measure(folder: Path) -> dict[str, Any]:
    """Run the pipeline on `folder` and watch the memory of its whole process tree, job by job."""
    command = [sys.executable, "-m", "behavior_lib.cli", "pipeline", "--env", "local", "--set", f"paths.var={folder}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    memory = PeakMemory(psutil.Process(process.pid))
    jobs = []
    assert process.stderr is not None
    assert process.stdout is not None
    for line in process.stderr:
        if line.startswith("{"):
            jobs.append({**json.loads(line), "peak_gb": memory.take()})
        else:
            print(line, end="", file=sys.stderr)
    last = process.stdout.read().strip().splitlines()[-1]
    code = process.wait()
    memory.stop()
    if code:
        raise SystemExit(f"the pipeline ended with exit code {code}: {last}")
    return {"whole": json.loads(last), "jobs": jobs}


class PeakMemory:
    """Samples the summed unique memory (USS) of a process and all its children."""

    def __init__(self, root: psutil.Process) -> None:
        self._root, self._peak, self._ended = root, 0, threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def take(self) -> float:
        """The peak since the last call, in GB."""
        peak, self._peak = self._peak, 0
        return round(peak / 1e9, 2)

    def stop(self) -> None:
        self._ended.set()

    def _watch(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            try:
                tree = [self._root, *self._root.children(recursive=True)]
                self._peak = max(self._peak, sum(process.memory_full_info().uss for process in tree))
            except psutil.Error:
                continue  # a process ended between being listed and being asked


def run() -> dict[str, Any]:
    """First run and second run in one new folder, as one JSON object."""
    with tempfile.TemporaryDirectory() as folder:
        first = measure(Path(folder) / "var")
        second = measure(Path(folder) / "var")
    return {
        "seconds": first["whole"]["seconds"],
        "again_seconds": second["whole"]["seconds"],
        "peak_gb": max(job["peak_gb"] for job in first["jobs"]),
        "jobs": {
            job["job"]: {name: job[name] for name in ("seconds", "peak_gb", "rows", "metrics")} for job in first["jobs"]
        },
    }

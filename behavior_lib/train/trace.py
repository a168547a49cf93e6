"""Where the time of a few steps goes, as torch's profiler sees it: open the file in chrome://tracing or Perfetto."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from behavior_lib.train.store import FolderStore

TRACE, FILE = "trace", "trace.json"
STEPS = 4  # that are traced, after two that are not


@contextmanager
def tracing(store: FolderStore, wanted: bool) -> Iterator[Callable[[], None]]:
    """Inside, call what is yielded after every step; the trace of the third to the sixth goes into the store."""
    if not wanted:
        yield lambda: None
        return
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FILE
        plan = schedule(wait=1, warmup=1, active=STEPS, repeat=1)
        with profile(
            activities=activities, schedule=plan, on_trace_ready=lambda told: told.export_chrome_trace(str(path))
        ) as profiler:
            yield profiler.step
        if path.exists():
            store.put(TRACE, Path(folder))

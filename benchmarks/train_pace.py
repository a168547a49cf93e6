"""What a contestant does that trains in turns, in a process of its own; benchmarks.train_contest calls the turns.

The peers' Python imports this file too, so it needs the standard library alone.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

GO, TOLD, CASE = "go", "told", "case.json"


def read_case(folder: Path) -> dict[str, Any]:
    """What the caller wants of this contestant."""
    return dict(json.loads((folder / CASE).read_text(encoding="utf-8")))


class Turn:
    """Steps of a training loop, and the time from the end of one to the end of the next."""

    def __init__(self) -> None:
        self.steps = self.positions = self.rows = 0
        self.seconds = self.cpu_seconds = 0.0
        self.rest()

    def rest(self) -> None:
        """What was done since the last step is no training."""
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def step(self, positions: int, rows: int) -> None:
        self.seconds += time.perf_counter() - self._wall
        self.cpu_seconds += time.process_time() - self._cpu
        self.steps, self.positions, self.rows = self.steps + 1, self.positions + positions, self.rows + rows
        self.rest()

    def told(self) -> dict[str, Any]:
        counts = {"steps": self.steps, "positions": self.positions, "rows": self.rows}
        return {**counts, "seconds": self.seconds, "cpu_seconds": self.cpu_seconds, "peak_mb": peak_mb()}


def peak_mb() -> int:
    """The most memory that the process held; the resource module's figure begins with that of who started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return round(next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1024)


class Pace:
    """Is told of every step of a loop, and holds the loop up between turns.

    The first `warm_up` steps count for nothing. Then the process waits for a turn, trains until the turn's seconds are
    over, tells what it did in them, and waits for the next. It ends when the caller is gone.
    """

    def __init__(self, folder: Path, warm_up: int) -> None:
        # For as long as the process lives.
        self._told, self._go = (folder / TOLD).open("w", encoding="utf-8"), (folder / GO).open(encoding="utf-8")
        self._warm_up, self._wanted = warm_up, 0.0
        self._turn, self._parts = Turn(), dict[str, float]()

    def add(self, part: str, seconds: float) -> None:
        """Seconds that went into one part of a step; they are summed over the turn."""
        self._parts[part] = self._parts.get(part, 0.0) + seconds

    def step(self, positions: int, rows: int) -> None:
        """A step ended. positions: events that were targets; rows: what the model read."""
        if self._warm_up:
            self._warm_up -= 1
            if not self._warm_up:
                self._wait({})
            return
        self._turn.step(positions, rows)
        if self._turn.seconds >= self._wanted:
            self._wait({**self._turn.told(), "parts": self._parts})

    def rest(self) -> None:
        """What was done since the last step is no training: validation, a stored state."""
        self._turn.rest()

    def _wait(self, told: Mapping[str, Any]) -> None:
        print(json.dumps(told), file=self._told, flush=True)
        line = self._go.readline()
        if not line:
            os._exit(0)
        self._wanted, self._turn, self._parts = float(line), Turn(), {}

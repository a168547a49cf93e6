"""Contestants as their caller sees them: processes that train in turns, so that a noisy machine is fair to all."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.processes import die_with_parent, kill_tree
from benchmarks.train_pace import CASE, GO, TOLD

ROOT = Path(__file__).parents[1]
LOG = "log"
_LOOK_UP_SECONDS = 1.0


@dataclass(frozen=True)
class Entry:
    """How to start a contestant. command: what each of its processes runs; case: what they find in their folder.

    environs: of each process, one or more. The processes are handed the folder's path as their last word.
    """

    name: str
    command: Sequence[str]
    case: Mapping[str, Any]
    environs: Sequence[Mapping[str, str]] = field(default_factory=lambda: [{}])


class Contestant:
    """One that is running. folder: its own, made here."""

    def __init__(self, entry: Entry, folder: Path) -> None:
        self.name, self._log = entry.name, folder / LOG
        folder.mkdir(parents=True)
        (folder / CASE).write_text(json.dumps(entry.case), encoding="utf-8")
        for pipe in (GO, TOLD):
            os.mkfifo(folder / pipe)
        # For reading and writing, so that neither side waits for the other to open its end.
        self._go, self._told = (os.open(folder / pipe, os.O_RDWR) for pipe in (GO, TOLD))
        with open(self._log, "wb") as log:
            self._processes = [
                subprocess.Popen(
                    [*entry.command, str(folder)],
                    cwd=ROOT,
                    env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    preexec_fn=die_with_parent,
                )
                for environ in entry.environs
            ]
        self._hear()

    def turn(self, seconds: float) -> dict[str, Any]:
        """Let it train for so many seconds. Returns what it did."""
        os.write(self._go, f"{seconds}\n".encode())
        return self._hear()

    def end(self) -> None:
        """End its processes, whatever they are doing."""
        for process in self._processes:
            kill_tree(process)
        os.close(self._go)
        os.close(self._told)

    def _hear(self) -> dict[str, Any]:
        """Its next line, or the end of this program where one of its processes has ended."""
        line = b""
        while not line.endswith(b"\n"):
            if select.select([self._told], [], [], _LOOK_UP_SECONDS)[0]:
                line += os.read(self._told, 1 << 16)
            elif any(process.poll() is not None for process in self._processes):
                said = self._log.read_text(encoding="utf-8", errors="replace")[-3000:]
                self.end()
                raise SystemExit(f"{self.name} ended before its time:\n{said}")
        return dict(json.loads(line))


def contest(entries: Sequence[Entry], folder: Path, rounds: int, seconds: float) -> dict[str, list[dict[str, Any]]]:
    """All of them in one process each, warm; then in each round a turn for each. Returns what each did, by round."""
    with contextlib.ExitStack() as ending:
        running = []
        for entry in entries:
            running.append(Contestant(entry, folder / entry.name))
            ending.callback(running[-1].end)
        turns: dict[str, list[dict[str, Any]]] = {entry.name: [] for entry in entries}
        for _ in range(rounds):
            for contestant in running:
                turns[contestant.name].append(contestant.turn(seconds))
    return turns


def speeds(turns: Sequence[Mapping[str, Any]], clock: str = "seconds") -> list[float]:
    """Positions a second of each turn."""
    return [turn["positions"] / turn[clock] for turn in turns]


def spread(values: Sequence[float], digits: int = 2) -> dict[str, float]:
    """Median, lowest and highest."""
    named = {"median": median(values), "lowest": min(values), "highest": max(values)}
    return {name: round(value, digits) for name, value in named.items()}


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Of the same rounds."""
    return [one / other for one, other in zip(ours, theirs, strict=True)]


def shares(turns: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The part of the time of all turns that each part of a step took."""
    total: dict[str, float] = {}
    for turn in turns:
        for part, seconds in turn["parts"].items():
            total[part] = total.get(part, 0.0) + seconds
    return {part: round(seconds / sum(total.values()), 4) for part, seconds in total.items()}

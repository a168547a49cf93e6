"""Spark's event log: what the stages of a stretch of time read, shuffled and spilt, and how even their tasks were."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

# A stage whose tasks took less than this part of the whole decides nothing; fewer tasks have no meaningful median.
MIN_SHARE, MIN_TASKS = 0.05, 3


@dataclass
class Stage:
    """One attempt of one stage. seconds: of each task, launch to finish; cpu: of each; bytes: summed over tasks.

    peak_bytes: what a task held for sorting, aggregating and joining at its highest, of the one that held most.
    """

    name: str = ""
    operators: str = ""
    submitted: float = 0.0
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    gc_seconds: float = 0.0
    input_bytes: int = 0
    shuffle_write_bytes: int = 0
    shuffle_read_bytes: int = 0
    spilled_bytes: int = 0
    peak_bytes: int = 0

    @property
    def cpu_seconds(self) -> float:
        """Of all tasks."""
        return sum(self.cpu)

    @property
    def skew(self) -> float:
        """Slowest task ÷ median task."""
        return max(self.seconds) / max(median(self.seconds), 1e-3)

    @property
    def cpu_skew(self) -> float:
        """The same of CPU seconds, which say how evenly the work is shared where others use the machine too."""
        return max(self.cpu) / max(median(self.cpu), 1e-3)

    def told(self) -> dict[str, Any]:
        """The stage as figures."""
        return {
            "operators": self.operators,
            "tasks": len(self.seconds),
            "task_seconds": round(sum(self.seconds), 2),
            "cpu_seconds": round(self.cpu_seconds, 2),
            "gc_seconds": round(self.gc_seconds, 2),
            "slowest_to_median": round(self.skew, 2),
            "cpu_slowest_to_median": round(self.cpu_skew, 2),
            "input_mb": round(self.input_bytes / 1e6, 1),
            "shuffle_write_mb": round(self.shuffle_write_bytes / 1e6, 1),
            "shuffle_read_mb": round(self.shuffle_read_bytes / 1e6, 1),
            "spilled_mb": round(self.spilled_bytes / 1e6, 1),
            "peak_task_mb": round(self.peak_bytes / 1e6, 1),
        }


def read_stages(folder: Path) -> list[Stage]:
    """The stages of all applications that logged into the folder, uncompressed."""
    stages: dict[tuple[str, int, int], Stage] = {}
    for path in _logs(folder):
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                if '"SparkListenerTaskEnd"' in line or '"SparkListenerStageCompleted"' in line:
                    _add(stages, path.name, json.loads(line))
    return [stage for stage in stages.values() if stage.seconds]


def between(stages: Iterable[Stage], started: float, ended: float) -> list[Stage]:
    """The stages that were submitted in a stretch of time, seconds since 1970."""
    return [stage for stage in stages if started <= stage.submitted <= ended]


def shuffled(stages: Iterable[Stage]) -> int:
    """Bytes that the stages wrote for others to read."""
    return sum(stage.shuffle_write_bytes for stage in stages)


def worst_skew(stages: list[Stage], *, of_cpu: bool = False) -> float | None:
    """Slowest ÷ median task of the stage where it is largest, among those that matter; None where none does."""
    whole = sum(sum(stage.seconds) for stage in stages)
    weighty = [s for s in stages if len(s.seconds) >= MIN_TASKS and sum(s.seconds) >= MIN_SHARE * whole]
    return round(max(s.cpu_skew if of_cpu else s.skew for s in weighty), 2) if weighty else None


def heaviest(stages: list[Stage], number: int = 5) -> list[dict[str, Any]]:
    """The stages that took the most task time."""
    return [stage.told() for stage in sorted(stages, key=lambda s: -sum(s.seconds))[:number]]


def _logs(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def _operators(info: dict[str, Any]) -> str:
    scopes = [json.loads(rdd["Scope"])["name"] for rdd in info["RDD Info"] if "Scope" in rdd]
    return " < ".join(dict.fromkeys(re.sub(r" *\(\d+\)", "", scope).strip() for scope in scopes))


def _add(stages: dict[tuple[str, int, int], Stage], log: str, event: dict[str, Any]) -> None:
    if event["Event"] == "SparkListenerStageCompleted":
        info = event["Stage Info"]
        stage = stages.setdefault((log, info["Stage ID"], info["Stage Attempt ID"]), Stage())
        stage.name, stage.submitted = info["Stage Name"], info.get("Submission Time", 0) / 1e3
        stage.operators = _operators(info)
        return
    stage = stages.setdefault((log, event["Stage ID"], event["Stage Attempt ID"]), Stage())
    info, metrics = event["Task Info"], event.get("Task Metrics")
    if info["Failed"] or info["Killed"] or metrics is None:
        return
    stage.seconds.append((info["Finish Time"] - info["Launch Time"]) / 1e3)
    stage.cpu.append((metrics["Executor CPU Time"] + metrics["Executor Deserialize CPU Time"]) / 1e9)
    stage.gc_seconds += metrics["JVM GC Time"] / 1e3
    stage.input_bytes += metrics["Input Metrics"]["Bytes Read"]
    stage.shuffle_write_bytes += metrics["Shuffle Write Metrics"]["Shuffle Bytes Written"]
    read = metrics["Shuffle Read Metrics"]
    stage.shuffle_read_bytes += read["Remote Bytes Read"] + read["Local Bytes Read"]
    stage.spilled_bytes += metrics["Disk Bytes Spilled"]
    stage.peak_bytes = max(stage.peak_bytes, metrics["Peak Execution Memory"])


@dataclass
class Disturbance:
    """What did not go as planned. tasks: failed ones by reason; stages: name of each stage that was tried again."""

    executors_lost: int = 0
    tasks: Counter[str] = field(default_factory=Counter)
    stages: list[str] = field(default_factory=list)
    spans: list[tuple[str, float, float]] = field(default_factory=list)

    def running_at(self, instant: float) -> list[str]:
        """The stages that were running at an instant, seconds since 1970."""
        return [name for name, started, ended in self.spans if started <= instant <= ended]

    def told(self) -> dict[str, Any]:
        """As figures."""
        figures = {"executors_lost": self.executors_lost, "tasks": dict(self.tasks)}
        return {**figures, "stages": len(self.stages), "operators": self.stages}


def disturbance(folder: Path) -> Disturbance:
    """What all applications that logged into the folder, uncompressed, had to do again."""
    seen = Disturbance()
    for path in _logs(folder):
        with path.open(encoding="utf-8") as lines:
            for event in map(json.loads, lines):
                _disturb(seen, event)
    return seen


def _disturb(seen: Disturbance, event: dict[str, Any]) -> None:
    kind = event["Event"]
    if kind == "SparkListenerExecutorRemoved":
        seen.executors_lost += "lost" in event["Removed Reason"]
    elif kind == "SparkListenerTaskEnd" and event["Task End Reason"]["Reason"] != "Success":
        seen.tasks[event["Task End Reason"]["Reason"]] += 1
    elif kind == "SparkListenerStageCompleted":
        info = event["Stage Info"]
        name = _operators(info)
        if info["Stage Attempt ID"] > 0:
            seen.stages.append(name)
        seen.spans.append((name, info.get("Submission Time", 0) / 1e3, info["Completion Time"] / 1e3))

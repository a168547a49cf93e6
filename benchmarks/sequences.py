"""build_sequences: events a second of each core, what an increment saves, and the memory that one huge user takes.

The event log is made once; every build is in a copy of its warehouse (hard links), in one warm Spark session. Cost is
CPU time of the whole process tree; figures are medians over the repeats.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from behavior_lib import cli
from benchmarks.etl import DAYS, Bench, Series, add_arguments
from benchmarks.eventlog import between, heaviest, read_stages
from benchmarks.jobs import as_words, say, scratch
from benchmarks.processes import Cost

COMPLETE_JOURNEY = "complete_journey"
# Of the 100 days from 2024-01-01 on: cuts that move with the newest event would make all of it anew.
CUTS = ("split.validation=2024-03-11", "split.test=2024-03-26")
HEAVY_USER = "heavy_user"


class SequencesBench(Bench):
    """The jobs up to build_sequences in one folder."""

    def words(self, raw: str) -> list[str]:
        """What the jobs on these raw files need beside the settings of all."""
        own = [f"source={COMPLETE_JOURNEY}"] if raw == COMPLETE_JOURNEY else CUTS
        return as_words([*own, *self.arguments.set])

    def prepare(self, raw: str) -> tuple[Path, int]:
        """A warehouse with the event log of all raw files. Returns its place and the events in it."""
        place, words = self.new_place(), self.words(raw)
        told = self.job("ingest", raw, place, *words)["rows"]
        self.job("sessionize", raw, place, *words)
        say(f"{told['accepted']:,} events of {raw}")
        return place, told["accepted"]

    def build(self, raw: str, base: Path) -> tuple[Cost, Path]:
        """build_sequences in a copy of a warehouse. Returns its cost and the copy."""
        place = self.new_place()
        shutil.copytree(base, place, copy_function=os.link)
        return self.build_in(raw, place), place

    def build_in(self, raw: str, place: Path) -> Cost:
        """build_sequences in this warehouse."""
        with self.tree.measure() as cost:
            told = self.job("build_sequences", raw, place, *self.words(raw))
        say(f"build_sequences of {raw}: {cost.cpu_seconds:.1f} CPU s, {cost.seconds:.1f} s, {told['metrics']}")
        return cost


def run(argv: Sequence[str]) -> dict[str, Any]:
    """Measure everything. Returns the figures and their details."""
    arguments = parse(argv)
    with scratch(arguments.folder) as folder:
        bench = SequencesBench(folder, arguments)
        series: dict[str, Series] = {}
        for size in arguments.sizes:
            bench.generate(str(size), size)
            series[str(size)] = _builds(bench, str(size))
        if arguments.complete_journey:
            with contextlib.redirect_stdout(sys.stderr):
                cli.main(["sample", COMPLETE_JOURNEY, "--out", str(folder / "raw" / COMPLETE_JOURNEY)])
            series[COMPLETE_JOURNEY] = _builds(bench, COMPLETE_JOURNEY)
        if arguments.heavy_user:
            bench.generate(HEAVY_USER, 2 * arguments.heavy_user, "--heavy-user", str(arguments.heavy_user))
            series[HEAVY_USER] = _builds(bench, HEAVY_USER)
        increment = _increment(bench, str(min(arguments.sizes))) if arguments.increment else None
        spark = SparkSession.getActiveSession()
        assert spark is not None
        spark.stop()  # which writes the end of its event log
        return _tell(bench, series, increment)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments; what is not given takes some five minutes on two cores."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks sequences", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000_000], help="rows of the generated logs")
    parser.add_argument("--heavy-user", type=int, default=0, metavar="N", help="beside N events one user with N more")
    parser.add_argument("--repeats", type=int, default=3, help="after one that warms up; 0: that one counts")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="more settings of every job")
    add_arguments(parser)
    parser.add_argument("--no-complete-journey", dest="complete_journey", action="store_false")
    parser.add_argument("--no-increment", dest="increment", action="store_false")
    return parser.parse_args(argv)


def _builds(bench: SequencesBench, raw: str) -> Series:
    base, events = bench.prepare(raw)
    series = Series(events)
    for repeat in range(1 + bench.arguments.repeats):
        cost, place = bench.build(raw, base)
        shutil.rmtree(place)
        if repeat or not bench.arguments.repeats:
            series.costs.append(cost)
    shutil.rmtree(base)
    return series


def _increment(bench: SequencesBench, whole: str) -> Series:
    """All days but the last are built, then the last one comes: build_sequences after it, with the same cuts."""
    bench.link_days(whole, "part", slice(DAYS - 1))
    base, _ = bench.prepare("part")
    bench.build_in("part", base)
    bench.link_days(whole, "part", slice(DAYS - 1, None))
    new = Series(bench.job("ingest", "part", base)["rows"]["accepted"])
    bench.job("sessionize", "part", base)
    for _ in range(max(1, bench.arguments.repeats)):
        cost, place = bench.build("part", base)
        shutil.rmtree(place)
        new.costs.append(cost)
    return new


def _tell(bench: SequencesBench, series: dict[str, Series], increment: Series | None) -> dict[str, Any]:
    stages = read_stages(bench.log)
    figures: dict[str, Any] = {
        "events_per_cpu_second": {name: round(found.rows / found.cpu) for name, found in series.items()},
        "increment_ratio": None,
    }
    if increment is not None:
        series = {**series, "increment": increment}
        figures["increment_ratio"] = round(increment.cpu / series[str(min(bench.arguments.sizes))].cpu, 3)
    last = {name: between(stages, found.costs[-1].started, found.costs[-1].ended) for name, found in series.items()}
    return {
        **figures,
        "details": {
            "arguments": vars(bench.arguments),
            "series": {name: found.told() for name, found in series.items()},
            "cpu_seconds_in_tasks": {name: round(sum(s.cpu_seconds for s in each), 2) for name, each in last.items()},
            "peak_task_mb": {name: round(max(s.peak_bytes for s in each) / 1e6) for name, each in last.items()},
            "heaviest_stages": {name: heaviest(each, 8) for name, each in last.items()},
        },
    }

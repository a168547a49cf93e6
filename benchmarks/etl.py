"""The event log on generated events: cost of ingest + sessionize beside the floor and DuckDB, and how it grows.

Everything runs in one process and one Spark session, warm, the rivals in turn, except what is called cold: there each
job has a process of its own. Cost is CPU time of the whole process tree; figures are medians over the repeats.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from pyspark.sql import SparkSession

from behavior_lib.config import load, load_source
from benchmarks import duck
from benchmarks.eventlog import Stage, between, heaviest, read_stages, shuffled, worst_skew
from benchmarks.jobs import as_words, event_log, promised, run_here, say, scratch
from benchmarks.processes import Cost, ProcessTree, run_cold

DAYS = 100  # so that the last day is the 1 % of the increment
FILES = 16  # about, where a day is not smaller than a file: gzip is not split, so one file is one task
SKEWS = {
    "heavy_user": ["--heavy-user", "0.3"],
    "heavy_item": ["--heavy-item", "0.5"],
    "heavy_day": ["--heavy-day", "0.9"],
    "huge_session": ["--huge-session", "{third}"],
}


@dataclass
class Series:
    """Repeats of one piece of work on a number of raw rows."""

    rows: int
    costs: list[Cost] = field(default_factory=list)

    @property
    def cpu(self) -> float:
        """CPU seconds, the median."""
        return median(cost.cpu_seconds for cost in self.costs)

    def told(self) -> dict[str, Any]:
        """Median, lowest and highest."""
        cpu, seconds = [c.cpu_seconds for c in self.costs], [c.seconds for c in self.costs]
        return {
            "rows": self.rows,
            "cpu_seconds": [round(value, 2) for value in (median(cpu), min(cpu), max(cpu))],
            "seconds": [round(value, 2) for value in (median(seconds), min(seconds), max(seconds))],
            "jit_seconds": round(median(cost.jit_seconds for cost in self.costs), 2),
            "cpu_seconds_per_million": round(self.cpu / self.rows * 1e6, 2),
        }


class Bench:
    """One folder, one Spark session, and the jobs in it."""

    def __init__(self, folder: Path, arguments: argparse.Namespace) -> None:
        self.folder, self.arguments, self.tree = folder, arguments, ProcessTree()
        self.log, self.truths = folder / "eventlog", dict[str, dict[str, Any]]()
        self._places = 0
        self.log.mkdir(parents=True)

    def settings(self, raw: str, place: Path) -> list[str]:
        """What each job is called with."""
        conf = {**event_log(self.log), "spark.sql.shuffle.partitions": str(self.arguments.partitions)}
        changes = {
            "source": "generated",
            "paths.raw": self.folder / "raw" / raw,
            "paths.warehouse": place / "warehouse",
            "paths.var": place / "var",
            "run.show_progress": "false",
            "spark.master": f"local[{self.arguments.cores}]",
            **{f"spark.conf.{key}": value for key, value in conf.items()},
        }
        return as_words(f"{key}={value}" for key, value in changes.items())

    def job(self, name: str, raw: str, place: Path, *words: str) -> dict[str, Any]:
        """`behavior NAME` in this process. Returns its JSON line."""
        return run_here(name, [*self.settings(raw, place), *words])

    def generate(self, raw: str, rows: int, *words: str) -> None:
        """Raw events below raw/NAME/generated."""
        out = str(self.folder / "raw" / raw / "generated")
        given = ["--events", str(rows), "--days", str(DAYS), "--rows-per-file", str(max(1, rows // FILES))]
        given += ["--seed", str(self.arguments.seed), "--out", out]
        told = self.job("generate", raw, self.folder / "generate", *given, *words)
        self.truths[raw] = told["counts"]
        say(f"generated {rows:,} rows of {raw} in {told['seconds']:.0f} s")

    def link_days(self, raw: str, part: str, days: slice) -> None:
        """Some days of generated raw files into another folder of raw files, as hard links."""
        whole, target = (self.folder / "raw" / name / "generated" for name in (raw, part))
        for day in sorted(whole.glob("day=*"))[days]:
            shutil.copytree(day, target / day.name, copy_function=os.link)

    def new_place(self) -> Path:
        """A folder for a warehouse that is not there yet."""
        self._places += 1
        return self.folder / "places" / str(self._places)

    def etl(self, raw: str) -> tuple[Cost, Path]:
        """ingest + sessionize of all raw files into an empty warehouse, checked against what was promised."""
        place, compiled = self.new_place(), jit_seconds()
        with self.tree.measure() as cost:
            rows = self.job("ingest", raw, place)["rows"]
            self.job("sessionize", raw, place)
        cost.jit_seconds = jit_seconds() - compiled
        if rows != promised(self.truths[raw]):
            raise SystemExit(f"ingest counted {rows} in {raw}, {promised(self.truths[raw])} are there")
        say(f"ingest + sessionize of {raw}: {cost.cpu_seconds:.1f} CPU s, {cost.seconds:.1f} s")
        return cost, place

    def floor(self, raw: str) -> Cost:
        """The same raw files read and their rows written as Delta, in the same session, with nothing done to them."""
        spark, place = SparkSession.getActiveSession(), self.new_place()
        assert spark is not None
        paths = [f"paths.{name}={self.folder / 'raw' / raw}" for name in ("raw", "warehouse", "var")]
        source = load_source(load("local", None, ["source=generated", *paths]).config)
        assert source.schema is not None
        with self.tree.measure() as cost:
            spark.read.schema(source.schema).json(source.path).write.format("delta").save(str(place / "floor"))
        shutil.rmtree(place)
        say(f"floor of {raw}: {cost.cpu_seconds:.1f} CPU s, {cost.seconds:.1f} s")
        return cost

    def duckdb(self, raw: str) -> Cost:
        """The same work in DuckDB on the same cores."""
        place = self.new_place()
        with self.tree.measure() as cost:
            counts = duck.run(self.folder / "raw" / raw / "generated", place / "duck", self.arguments.cores)
        shutil.rmtree(place)
        if counts["event"] != self.truths[raw]["events"]:
            raise SystemExit(f"DuckDB found {counts['event']} events in {raw}, {self.truths[raw]['events']} are there")
        say(f"DuckDB of {raw}: {cost.cpu_seconds:.1f} CPU s, {cost.seconds:.1f} s")
        return cost

    def cold(self, raw: str) -> Cost:
        """ingest, then sessionize, each in a process of its own."""
        place, whole = self.new_place(), Cost()
        for name in ("ingest", "sessionize"):
            cost, _ = run_cold(["-m", "behavior_lib.cli", name, "--env", "local", *self.settings(raw, place)])
            whole.cpu_seconds += cost.cpu_seconds
            whole.seconds += cost.seconds
        return whole


def jit_seconds() -> float:
    """What the compiler threads of this session's JVM have taken so far."""
    spark = SparkSession.getActiveSession()
    assert spark is not None
    management = spark.sparkContext._jvm.java.lang.management.ManagementFactory  # type: ignore[union-attr]
    return float(management.getCompilationMXBean().getTotalCompilationTime()) / 1e3


def run(argv: Sequence[str]) -> dict[str, Any]:
    """Measure everything. Returns the six figures and their details, or with --increment-alone the one of them."""
    arguments = parse(argv)
    with scratch(arguments.folder) as folder:
        bench = Bench(folder, arguments)
        sizes = [arguments.events] if arguments.increment_alone else sorted({arguments.events, *arguments.sizes})
        for size in sizes:
            bench.generate(str(size), size)
        for name, words in SKEWS.items() if arguments.skews and not arguments.increment_alone else ():
            third = str(round(arguments.events * 0.3))
            bench.generate(name, arguments.events, *(word.format(third=third) for word in words))
        if arguments.increment_alone:
            return _tell_increment(*_increments(bench))
        series = _measure(bench, sizes)
        spark = SparkSession.getActiveSession()
        assert spark is not None
        spark.stop()  # which writes the end of its event log
        return _tell(bench, series, sizes)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments; what is not given is small enough for some ten minutes on two cores."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks etl", description=__doc__)
    parser.add_argument("--events", type=int, default=4_000_000, help="rows for the ratios")
    parser.add_argument("--sizes", type=int, nargs="*", default=[1_000_000], help="more sizes, for growth")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--warm-ups", type=int, default=1, help="rounds before the first that counts")
    add_arguments(parser)
    parser.add_argument("--no-cold", dest="cold", action="store_false", help="leave the jobs in new processes out")
    parser.add_argument("--no-skews", dest="skews", action="store_false", help="leave the skewed variants out")
    alone = "measure the last day beside all days before it alone: the way for sizes that take an hour"
    parser.add_argument("--increment-alone", action="store_true", help=alone)
    return parser.parse_args(argv)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What every Bench asks for."""
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--partitions", type=int, default=4, help="spark.sql.shuffle.partitions")
    parser.add_argument("--folder", help="where raw files and tables may lie meanwhile (the system's own)")


def _measure(bench: Bench, sizes: list[int]) -> dict[str, Series]:
    arguments = bench.arguments
    events, repeats = arguments.events, arguments.repeats
    names = [
        *(["cold"] if arguments.cold else []),
        "floor",
        "etl",
        "duckdb",
        "replay",
        "increment",
        *(f"etl_{size}" for size in sizes if size != events),
    ]
    series = {name: Series(events) for name in names}
    raw = str(events)
    if arguments.cold:
        series["cold"].costs.append(bench.cold(raw))
    for _ in range(arguments.warm_ups):
        _round(bench, raw)
    place = bench.new_place()
    for _ in range(repeats):
        shutil.rmtree(place, ignore_errors=True)  # of the round before: at 100 million rows it is 20 GB
        floor, (etl, place), other = _round(bench, raw)
        for name, cost in (("floor", floor), ("etl", etl), ("duckdb", other)):
            series[name].costs.append(cost)
    with bench.tree.measure() as cost:
        told = [bench.job(name, raw, place)["status"] for name in ("ingest", "sessionize")]
    if told != ["unchanged", "unchanged"]:
        raise SystemExit(f"a replay was {told}")
    series["replay"].costs.append(cost)
    shutil.rmtree(place)
    series["increment"] = _increments(bench)[1]
    for size in sizes:
        if size != events:
            series[f"etl_{size}"].rows = size
            series[f"etl_{size}"].costs += [bench.etl(str(size))[0] for _ in range(repeats)]
    for name in SKEWS if arguments.skews else ():
        series[name] = Series(events, [bench.etl(name)[0]])
    return series


def _round(bench: Bench, raw: str) -> tuple[Cost, tuple[Cost, Path], Cost]:
    return bench.floor(raw), bench.etl(raw), bench.duckdb(raw)


def _increments(bench: Bench) -> tuple[Series, Series]:
    """All but the last day first; then what is left, into copies of that warehouse. Returns both."""
    whole, base = str(bench.arguments.events), bench.new_place()
    bench.link_days(whole, "part", slice(DAYS - 1))
    with bench.tree.measure() as cost:
        before = Series(bench.job("ingest", "part", base)["rows"]["read"], [cost])
        bench.job("sessionize", "part", base)
    say(f"the days before, {before.rows:,} rows: {cost.cpu_seconds:.1f} CPU s, {cost.seconds:.1f} s")
    bench.link_days(whole, "part", slice(DAYS - 1, None))
    last = Series(0)
    for _ in range(bench.arguments.repeats):
        place = bench.new_place()
        shutil.copytree(base, place)
        with bench.tree.measure() as cost:
            last.rows = bench.job("ingest", "part", place)["rows"]["read"]
            bench.job("sessionize", "part", place)
        shutil.rmtree(place)
        last.costs.append(cost)
        say(f"increment of {last.rows:,} rows: {cost.cpu_seconds:.1f} CPU s, {cost.seconds:.1f} s")
    return before, last


def _tell_increment(before: Series, last: Series) -> dict[str, Any]:
    """What all days would cost is that of the days before, by the row."""
    whole = before.cpu * (before.rows + last.rows) / before.rows
    details = {"before": before.told(), "increment": last.told()}
    return {"increment_ratio": round(last.cpu / whole, 3), "details": details}


def _tell(bench: Bench, series: dict[str, Series], sizes: list[int]) -> dict[str, Any]:
    stages = read_stages(bench.log)

    def stages_of(name: str) -> list[Stage]:
        cost = series[name].costs[-1]
        return between(stages, cost.started, cost.ended)

    events = bench.arguments.events
    by_size = {size: series["etl" if size == events else f"etl_{size}"] for size in sizes}
    per_event = {size: found.cpu / size for size, found in by_size.items()}
    skews = {name: worst_skew(stages_of(name)) for name in (*SKEWS, "etl") if name in series}
    known = [skew for skew in skews.values() if skew is not None]
    largest = "etl" if max(sizes) == events else f"etl_{max(sizes)}"
    return {
        "floor_ratio": round(series["etl"].cpu / series["floor"].cpu, 2),
        "duckdb_ratio": round(series["etl"].cpu / series["duckdb"].cpu, 2),
        "shuffle_bytes_per_event": round(shuffled(stages_of("etl")) / events, 1),
        "task_skew": max(known) if known else None,
        "increment_ratio": round(series["increment"].cpu / series["etl"].cpu, 3),
        "growth": round(per_event[max(sizes)] / per_event[min(sizes)], 3),
        "details": {
            "arguments": vars(bench.arguments),
            "series": {name: found.told() for name, found in series.items()},
            "replay_ratio": round(series["replay"].cpu / series["etl"].cpu, 3),
            "tasks_of": {
                name: _tasks(series[name], stages_of(name)) for name in ("floor", "etl", largest, "increment")
            },
            "cpu_us_per_event": {size: round(value * 1e6, 1) for size, value in per_event.items()},
            "marginal_cpu_us_per_event": _marginal(by_size),
            "shuffle_bytes_per_event": {
                name: round(shuffled(stages_of(name)) / series[name].rows, 1) for name in (*skews, largest)
            },
            "task_skew": skews,
            "task_skew_of_cpu": {name: worst_skew(stages_of(name), of_cpu=True) for name in skews},
            "heaviest_stages": {name: heaviest(stages_of(name)) for name in (*skews, largest, "floor", "increment")},
        },
    }


def _tasks(series: Series, stages: list[Stage]) -> dict[str, float]:
    """How much of the last repeat's CPU time was spent in tasks; the rest is planning, the driver, and the compiler."""
    inside = sum(stage.cpu_seconds for stage in stages)
    return {
        "stages": len(stages),
        "tasks": sum(len(stage.seconds) for stage in stages),
        "cpu_seconds": round(inside, 2),
        "share_of_cpu": round(inside / series.costs[-1].cpu_seconds, 3),
    }


def _marginal(by_size: dict[int, Series]) -> dict[str, float]:
    """CPU µs of each further event between one size and the next: without what every run pays once."""
    sizes = sorted(by_size)
    return {
        f"{low}-{high}": round((by_size[high].cpu - by_size[low].cpu) / (high - low) * 1e6, 1)
        for low, high in pairwise(sizes)
    }

"""The event log of whole data sets against SQL, row for row: Complete Journey at once, Online Retail a day at a time.

The days of Online Retail are taken in order, and into another warehouse in a shuffled order in which none is late;
ingest and sessionize run for each batch. All in one process and one Spark session.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from behavior_lib import cli
from benchmarks.duck_log import COMPLETE_JOURNEY, ONLINE_RETAIL, DuckLog, between
from benchmarks.jobs import COMPILED, INTERPRETED, as_words, run_here, say, scratch

LATE_DAYS = 30
IN_ORDER, SHUFFLED = "in_order", "shuffled"


class Place:
    """One warehouse of one source, and the jobs on it."""

    def __init__(self, folder: Path, raw: Path, source: str, settings: Iterable[str]) -> None:
        self.warehouse, self.seconds = folder / "warehouse", dict[str, float]()
        paths = {"raw": raw, "warehouse": self.warehouse, "var": folder / "var"}
        changes = [f"source={source}", f"late.max_days={LATE_DAYS}", "run.show_progress=false", *settings]
        changes += [f"paths.{name}={path}" for name, path in paths.items()]
        self._settings = as_words(changes)

    def job(self, name: str, *words: str) -> dict[str, Any]:
        """`behavior NAME` in this process. Returns its JSON line; ends the program where the job fails."""
        started = time.monotonic()
        told = run_here(name, [*self._settings, *as_words(words)])
        self.seconds[name] = round(self.seconds.get(name, 0) + time.monotonic() - started, 1)
        return told


def main(argv: Sequence[str]) -> int:
    """Print what was found as one JSON object. Returns 0, or 1 where one comparison differs."""
    told = run(argv)
    for line in differences(told["comparisons"]):
        print(line, file=sys.stderr)
    print(json.dumps(told))
    return 0 if told["equal"] else 1


def run(argv: Sequence[str]) -> dict[str, Any]:
    """Make every comparison that the arguments ask for. Returns them, with counts and seconds."""
    arguments = parse(argv)
    settings = [f"spark.master=local[{arguments.cores}]"]
    comparisons: dict[str, Any] = {}
    figures: dict[str, Any] = {}
    with scratch(arguments.folder) as folder:
        if arguments.complete_journey:
            found, told = complete_journey(folder, [*settings, *COMPILED])
            comparisons |= found
            figures["complete_journey"] = told
        if arguments.online_retail:
            found, told = online_retail(folder, arguments, [*settings, *INTERPRETED])
            comparisons |= found
            figures["online_retail"] = told
    equal = all(table["equal"] for tables in comparisons.values() for table in tables.values())
    return {"equal": equal, "comparisons": comparisons, "figures": figures}


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks oracle", description=__doc__)
    parser.add_argument(
        "--online-retail", type=Path, metavar="FOLDER", help="its day CSVs, YYYY-MM-DD.csv; else left out"
    )
    parser.add_argument("--days", type=int, help="so many days of Online Retail (all)")
    parser.add_argument("--days-per-batch", type=int, default=1, help="how many of them come together")
    orders = (IN_ORDER, SHUFFLED)
    parser.add_argument("--orders", nargs="+", choices=orders, default=orders, help="of the days; both are compared")
    parser.add_argument("--seed", type=int, default=1, help="another seed, another order")
    parser.add_argument("--rebuild", action="store_true", help="make the warehouse of the last order anew, too")
    parser.add_argument("--no-complete-journey", dest="complete_journey", action="store_false", help="leave it out")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--folder", help="where raw files and tables may lie meanwhile (the system's own)")
    arguments = parser.parse_args(argv)
    if not (arguments.complete_journey or arguments.online_retail):
        parser.error("nothing to compare: give --online-retail FOLDER, or leave --no-complete-journey out")
    return arguments


def complete_journey(folder: Path, settings: Iterable[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """All of it in one batch. Returns the comparisons, and counts and seconds."""
    raw = folder / "raw"
    with contextlib.redirect_stdout(sys.stderr):
        if cli.main(["sample", "complete_journey", "--out", str(raw)]):
            raise SystemExit("there is no sample data")
    place = Place(folder / "journey", raw, "complete_journey", settings)
    rows = place.job("ingest", "run.batch_id=all")["rows"]
    place.job("sessionize")
    files = sorted((raw / "complete_journey" / "transactions").rglob("*.json*"))
    return _judged("complete_journey", place, DuckLog(COMPLETE_JOURNEY, [("all", files)], LATE_DAYS), {"all": rows})


def online_retail(
    folder: Path, arguments: argparse.Namespace, settings: Iterable[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Each day a batch (or more in one), in order and shuffled. Returns the comparisons, and counts and seconds."""
    days = sorted(arguments.online_retail.glob("*.csv"))[: arguments.days]
    if not days:
        raise SystemExit(f"no CSV in {arguments.online_retail}")
    size = arguments.days_per_batch
    comparisons: dict[str, Any] = {}
    figures: dict[str, Any] = {}
    places: dict[str, Place] = {}
    orders = {IN_ORDER: days, SHUFFLED: out_of_order(days, arguments.seed, LATE_DAYS)}
    for name in arguments.orders:
        order = orders[name]
        place = places[name] = Place(folder / name, folder / "raw", "online_retail", settings)
        rows = {}
        batches = [(order[first].stem, order[first : first + size]) for first in range(0, len(order), size)]
        for number, (batch_id, files) in enumerate(batches, 1):
            given = f"{arguments.online_retail}/{{{','.join(day.name for day in files)}}}"
            rows[batch_id] = place.job("ingest", f"run.batch_id={batch_id}", f"run.input={given}")["rows"]
            place.job("sessionize")
            if number % 5 == 0:
                say(f"{name}: {number} of {len(batches)} batches, {place.seconds}")
        oracle = DuckLog(ONLINE_RETAIL, batches, LATE_DAYS)
        found, figures[name] = _judged(f"online_retail_{name}", place, oracle, rows)
        comparisons |= found
    if len(places) > 1:
        # Outliers are flagged by the values of a batch: where days share one, the order decides which.
        but = ("batch_id",) if size == 1 else ("batch_id", "flags")
        one, other = (places[name].warehouse for name in (IN_ORDER, SHUFFLED))
        two_orders = comparisons["online_retail_two_orders"] = between(ONLINE_RETAIL, one, other, but)
        say(f"two orders: { {table: found['equal'] for table, found in two_orders.items()} }")
    if arguments.rebuild:
        status = place.job("rebuild")["status"]
        tables = oracle.compare(place.warehouse)
        comparisons["online_retail_rebuilt"] = {**tables, "status": same({"status": "unchanged"}, {"status": status})}
        figures["rebuild"] = {"status": status, "seconds": place.seconds["rebuild"]}
    return comparisons, {"days": len(days), "order": [day.stem for day in order], **figures}


def out_of_order(days: Sequence[Path], seed: int, late_days: int) -> list[Path]:
    """The days in an order drawn from the seed in which none comes after one that is late_days younger.

    Each is delayed by less than late_days, and they come as their delays end. days: files named YYYY-MM-DD.*.
    """
    draw = random.Random(seed)
    delays = {day: draw.random() * late_days for day in sorted(days)}
    return sorted(days, key=lambda day: date.fromisoformat(day.stem).toordinal() + delays[day])


def same(expected: Any, found: Any) -> dict[str, Any]:
    """A comparison of two things that are no tables."""
    is_equal = expected == found
    return {"equal": is_equal, "missing": [] if is_equal else [expected], "surplus": [] if is_equal else [found]}


def differences(comparisons: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """One line for each of the first rows that only one side has."""
    return [
        f"{name}: {table}: {kind}: {json.dumps(row, ensure_ascii=False)}"
        for name, tables in comparisons.items()
        for table, found in tables.items()
        for kind in ("missing", "surplus")
        for row in found[kind]
    ]


def _judged(
    name: str, place: Place, oracle: DuckLog, rows: Mapping[str, Mapping[str, int]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Compare a warehouse, and what ingest told of each batch, with the oracle."""
    started, expected = time.monotonic(), oracle.counts()
    wrong = [batch for batch in expected if expected[batch] != rows.get(batch)]
    counted = same({batch: expected[batch] for batch in wrong[:3]}, {batch: rows.get(batch) for batch in wrong[:3]})
    tables = {**oracle.compare(place.warehouse), "counts_of_batches": counted}
    summed = {kind: sum(row[kind] for row in rows.values()) for kind in next(iter(rows.values()))}
    told = {"rows": summed, "seconds": {**place.seconds, "compare": round(time.monotonic() - started, 1)}}
    say(f"{name}: {told}, {'equal' if all(table['equal'] for table in tables.values()) else 'NOT equal'}")
    return {name: tables}, told

"""ingest and sessionize on a standalone cluster that loses a worker midway, beside the same jobs left in peace."""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
from deltalake import DeltaTable

from behavior_lib.tables import EVENTS, EVENTS_QUARANTINE, SESSIONS, TableSpec
from benchmarks.eventlog import Disturbance, disturbance
from benchmarks.jobs import as_words, promised, say, scratch
from benchmarks.processes import run_cold
from benchmarks.standalone import Standalone, parquet_files, standalone

# The day on which a batch was accepted is the one thing that two runs of it may differ in.
_OF_THE_RUN = {EVENTS_QUARANTINE.ingest_date}
_LATEST = 0.6  # the part of the days whose files may be there when the worker dies: enough is left to be done


@dataclass
class Kill:
    """A worker whose executor writes events, ended by kill -9 with it once so many data files lie in their folder.

    So a task that writes is lost for certain, and with it the map outputs of the stages before it.
    """

    cluster: Standalone
    events: Path
    files: int
    worker: int | None = None
    at: float = 0.0
    executors: int = 0
    started: float = field(default_factory=time.time)

    def __call__(self) -> bool:
        """Whether the time had come."""
        if parquet_files(self.events) < self.files:
            return False
        self.worker = self.cluster.writer(self.events)
        if self.worker is None:
            return False
        self.executors = self.cluster.kill_worker(self.worker)
        self.at = time.time()
        return True

    def told(self, seen: Disturbance) -> dict[str, Any]:
        """What was killed, when, and which stages were running then."""
        seconds = round(self.at - self.started, 1) if self.at else None
        figures = {"worker": self.worker, "executors": self.executors, "files_of_events": self.files}
        return {**figures, "seconds": seconds, "running": seen.running_at(self.at)}


def lose_a_worker(
    folder: Path, raw: Path, days: int, seed: int, more: Sequence[str] = (), **sizes: int
) -> dict[str, Any]:
    """Take the generated rows below `raw` twice, on a cluster that loses a worker and in local mode, and compare.

    days: UTC days of the rows, each of which becomes at least one file. more: settings of all jobs. sizes: of the
    cluster. Returns the figures, `equal` among them.
    """
    draw = random.Random(f"cluster {seed}")
    calm, shaken = folder / "calm", folder / "shaken"
    seconds, counted = {}, {}
    for job in ("ingest", "sessionize"):
        cost, last = run_cold(["-m", "behavior_lib.cli", job, "--env", "local", *settings(raw, calm, more)])
        seconds[f"local_{job}"], counted[f"local_{job}"] = round(cost.seconds, 1), json.loads(last)["rows"]
    with standalone(folder / "cluster", **sizes) as cluster:
        events = shaken / "warehouse" / EVENTS.name
        kill = Kill(cluster, events, draw.randint(1, max(1, round(_LATEST * days))))
        codes, errors = {}, {}
        for job, meanwhile in (("ingest", kill), ("sessionize", None)):
            done = cluster.submit(job, ["--env", "cluster", *settings(raw, shaken, more)], meanwhile)
            seconds[job], counted[job], codes[job] = round(done.seconds, 1), done.told.get("rows"), done.code
            errors[job] = done.told.get("error")
        seen = disturbance(cluster.log)
    tables = {spec.name: [content(place, spec) for place in (calm, shaken)] for spec in (EVENTS, SESSIONS)}
    tables[EVENTS_QUARANTINE.name] = [content(place, EVENTS_QUARANTINE) for place in (calm, shaken)]
    return {
        "killed": kill.told(seen),
        "seconds": seconds,
        "retried": seen.told(),
        "exit_codes": codes,
        "errors": {job: error for job, error in errors.items() if error},
        "rows": counted["ingest"],
        "tables": {name: {"calm": one, "shaken": other} for name, (one, other) in tables.items()},
        "equal": kill.executors > 0
        and counted["ingest"] == counted["local_ingest"] == expected(raw)
        and not any(codes.values())
        and tables[EVENTS.name][1]["keys"] == expected(raw)["accepted"]
        and all(one == other for one, other in tables.values()),
    }


def settings(raw: Path, place: Path, more: Sequence[str] = ()) -> list[str]:
    """What each job is called with. The batch has a name, so that both runs give it the same one."""
    changes = {
        "source": "generated",
        "paths.raw": raw,
        "paths.warehouse": place / "warehouse",
        "paths.var": place / "var",
        "run.batch_id": "one",
        "run.show_progress": "false",
    }
    return as_words([*(f"{key}={value}" for key, value in changes.items()), *more])


def expected(raw: Path) -> dict[str, int]:
    """What ingest must count, by the generator."""
    return promised(json.loads((raw / "generated" / "_truth.json").read_text(encoding="utf-8"))["counts"])


def content(place: Path, spec: TableSpec) -> dict[str, int]:
    """Rows and distinct keys of a table, and the sum of a hash over all columns of each row, whatever their order."""
    table = place / "warehouse" / spec.name
    files = DeltaTable(str(table)).file_uris() if DeltaTable.is_deltatable(str(table)) else []
    if not files:
        return {"rows": 0, "keys": 0, "hash": 0}
    kept = ", ".join(name for name in spec.column_names if name not in _OF_THE_RUN)
    query = f"""select count(*), count(distinct ({", ".join(spec.key)})), sum(hash(({kept}))::hugeint)
                from read_parquet(?, hive_partitioning=true)"""
    with duckdb.connect() as connection:
        found = connection.execute(query, [files]).fetchone()
    assert found is not None
    return dict(zip(("rows", "keys", "hash"), map(int, found), strict=True))


def generate(folder: Path, events: int, seed: int) -> tuple[Path, int]:
    """Raw rows. Returns the folder for paths.raw, and the number of UTC days that the generator was asked for."""
    raw = folder / "raw"
    words = ["--env", "local", *settings(raw, folder / "generate"), "--events", str(events), "--seed", str(seed)]
    _, last = run_cold(["-m", "behavior_lib.cli", "generate", *words, "--out", str(raw / "generated")])
    return raw, int(json.loads(last)["knobs"]["days"])


def run(argv: Sequence[str]) -> dict[str, Any]:
    """Generate, run, kill, compare. Returns the figures."""
    arguments = parse(argv)
    with scratch(arguments.folder) as folder:
        raw, days = generate(folder, arguments.events, arguments.seed)
        say(f"generated {arguments.events:,} rows")
        return {"events": arguments.events, **lose_a_worker(folder, raw, days, arguments.seed)}


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks cluster", description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000, help="raw rows")
    parser.add_argument("--seed", type=int, default=1, help="of the rows, and of what is killed when")
    parser.add_argument("--folder", help="where raw files and tables may lie meanwhile (the system's own)")
    return parser.parse_args(argv)

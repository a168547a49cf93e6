"""What every job shares: arguments, configuration, session, tables, ledger, the JSON line and the exit code."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark.sql import SparkSession

from behavior_lib.arguments import Parser, add_configuration
from behavior_lib.config import Config, Loaded, SourceConfig, load, load_source
from behavior_lib.config.train import LauncherName
from behavior_lib.errors import BehaviorError, ConfigError, DataRefused, EnvironmentProblem, Occupied
from behavior_lib.locks import hold, lock_path
from behavior_lib.progress import Progress
from behavior_lib.spark.failures import explain
from behavior_lib.spark.history import has_same_rows
from behavior_lib.spark.ledger import BUILD, FAILED, Ledger, RunRecord, Summary
from behavior_lib.spark.session import start_session
from behavior_lib.spark.tables import Tables
from behavior_lib.tables import ALL_TABLES, SEQUENCES, TableSpec
from behavior_lib.tables import PIPELINE_RUNS as RUNS

if TYPE_CHECKING:
    from behavior_lib.train.external import Ranks


class Job:
    """One run of one job: everything that its `run` function may use.

    ranks: those that wait to train with this process, where another launcher started them.
    """

    def __init__(self, name: str, loaded: Loaded, ranks: Ranks | None = None) -> None:
        self.name, self.ranks = name, ranks
        self.loaded = loaded
        self.config: Config = loaded.config
        self.source: SourceConfig = load_source(loaded.config)
        self.started_at = datetime.now(timezone.utc)
        self.run_id = uuid.uuid4().hex
        self.progress = Progress(name, loaded.config.run.show_progress)
        _check_writable(self.config.paths.warehouse)
        _check_writable(self.config.paths.var)

    @cached_property
    def spark(self) -> SparkSession:
        """The session, started at the first use."""
        with self.progress.step("starting Spark"):
            return start_session(f"behavior {self.name}", self.config.spark)

    @property
    def has_started(self) -> bool:
        """Whether anything has needed the session so far."""
        return "spark" in vars(self)

    @cached_property
    def tables(self) -> Tables:
        """The tables of the configured warehouse or catalog."""
        return Tables(self.spark, self.config.paths.warehouse, self.config.tables.catalog)

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger of runs."""
        return Ledger(self.spark, self.tables)

    def last_version(self, spec: TableSpec, config_hash: str) -> int | None:
        """The version of a table that the last good run of this job on this source read; None where there is none, or
        where its configuration was another.
        """
        row = self.ledger.last_success(self.name, self.source.name)
        return None if row is None or row[RUNS.config_hash] != config_hash else row[RUNS.input_versions].get(spec.name)

    def is_done(self, inputs: Mapping[str, int], config_hash: str) -> bool:
        """Whether the last good run of this job on this source had the same inputs and configuration."""
        row = self.ledger.last_success(self.name, self.source.name)
        return (
            row is not None
            and row[RUNS.config_hash] == config_hash
            and row[RUNS.input_versions].keys() == inputs.keys()
            and all(self.has_same_rows(name, row[RUNS.input_versions][name], inputs[name]) for name in inputs)
        )

    def check_sequences(self) -> None:
        """Raises DataRefused where SEQUENCES hold the rows of another source, which they do not say themselves."""
        owner = self.sequences_owner()
        if owner not in (None, self.source.name):
            mend = f"make those of {self.source.name}, or give each source a warehouse of its own: behavior {BUILD}"
            raise DataRefused("the newest build was another source's", where=SEQUENCES.name, value=owner, mend=mend)

    def sequences_owner(self) -> str | None:
        """The source of the newest build of SEQUENCES; None where the ledger has none."""
        return self.ledger.newest_source(BUILD, SEQUENCES)

    def has_same_rows(self, table: str, one: int, other: int) -> bool:
        """Whether two versions of the table of that name hold the same rows: maintenance makes versions too."""
        spec = next((spec for spec in ALL_TABLES if spec.name == table), None)
        return one == other if spec is None else has_same_rows(self.spark, self.tables, spec, one, other)

    def config_hash(self, *sections: str, makes: TableSpec | None = None) -> str:
        """Hash of what a job reads: the sections of the configuration, and the source's YAML.

        makes: a table whose columns take part, so that one from before a column came is made again.
        """
        text = f"{self.loaded.digest(*sections)} {self.source!r}"
        if makes is not None:
            text += f" {makes.column_names}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @contextmanager
    def alone(self, work: str) -> Iterator[None]:
        """Inside, no other process does the same work on this source. Only local warehouses need and have locks:
        elsewhere the second writer's commit is refused.

        Raises Occupied where another run goes on for longer than run.wait_minutes.
        """
        warehouse = self.config.paths.warehouse
        if self.config.tables.catalog is not None or "://" in warehouse:
            yield
            return
        name = re.sub(r"[^\w.-]", "_", f"{work}-{self.source.name}")
        holder = f"{self.name} of source {self.source.name}"
        with hold(lock_path(warehouse, name), holder, 60 * self.config.run.wait_minutes):
            yield

    def record_also(self, summary: Summary) -> None:
        """Write a line of its own for work that an earlier run had left, beside the line that this run ends with."""
        self.record_as(self.name, summary)

    def record_as(self, name: str, summary: Summary) -> None:
        """Write a line for another job, whose work this run has done."""
        line = RunRecord(uuid.uuid4().hex, name, self.source.name, self.started_at)
        self.ledger.write(line, summary, summary.config_hash or self.config_hash())

    @property
    def record(self) -> RunRecord:
        """What the ledger stores of this run's identity."""
        return RunRecord(self.run_id, self.name, self.source.name, self.started_at)


Run = Callable[[Job], Summary]


def main(run: Run, argv: Sequence[str] | None = None) -> int:
    """Run one job for the command line: the last line of standard output is its JSON object. Returns the exit code.

    Where another launcher started this command as one of many ranks, rank 0 alone runs the job and tells of it.
    """
    name = Path(run.__code__.co_filename).stem
    started = time.monotonic()
    log, withhold, ranks = None, False, None
    try:
        arguments = parse_arguments(name, run.__module__, argv)
        loaded = load(arguments.env, name, arguments.set)
        log, withhold = loaded.config.paths.var, loaded.config.privacy.pseudonymize
        ranks = _gather(loaded.config, run.__module__)
        if ranks is not None and ranks.rank:
            ranks.follow()
            return 0
        if ranks is not None:
            ranks.check(loaded.config.train.workers)
        told = execute(Job(name, loaded, ranks), run)
    except (Exception, KeyboardInterrupt) as error:
        known = explain(error, withhold=withhold)
        _keep_trace(log, name, error, withhold)
        print(f"error: {known}", file=sys.stderr)
        told = {"job": name, "status": FAILED, "seconds": round(time.monotonic() - started, 3), "error": str(known)}
        if ranks is None or not ranks.rank:
            print(json.dumps(told, ensure_ascii=False), flush=True)
        return known.exit_code
    finally:
        if ranks is not None:
            ranks.release()
    print(json.dumps(told, ensure_ascii=False), flush=True)
    return 0


def _gather(config: Config, module: str) -> Ranks | None:
    """The ranks that another launcher started, where it did and the job of that module TRAINS."""
    if config.train.launcher is not LauncherName.external or not getattr(sys.modules.get(module), "TRAINS", False):
        return None
    from behavior_lib.train.external import gather

    return gather(config.train)


def exit_with(code: int) -> None:
    """End the process only where something failed: some hosted notebooks take sys.exit(0) for a failure."""
    if code:
        sys.exit(code)


def execute(job: Job, run: Run) -> dict[str, Any]:
    """Run one job and write its line into the ledger, also where it fails. Returns the JSON object's content.

    A run whose configuration is refused before it needs Spark leaves no line, as one whose configuration is unreadable.
    """
    started = time.monotonic()
    try:
        with job.alone(getattr(sys.modules.get(run.__module__), "WORK", job.name)):
            summary = run(job)
    except Occupied:
        # The run at work has the tables: this one has nothing to tell them.
        raise
    except BaseException as error:
        # Without Spark no table was touched: starting it for a line alone would have the person wait for the answer.
        if not isinstance(error, ConfigError) or job.has_started:
            # The ledger is kept for ever: what Spark repeats from the data may be somebody's id.
            _record_failure(job, explain(error, withhold=True))
        raise
    version = job.ledger.write(job.record, summary, summary.config_hash or job.config_hash())
    summary.afterwards()
    rows = {} if summary.rows is None else vars(summary.rows)
    return {
        "job": job.name,
        "run_id": job.run_id,
        "status": summary.status,
        "seconds": round(time.monotonic() - started, 3),
        "rows": dict(rows),
        "tables": {**summary.tables, RUNS.name: version},
        "metrics": dict(summary.metrics),
        **summary.extra,
    }


def parse_arguments(job: str, module: str, argv: Sequence[str] | None) -> argparse.Namespace:
    """--env NAME and --set KEY=VALUE, the same for every job, and the FLAGS of the job's module: short for settings.

    A setting that ends in `=` is one whose value comes after the flag.
    """
    document = sys.modules[module].__doc__ if module in sys.modules else None
    parser = Parser(prog=f"behavior {job}", description=document)
    add_configuration(parser)
    for flag, setting in getattr(sys.modules.get(module), "FLAGS", {}).items():
        takes, value = {"action": "append_const", "const": setting}, ""
        if setting.endswith("="):
            takes, value = {"action": "append", "type": f"{setting}{{}}".format, "metavar": "VALUE"}, "VALUE"
        parser.add_argument(flag, dest="set", help=f"short for --set {setting}{value}", **takes)
    return parser.parse_args(argv)


def _record_failure(job: Job, error: BehaviorError) -> None:
    """The failure's own sentence matters more than a ledger that cannot be written."""
    try:
        job.ledger.write(job.record, Summary(batch_id=job.config.run.batch_id), job.config_hash(), str(error))
    except Exception as second:
        print(f"the ledger could not be written: {explain(second)}", file=sys.stderr)


def _keep_trace(folder: str | None, name: str, error: BaseException, withhold: bool) -> None:
    """Stack traces are for the one who mends the code: a file, not the screen.

    withhold: without the exception's message, which may repeat a value of the data.
    """
    if folder is None or isinstance(error, BehaviorError):
        return
    path = Path(folder) / "logs" / f"{name}-{datetime.now(timezone.utc):%Y%m%dT%H%M%S%f}.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        told = traceback.format_tb(error.__traceback__) if withhold else traceback.format_exception(error)
        path.write_text("".join([*told, f"{type(error).__name__}\n"]), encoding="utf-8")
    except OSError:
        return
    print(f"stack trace: {path}", file=sys.stderr)


def _check_writable(folder: str) -> None:
    """Refuse early, in one sentence, a local folder that cannot be written."""
    if "://" in folder:
        return
    path = Path(folder.removeprefix("file:"))
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        mend = "choose another with --set paths.…"
        raise EnvironmentProblem("a folder cannot be made", where=str(path), value=error.strerror, mend=mend) from None
    if not os.access(path, os.W_OK | os.X_OK):
        mend = "choose another with --set paths.… or change its rights"
        raise EnvironmentProblem("a folder cannot be written", where=str(path), mend=mend)

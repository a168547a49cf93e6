"""Jobs as the benchmarks run them: their settings, a run in this process, and what the generator promises of it."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from behavior_lib import cli

# Of a few thousand rows, compiling a plan would take longer than running it.
INTERPRETED = ("spark.conf.spark.sql.codegen.wholeStage=false", "spark.conf.spark.sql.codegen.factoryMode=NO_CODEGEN")
COMPILED = ("spark.conf.spark.sql.codegen.wholeStage=true", "spark.conf.spark.sql.codegen.factoryMode=FALLBACK")


@contextlib.contextmanager
def scratch(folder: str | None) -> Iterator[Path]:
    """An empty folder below the given one, which is made, or below the system's own; gone afterwards."""
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        yield Path(name)


def as_words(changes: Iterable[str]) -> list[str]:
    """KEY=VALUE settings as the command line has them."""
    return [word for change in changes for word in ("--set", change)]


def event_log(folder: Path) -> dict[str, str]:
    """Spark settings that write what `benchmarks.eventlog` reads."""
    given = {"enabled": "true", "dir": folder.as_uri(), "compress": "false", "rolling.enabled": "false"}
    return {f"spark.eventLog.{key}": value for key, value in given.items()}


def run_here(name: str, words: Iterable[str], allowed: Iterable[int] = (0,)) -> dict[str, Any]:
    """`behavior NAME --env local` in this process. Returns its JSON line; ends the program where the job fails.

    allowed: exit codes that are no failure.
    """
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = cli.main([name, "--env", "local", *words])
    last = said.getvalue().strip().splitlines()[-1]
    if code not in allowed:
        raise SystemExit(f"{name} ended with exit code {code}: {last}")
    return dict(json.loads(last))


def promised(counts: Mapping[str, int]) -> dict[str, int]:
    """What ingest must count of generated rows in one batch. counts: of the generator."""
    rows = {"read": counts["rows"], "accepted": counts["events"], "duplicate": counts["duplicates"]}
    return {**rows, "quarantined": counts["bad"], "late": 0, "conflict": 0}


def say(text: str) -> None:
    """One line on standard error."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)

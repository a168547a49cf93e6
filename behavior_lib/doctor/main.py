"""`behavior doctor`: every check, one line each, and one JSON object at the end."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from behavior_lib.arguments import Parser, add_configuration
from behavior_lib.doctor import machine
from behavior_lib.doctor.checks import Check, Finding, examine
from behavior_lib.doctor.java import INSTALL_JAVA
from behavior_lib.doctor.processes import python_module, run_probe
from behavior_lib.errors import ConfigError

# Past this a probe counts as hanging; each takes 3 to 15 seconds where all is well.
LIMIT_SECONDS = 120.0
_PROBES = "behavior_lib.doctor.probes"
_WITHOUT_HOROVOD = f"{machine.SET_UP}, or train without Horovod: `--set train.communicator=torch`"


def main(argv: Sequence[str] | None = None) -> int:
    """Check this machine. Returns 0 where all is well, 1 where a check fails, 2 where the arguments are wrong."""
    started = time.monotonic()
    try:
        arguments = _parse(argv)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    findings = []
    for finding in find(list_checks(arguments.env, arguments.set)):
        findings.append(finding)
        if not arguments.json:
            show(finding)
    all_well = all(finding.ok for finding in findings)
    told: dict[str, Any] = {
        "job": "doctor",
        "run_id": uuid.uuid4().hex,
        "status": "succeeded" if all_well else "failed",
        "seconds": round(time.monotonic() - started, 3),
        "rows": {},
        "tables": {},
        "metrics": {},
        "checks": [asdict(finding) for finding in findings],
    }
    print(json.dumps(told, ensure_ascii=False), flush=True)
    return 0 if all_well else 1


def list_checks(env: str, changes: Sequence[str]) -> list[Check]:
    """Every check, the quick ones first. env, changes: what --env and --set say, to check that configuration too."""
    probe = partial(run_probe, limit_seconds=LIMIT_SECONDS)
    ranks = [*python_module("horovod.runner.launch"), "--gloo", "-np", "2", "-H", "localhost:2"]
    ranks += python_module(f"{_PROBES}.allreduce")
    petastorm, mlflow = python_module(f"{_PROBES}.petastorm_read"), python_module(f"{_PROBES}.mlflow_run")
    delta = python_module("behavior_lib.spark.doctor")
    set_up = machine.SET_UP
    return [
        Check("python", machine.look_at_python, set_up),
        Check("java", machine.look_at_java, INSTALL_JAVA),
        Check("memory", machine.look_at_memory, "end other programs"),
        Check("disk", lambda: machine.look_at_disk(_folders(env, changes)), "free some disk"),
        Check("packages", machine.look_at_packages, set_up),
        Check("configuration", lambda: _look_at_configuration(env, changes), set_up),
        Check("delta", lambda: probe(delta, set_up), set_up),
        Check("petastorm", lambda: probe(petastorm, set_up), set_up),
        Check("horovod", lambda: probe(ranks, _WITHOUT_HOROVOD), _WITHOUT_HOROVOD),
        Check("mlflow", lambda: probe(mlflow, set_up), set_up),
    ]


def find(checks: Iterable[Check]) -> Iterator[Finding]:
    """Examine two at a time, and tell of them in their order, each as soon as it is known."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        yield from pool.map(examine, checks)


def show(finding: Finding) -> None:
    """One line on standard error, coloured on a terminal."""
    word, colour = ("ok", "green") if finding.ok else ("FAIL", "bold red")
    try:
        from rich.console import Console
        from rich.text import Text
    except ImportError:
        print(f"{word:<4}  {finding.name:<13}  {finding.sentence}", file=sys.stderr, flush=True)
        return
    line = Text.assemble((f"{word:<4}", colour), f"  {finding.name:<13}  {finding.sentence}")
    Console(stderr=True, soft_wrap=True, highlight=False).print(line)


def _look_at_configuration(env: str, changes: Sequence[str]) -> str:
    from behavior_lib.config import load

    return f"env {env}, source {load(env, None, list(changes)).config.source}"


def _folders(env: str, changes: Sequence[str]) -> dict[str, Path]:
    """What the jobs write into; the current folder where the configuration, which has a check of its own, is broken."""
    try:
        from behavior_lib.config import load

        results = load(env, None, list(changes)).config.paths.var
    except Exception:
        results = "."
    local = Path(".") if "://" in results else Path(results)
    return {"tables and models": local, "temporary files": Path(tempfile.gettempdir())}


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="behavior doctor", description="Check that this machine can run the jobs.")
    add_configuration(parser)
    parser.add_argument("--json", action="store_true", help="print the JSON object alone")
    return parser.parse_args(argv)

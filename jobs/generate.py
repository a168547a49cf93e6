"""Write raw events, seeded, of any number: zipf users, duplicates, late and bad rows, silences at a session's edge."""

import argparse
import json
import shutil
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import Any

from behavior_lib.arguments import Parser, add_configuration
from behavior_lib.config import load
from behavior_lib.config.generator import FORMATS, GeneratorConfig, knobs, truth
from behavior_lib.errors import ConfigError
from behavior_lib.progress import Progress
from behavior_lib.spark.failures import explain
from behavior_lib.spark.generate import raw_rows, row_numbers, write_rows
from behavior_lib.spark.job import exit_with
from behavior_lib.spark.session import start_session

TRUTH = "_truth.json"  # hidden from readers of the rows by its underscore


def main(argv: Sequence[str] | None = None) -> int:
    """Write the rows and what must be found in them. The last line of standard output is one JSON object."""
    started = time.monotonic()
    told: dict[str, Any] = {"job": "generate", "run_id": uuid.uuid4().hex}
    code = 0
    try:
        arguments = _parse(argv)
        config = GeneratorConfig(**{name: getattr(arguments, name) for name, *_ in knobs()})
        told |= {"status": _write(arguments, config), "out": arguments.out, **truth(config)}
    except (Exception, KeyboardInterrupt) as error:
        known = explain(error)
        print(f"error: {known}", file=sys.stderr)
        told |= {"status": "failed", "error": str(known)}
        code = known.exit_code
    seconds = round(time.monotonic() - started, 3)
    rows = {"written": told["counts"]["rows"]} if code == 0 else {}
    print(json.dumps({**told, "seconds": seconds, "rows": rows, "tables": {}, "metrics": {}}), flush=True)
    return code


def _write(arguments: argparse.Namespace, config: GeneratorConfig) -> str:
    loaded = load(arguments.env, "generate", arguments.set)
    progress = Progress("generate", loaded.config.run.show_progress)
    is_local = "://" not in arguments.out
    out = Path(arguments.out)
    if is_local and _is_there(out, config):
        progress.say("these rows are there")
        return "unchanged"
    # Written aside and renamed, so that a folder of this name is always whole.
    aside = out.absolute().with_name(f".{out.name}.partial")
    if is_local:
        shutil.rmtree(aside, ignore_errors=True)
    with progress.step("starting Spark"):
        spark = start_session("behavior generate", loaded.config.spark)
    with progress.step(f"writing {config.events:,} rows"):
        write_rows(raw_rows(row_numbers(spark, config), config), config, str(aside) if is_local else arguments.out)
    if is_local:
        (aside / TRUTH).write_text(json.dumps(truth(config), indent=2) + "\n", encoding="utf-8")
        aside.rename(out)
    return "succeeded"


def _is_there(out: Path, config: GeneratorConfig) -> bool:
    """Whether the folder holds these very rows. Raises ConfigError where it holds something else."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    known = out / TRUTH
    if known.is_file() and json.loads(known.read_text(encoding="utf-8")) == truth(config):
        return True
    raise ConfigError(
        "the folder holds something else", where="--out", value=str(out), mend="remove it or name another"
    )


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="behavior generate", description=__doc__)
    add_configuration(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to make; a URI is not checked for old rows")
    for name, kind, default, meaning in knobs():
        is_required = default is MISSING
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type={"int": int, "int | None": int, "float": float, "str": str}[str(kind)],
            choices=FORMATS if name == "format" else None,
            required=is_required,
            default=None if is_required else default,
            metavar=None if name == "format" else "X",
            help=meaning if is_required or default is None else f"{meaning} ({default})",
        )
    return parser.parse_args(argv)


if __name__ == "__main__":
    exit_with(main())

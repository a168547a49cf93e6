"""Show what a raw source looks like, and write a first YAML for it."""

import argparse
import json
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from behavior_lib.arguments import Parser, add_configuration
from behavior_lib.config import load
from behavior_lib.errors import ConfigError, DataRefused
from behavior_lib.profile import show
from behavior_lib.progress import Progress
from behavior_lib.spark.failures import explain
from behavior_lib.spark.ledger import FAILED, SUCCEEDED
from behavior_lib.spark.profile_files import Raw, find_raw
from behavior_lib.spark.profile_run import Profile, look
from behavior_lib.spark.session import start_session


def main(argv: Sequence[str] | None = None) -> int:
    """Look at raw files. The last line of standard output is a JSON object; returns the exit code."""
    started = time.monotonic()
    told: dict[str, Any] = {"job": "profile", "run_id": uuid.uuid4().hex, "status": SUCCEEDED}
    code = 0
    try:
        found = _run(_parse(argv))
    except (Exception, KeyboardInterrupt) as error:
        known = explain(error)
        print(f"error: {known}", file=sys.stderr)
        code, found = known.exit_code, {"status": FAILED, "error": str(known)}
    told["seconds"] = round(time.monotonic() - started, 3)
    print(json.dumps({**told, **found}, ensure_ascii=False), flush=True)
    return code


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="behavior profile", description=__doc__)
    parser.add_argument("--source", metavar="NAME", help="a source in conf/sources, a YAML file, or raw files")
    parser.add_argument("--input", metavar="PATH", help="raw files: a file, folder or glob")
    parser.add_argument("--format", metavar="NAME", help="json, csv or parquet (guessed)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the YAML here")
    parser.add_argument("--force", action="store_true", help="replace that file where it is there already")
    add_configuration(parser)
    return parser.parse_args(argv)


def _run(arguments: argparse.Namespace) -> dict[str, Any]:
    _check_out(arguments.out, arguments.force)
    loaded = load(arguments.env, None, arguments.set)
    progress = Progress("profile", loaded.config.run.show_progress)
    with progress.step("starting Spark"):
        spark = start_session("behavior profile", loaded.config.spark)
    found = find_raw(spark, loaded.config, arguments.source, arguments.input, arguments.format)
    profile = look(spark, found, loaded, progress)
    _show(profile, found, progress)
    if arguments.out is not None:
        if profile.text is None:
            mend = "write the source by hand, after conf/sources/complete_journey.yaml"
            missing = ", ".join(profile.guesses.missing)
            raise DataRefused("no column was found for what an event needs", value=missing, mend=mend)
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(profile.text, encoding="utf-8")
        progress.say(f"written: {arguments.out}. Read it, then: behavior ingest --set source={arguments.out}")
    elif profile.text is not None:
        progress.show(Text(f"\n{profile.text}"))
        progress.say("add --out FILE.yaml to keep this draft")
    return _told(profile, arguments.out)


def _check_out(out: Path | None, force: bool) -> None:
    """Refuse a bad file before anything is read."""
    if out is None:
        return
    if out.suffix not in (".yaml", ".yml"):
        raise ConfigError("a source is a YAML file", where="--out", value=str(out), mend="let its name end in .yaml")
    if out.exists() and not force:
        mend = "add --force to replace it, or choose another"
        raise ConfigError("the file is there already", where="--out", value=str(out), mend=mend)


def _show(profile: Profile, found: Raw, progress: Progress) -> None:
    described = " ".join([found.format.name, *(f"{key}={value!r}" for key, value in found.format.options.items())])
    progress.show(show.rows_table(profile.rows, f"{described}, {found.format.reason}"))
    progress.show(show.columns_table(profile.columns, profile.guesses))
    if profile.events is None or profile.gap is None or profile.trial is None:
        missing = ", ".join(profile.guesses.missing)
        progress.warn(f"no column was found for {missing}: no draft can be made, write the source by hand")
        return
    progress.show(show.events_table(profile.events))
    progress.show(show.gaps_table(profile.events, profile.gap))
    progress.show(show.guesses_table(profile.guesses, profile.key, profile.key_reason))
    progress.show(show.trial_table(profile.trial))


def _told(profile: Profile, out: Path | None) -> dict[str, Any]:
    rows, trial, events = profile.rows, profile.trial, profile.events
    told: dict[str, Any] = {
        "rows": {"read": rows.rows, "unreadable": rows.unreadable, "exact_duplicates": rows.duplicates},
        "tables": {},
        "metrics": {} if events is None else {"users": events.users, "events_per_user_median": events.per_user_median},
        "columns": list(show.as_json(profile.columns)),
        "guesses": {name: found.expression for name, found in profile.guesses.found.items()},
        "key": profile.key,
        "yaml": None if out is None else str(out),
    }
    if events is not None and trial is not None and profile.gap is not None:
        told |= {"session_gap": profile.gap.gap, "event_types": dict(events.types), "trial": vars(trial)}
    return told


if __name__ == "__main__":
    code = main()
    if code:
        sys.exit(code)

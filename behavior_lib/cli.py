"""`behavior COMMAND`: the jobs, and what needs no Spark: config, sample."""

from __future__ import annotations

import difflib
import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

from behavior_lib.arguments import Parser, add_configuration
from behavior_lib.errors import BehaviorError, ConfigError
from behavior_lib.layout import jobs_root
from behavior_lib.version import __version__

# spark-submit puts the folder of the jobs first on the path: a file profile.py there would hide Python's own module of
# that name from every job.
_TYPED_AS = {"profile_source": "profile"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit code: 0 done, 2 usage or configuration, 3 data refused, 1 anything else."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0
    if arguments[0] == "--version":
        print(__version__)
        return 0
    command, rest = arguments[0], arguments[1:]
    try:
        return _find(command)(rest)
    except BehaviorError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def load_job(name: str) -> ModuleType:
    """The module of jobs/<name>.py. Raises ConfigError naming the nearest job where there is none."""
    path = _job_file(name)
    module = sys.modules.get(f"behavior_lib.jobs.{name}")
    if module is not None:
        return module
    spec = importlib.util.spec_from_file_location(f"behavior_lib.jobs.{name}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise _unknown(name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def job_names() -> list[str]:
    """The jobs that can be typed."""
    stems = (path.stem for path in jobs_root().glob("*.py") if not path.stem.startswith("_"))
    return sorted(_TYPED_AS.get(stem, stem) for stem in stems)


def _job_file(name: str) -> Path:
    stem = next((stem for stem, typed in _TYPED_AS.items() if typed == name), name)
    return jobs_root() / f"{stem}.py"


def _find(command: str) -> Callable[[list[str]], int]:
    if command in _COMMANDS:
        return _COMMANDS[command]
    if command not in job_names():
        raise _unknown(command)
    return lambda rest: _run_job(command, rest)


def _run_job(name: str, rest: list[str]) -> int:
    module = load_job(name)
    if hasattr(module, "main") and not hasattr(module, "run"):
        return int(module.main(rest))
    from behavior_lib.spark.job import main as run_main

    return run_main(module.run, rest)


def _config(rest: list[str]) -> int:
    """Print the merged configuration and where each value came from."""
    from behavior_lib.config import load

    parser = Parser(prog="behavior config", description=_config.__doc__)
    add_configuration(parser)
    parser.add_argument("--job", default=None, metavar="JOB", help="with the keys of conf/jobs/JOB.yaml")
    arguments = parser.parse_args(rest)
    print("\n".join(load(arguments.env, arguments.job, arguments.set).lines()))
    return 0


def _sample(rest: list[str]) -> int:
    """Write sample data as a company would receive it."""
    from behavior_lib import samples

    parser = Parser(prog="behavior sample", description=_sample.__doc__)
    parser.add_argument("name", metavar="NAME", help=f"one of {', '.join(sorted(samples.SAMPLES))}")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="paths.raw: its folder NAME is made")
    arguments = parser.parse_args(rest)
    counts = samples.write(arguments.name, arguments.out)
    print(json.dumps({"command": "sample", "name": arguments.name, "out": str(arguments.out), "rows": counts}))
    return 0


_COMMANDS: dict[str, Callable[[list[str]], int]] = {"config": _config, "sample": _sample}


def _unknown(command: str) -> ConfigError:
    known = [*job_names(), *_COMMANDS]
    near = difflib.get_close_matches(command, known, n=1)
    mend = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known))}"
    return ConfigError("unknown command", value=command, mend=mend)


def _help() -> str:
    lines = ["usage: behavior COMMAND [--env NAME] [--set KEY=VALUE]…", "", "commands:"]
    for name in sorted([*job_names(), *_COMMANDS]):
        lines.append(f"  {name:<17} {_first_line(name)}")
    return "\n".join([*lines, "", "`behavior COMMAND --help` tells more; `behavior config` prints every key."])


def _first_line(name: str) -> str:
    if name in _COMMANDS:
        return (_COMMANDS[name].__doc__ or "").splitlines()[0]
    text = _job_file(name).read_text(encoding="utf-8")
    return text.lstrip().removeprefix('"""').splitlines()[0].removesuffix('"""')


if __name__ == "__main__":
    sys.exit(main())

"""Runs a probe in a process of its own: one that hangs, crashes or cannot import ends as a sentence."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from behavior_lib.errors import EnvironmentProblem

_PACKAGE_ROOT = Path(__file__).resolve().parents[2]
# A child with these would take its parent's Java process for its own.
_OF_THE_PARENT = ("PYSPARK_GATEWAY_PORT", "PYSPARK_GATEWAY_SECRET")
_RANK_PREFIX = re.compile(r"^\[[\d,]+\]<std(?:out|err)>:\s?")


def run_probe(command: Sequence[str], mend: str, limit_seconds: float) -> str:
    """Run one command and return the last line of its standard output.

    Raises EnvironmentProblem with the last line of its standard error and the mend where it fails or overruns; all
    processes it started are ended.
    """
    with tempfile.TemporaryDirectory(prefix="doctor-") as folder:
        # Files and not pipes: a grandchild that outlives the command would keep a pipe open.
        output, errors = Path(folder, "output"), Path(folder, "errors")
        with output.open("wb") as out, errors.open("wb") as err:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=_environment(),
                cwd=folder,
                start_new_session=True,
            )
            try:
                code = process.wait(timeout=limit_seconds)
            except subprocess.TimeoutExpired:
                what = f"no answer within {limit_seconds:.0f} s"
                raise EnvironmentProblem(what, mend=f"try once the machine is less busy, or {mend}") from None
            finally:
                _end_group(process)
        if code != 0:
            reason = _last_line(errors) or _last_line(output) or f"ended with code {code}"
            raise EnvironmentProblem(reason, mend="" if mend in reason else mend)
        return _last_line(output)


def python_module(module: str) -> list[str]:
    """The command that runs a module on this interpreter."""
    return [sys.executable, "-m", module]


def _environment() -> dict[str, str]:
    environment = {key: value for key, value in os.environ.items() if key not in _OF_THE_PARENT}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_PACKAGE_ROOT), os.environ.get("PYTHONPATH")]))
    return environment


def _end_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_line(path: Path) -> str:
    """The last line that says something; of a stack trace that is the error itself."""
    lines = [_RANK_PREFIX.sub("", line).strip() for line in path.read_text(errors="replace").splitlines()]
    said = [line for line in lines if line]
    return said[-1] if said else ""

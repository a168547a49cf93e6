"""Which Java Spark is going to use, and whether it is the right one.

`python -m behavior_lib.doctor.java` prints the JAVA_HOME to use, or one sentence on standard error.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from behavior_lib.errors import EnvironmentProblem

# What Spark 4.0 runs on; the first is what set-up installs and what the tests run on.
JAVA_VERSIONS = (17, 21)
INSTALL_JAVA = "type `sudo apt-get install -y openjdk-17-jre-headless`"
UNSET_JAVA_HOME = "type `unset JAVA_HOME; sudo apt-get install -y openjdk-17-jre-headless`"
_NEED = "Spark needs Java 17 or 21"
_ANSWER_SECONDS = 20


@dataclass(frozen=True)
class Java:
    """One Java on this machine. home: its JAVA_HOME. version: its major version, such as 17."""

    home: Path
    version: int


def require_java(environ: Mapping[str, str] = os.environ, installed: Path = Path("/usr/lib/jvm")) -> Java:
    """The Java that Spark is to run on: JAVA_HOME, else `java` on the path, else one of the installed.

    JAVA_HOME is taken at its word, because Spark takes it so too: another version there is an error even where the
    right one is installed elsewhere. Raises EnvironmentProblem with the mend where no Java 17 or 21 is found.
    """
    home = environ.get("JAVA_HOME", "")
    if home:
        return _java_of_home(Path(home))
    on_path = shutil.which("java", path=environ.get("PATH"))
    first = _look_at(Path(on_path)) if on_path else None
    if first is not None and first.version in JAVA_VERSIONS:
        return first
    for version in JAVA_VERSIONS:
        for command in sorted(installed.glob(f"*{version}*/bin/java")):
            found = _look_at(command)
            if found is not None and found.version == version:
                return found
    what = f"`java` is Java {first.version}, {_NEED}" if first else f"no Java is found, {_NEED}"
    raise EnvironmentProblem(what, where=str(first.home) if first else "", mend=INSTALL_JAVA)


def _java_of_home(home: Path) -> Java:
    found = _look_at(home / "bin" / "java")
    if found is None:
        raise EnvironmentProblem("JAVA_HOME holds no Java that runs", value=str(home), mend=UNSET_JAVA_HOME)
    if found.version not in JAVA_VERSIONS:
        raise EnvironmentProblem(
            f"JAVA_HOME names Java {found.version}, {_NEED}",
            value=str(home),
            mend=UNSET_JAVA_HOME,
        )
    return Java(home, found.version)


def _look_at(command: Path) -> Java | None:
    """What `java -version` says, or None where it does not run."""
    try:
        answer = subprocess.run(
            [str(command), "-version"], capture_output=True, text=True, timeout=_ANSWER_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r'version "(?:1\.)?(\d+)', answer.stderr + answer.stdout)
    return Java(command.resolve().parent.parent, int(found.group(1))) if found else None


def main() -> int:
    """Print the JAVA_HOME to use and return 0, or print what to do and return 1."""
    try:
        print(require_java().home)
    except EnvironmentProblem as problem:
        print(problem, file=sys.stderr)
        return problem.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

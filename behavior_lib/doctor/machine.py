"""What can be seen of the machine without starting anything large: Python, Java, memory, disk, packages."""

from __future__ import annotations

import shutil
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from behavior_lib.doctor.java import require_java
from behavior_lib.errors import EnvironmentProblem

PYTHON_VERSION = (3, 11)
NEEDED_MEMORY_GIB = 5.0
NEEDED_DISK_GIB = 5.0
SET_UP = "type `make setup`"
_GIB = 1024**3


def look_at_python(version: tuple[int, ...] = tuple(sys.version_info[:3])) -> str:
    """Raises EnvironmentProblem where this is not Python 3.11."""
    text = ".".join(map(str, version))
    if version[:2] != PYTHON_VERSION:
        mend = "install python3.11, type `make clean` and `make setup`"
        raise EnvironmentProblem("Python 3.11 is needed", where=sys.executable, value=text, mend=mend)
    return f"{text} ({sys.executable})"


def look_at_java() -> str:
    """Raises EnvironmentProblem where Spark would get no Java or a wrong one."""
    java = require_java()
    return f"{java.version} ({java.home})"


def look_at_memory(meminfo: Path = Path("/proc/meminfo"), control_group: Path = Path("/sys/fs/cgroup")) -> str:
    """Memory that is free to take, within the limit of a container where there is one.

    Raises EnvironmentProblem where it is less than the jobs need.
    """
    fields = dict(line.split(":", 1) for line in meminfo.read_text(encoding="ascii").splitlines())
    total, available = (int(fields[key].split()[0]) * 1024 / _GIB for key in ("MemTotal", "MemAvailable"))
    limit, used = (_read_bytes(control_group / name) for name in ("memory.max", "memory.current"))
    if limit is not None and limit < total:
        # What the kernel keeps of files is free to take.
        total, available = limit, min(available, limit - (used or 0.0) + _file_cache(control_group / "memory.stat"))
    seen = f"{available:.1f} GiB available of {total:.1f}"
    if available < NEEDED_MEMORY_GIB:
        mend = "end other programs, or add `--set spark.driver_memory=1g --set train.workers=1`"
        raise EnvironmentProblem(f"{seen}, {NEEDED_MEMORY_GIB:.0f} GiB are needed", mend=mend)
    return seen


def _file_cache(path: Path) -> float:
    """What a control group keeps of files that nobody has used for a while, in GiB; 0 where it does not say."""
    try:
        fields = dict(line.split() for line in path.read_text(encoding="ascii").splitlines())
        return int(fields["inactive_file"]) / _GIB
    except (OSError, ValueError, KeyError):
        return 0.0


def _read_bytes(path: Path) -> float | None:
    """A control group's figure in GiB; None where it has no limit or the file is not there."""
    try:
        return int(path.read_text(encoding="ascii")) / _GIB
    except (OSError, ValueError):
        return None


def look_at_disk(folders: dict[str, Path]) -> str:
    """Whether each folder (by what it is for) can be written and has room; one yet to be made counts as its parent.

    Raises EnvironmentProblem for the first that cannot or has not.
    """
    seen = []
    for purpose, folder in folders.items():
        existing = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
        try:
            tempfile.TemporaryFile(dir=existing).close()
        except OSError as error:
            mend = f"change its rights or choose another with {_choose(purpose)}"
            raise EnvironmentProblem(
                f"the folder for {purpose} cannot be written", where=str(existing), value=error.strerror, mend=mend
            ) from None
        free = shutil.disk_usage(existing).free / _GIB
        if free < NEEDED_DISK_GIB:
            what = f"{free:.1f} GiB are free for {purpose}, {NEEDED_DISK_GIB:.0f} are needed"
            mend = f"free some, or choose another folder with {_choose(purpose)}"
            raise EnvironmentProblem(what, where=str(existing), mend=mend)
        seen.append(f"{free:.0f} GiB free for {purpose} ({existing})")
    return ", ".join(seen)


def _choose(purpose: str) -> str:
    return "TMPDIR=…" if purpose == "temporary files" else "`--set paths.var=…`"


def look_at_packages(distribution: str = "behavior_lib") -> str:
    """Whether each package that the project asks for is there in a version of its range.

    Raises EnvironmentProblem naming all that are missing or outside.
    """
    from packaging.requirements import Requirement

    try:
        declared = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        what = f"{distribution} itself is not installed"
        raise EnvironmentProblem(what, mend=f"{SET_UP} or `pip install .`") from None
    wanted = [Requirement(text) for text in declared]
    wanted = [each for each in wanted if each.marker is None or each.marker.evaluate({"extra": ""})]
    wrong = []
    for each in wanted:
        installed = _installed_version(each.name)
        if installed is None:
            wrong.append(f"{each.name} is missing ({each.specifier} is needed)")
        elif not each.specifier.contains(installed, prereleases=True):
            wrong.append(f"{each.name} is {installed} ({each.specifier} is needed)")
    if wrong:
        raise EnvironmentProblem(", ".join(wrong), mend="type `pip install --constraint constraints.txt --editable .`")
    return f"{len(wanted)} packages within their ranges"


def _installed_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None

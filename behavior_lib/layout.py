"""Where the files that travel with the code lie: beside the package in a checkout, inside it once installed."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def conf_root() -> Path:
    """The folder of base.yaml, env/, sources/, models/ and jobs/."""
    return _beside_or_inside("conf")


def jobs_root() -> Path:
    """The folder of the job entries, one file a job."""
    return _beside_or_inside("jobs")


def _beside_or_inside(name: str) -> Path:
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name

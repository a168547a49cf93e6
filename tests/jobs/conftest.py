"""Jobs run as the command line runs them, inside this process's Spark session."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from behavior_lib.cli import main
from behavior_lib.spark.tables import Tables
from tests.jobs.small_source import YAML


class Shop:
    """One warehouse, and commands on it."""

    def __init__(self, spark: Any, root: Path, capture: Callable[[], Any]) -> None:
        self.root, self._capture = root, capture
        self.tables = Tables(spark, str(root / "warehouse"))

    def words(self, job: str, *settings: str) -> list[str]:
        """What is typed after `behavior` to run a job here."""
        paths = [f"paths.{name}={self.root / name}" for name in ("raw", "warehouse", "var")]
        return [job, "--env", "test", *(word for setting in (*paths, *settings) for word in ("--set", setting))]

    def command(self, job: str, *settings: str) -> list[str]:
        """The same job as a process of its own."""
        return [sys.executable, "-m", "behavior_lib.cli", *self.words(job, *settings)]

    def run(self, job: str, *settings: str) -> dict[str, Any]:
        """Run one job. Returns its JSON line with `exit_code`, and `stderr`."""
        code = main(self.words(job, *settings))
        told = self._capture()
        return {**json.loads(told.out.strip().splitlines()[-1]), "exit_code": code, "stderr": told.err}


@pytest.fixture
def shop(spark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shop:
    return Shop(spark, tmp_path, capsys.readouterr)


@pytest.fixture
def source(shop: Shop) -> Callable[..., str]:
    """source(text, file=bytes, …) writes the YAML and the raw files, and returns the setting that names it."""

    def write(text: str = YAML, **files: bytes) -> str:
        (shop.root / "raw").mkdir(exist_ok=True)
        for name, content in files.items():
            (shop.root / "raw" / name.replace("_", ".")).write_bytes(content)
        (shop.root / "shop.yaml").write_text(text)
        return f"source={shop.root / 'shop.yaml'}"

    return write

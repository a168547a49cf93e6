"""Jobs run as the command line runs them, inside this process's Spark session."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient

from behavior_lib.cli import load_job, main
from behavior_lib.config.loader import load
from behavior_lib.models.base import ModelSpec
from behavior_lib.models.build import build_model, save_model
from behavior_lib.registry import Registered, Registry
from behavior_lib.spark.evaluation import read_vocabulary
from behavior_lib.spark.job import Job, execute
from behavior_lib.spark.tables import Tables
from behavior_lib.tables import EVENT_TYPES, ITEMS
from tests.conftest import DATA
from tests.jobs.judged import LENGTH
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


@pytest.fixture(scope="session")
def warehouse(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Everything up to sequences, of the real slice. Returns the settings that name it."""
    root = tmp_path_factory.mktemp("shop")
    settings = [f"paths.raw={DATA}", f"paths.warehouse={root}/warehouse", f"paths.var={root}/var"]
    for name in ("ingest", "sessionize", "build_sequences"):
        execute(Job(name, load("test", name, settings)), load_job(name).run)
    return settings


@pytest.fixture
def job(warehouse: list[str], request: pytest.FixtureRequest) -> Callable[[str], Job]:
    """job(name) → one run of a job, with a registered model of the test's own."""
    model = f"mlflow.model_name={request.node.name}"
    return lambda name: Job(name, load("test", name, [*warehouse, model]))


@pytest.fixture
def new_version(job: Callable[[str], Job], tmp_path: Path) -> Callable[..., tuple[Registry, Registered]]:
    """Registers an untrained model that knows all but the newest fifty items."""

    def register(seed: int = 5, tags: Iterable[tuple[str, str]] = ()) -> tuple[Registry, Registered]:
        run = job("evaluate")
        config = run.config.mlflow
        registry = Registry(config.tracking_uri, config.model_name)
        vocabulary = read_vocabulary(run.tables.read(ITEMS), run.tables.read(EVENT_TYPES))
        n_items = len(vocabulary.item_ids) - 50
        spec = ModelSpec(
            "transformer_repeat",
            length=LENGTH,
            window=32,
            n_items=n_items,
            n_event_types=4,
            dimension=8,
            heads=1,
            layers=1,
            objectives={"next_item": 1.0, "next_time": 1.0},
        )
        torch.manual_seed(seed)
        save_model(build_model(spec, torch.arange(n_items) % 9), tmp_path / "checkpoint")
        experiment = registry.experiment("behavior", config.artifacts)
        run_id = MlflowClient(config.tracking_uri).create_run(experiment).info.run_id
        return registry, registry.register(run_id, tmp_path / "checkpoint", vocabulary, dict(tags))

    return register

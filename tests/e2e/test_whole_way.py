"""The whole way on 48 real households, as the command line walks it; then once more, when nothing is new."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import deltalake
import pytest

from tests.conftest import DATA

pytestmark = [pytest.mark.spark, pytest.mark.distributed, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
# So few households need many small steps before the model is better than counting, which the gate asks of it.
SETTINGS = (
    "sequences.length=128",
    "train.epochs=12",
    "train.patience=12",
    "train.batch_size=2",
    "train.learning_rate=0.01",
    "train.negatives=64",
)


def pipeline(var: Path, meanwhile: Callable[[subprocess.Popen], None] = lambda process: None) -> tuple[int, dict, str]:
    """Exit code, JSON line and what was said of the command; meanwhile: called with the process while it runs."""
    paths = (f"paths.raw={DATA}", f"paths.warehouse={var / 'warehouse'}", f"paths.var={var}")
    arguments = [word for setting in (*paths, *SETTINGS) for word in ("--set", setting)]
    command = [sys.executable, "-m", "behavior_lib.cli", "pipeline", "--env", "test", *arguments]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, cwd=var.parent, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    watcher = threading.Thread(target=meanwhile, args=(process,))
    watcher.start()
    said, errors = process.communicate(timeout=900)
    watcher.join()
    return process.returncode, json.loads(said.strip().splitlines()[-1]), errors


def end_it_in_training(var: Path) -> Callable[[subprocess.Popen], None]:
    """SIGTERM once an epoch has ended."""
    messages = var / "train" / "complete_journey" / "messages.jsonl"

    def watch(process: subprocess.Popen) -> None:
        while process.poll() is None:
            if messages.exists() and '"epoch"' in messages.read_text(encoding="utf-8"):
                process.send_signal(signal.SIGTERM)
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.1)

    return watch


def rows(var: Path, table: str) -> int:
    return int(
        deltalake.DeltaTable(str(var / "warehouse" / table))
        .get_add_actions(flatten=True)["num_records"]
        .to_numpy()
        .sum()
    )


def test_raw_files_in_a_champion_and_its_vectors_out_and_then_nothing_new(tmp_path: Path):
    """A spot machine is taken away in training; the same command goes on from there."""
    var = tmp_path / "var"
    code, told, errors = pipeline(var, end_it_in_training(var))
    assert (code, told["status"]) == (0, "stopped"), errors[-3000:]
    assert "the same command goes on from there" in errors
    assert not (var / "warehouse" / "user_embeddings").exists()
    code, told, errors = pipeline(var)
    assert code == 0, errors[-3000:]
    assert "going on after step" in errors
    assert not list((var / "checkpoints").rglob("step-*"))
    assert told["status"] == "succeeded"
    assert rows(var, "events") == 7956
    assert (rows(var, "user_embeddings"), rows(var, "item_embeddings") > 3000) == (48, True)
    assert (var / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert {"tables:", "models:", "report:"} <= set(errors.split())
    code, again, errors = pipeline(var)
    assert (code, again["status"]) == (0, "unchanged"), errors[-3000:]
    assert again["tables"].keys() == {"pipeline_runs"}

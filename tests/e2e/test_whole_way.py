"""The whole way on 48 real households, as the command line walks it; then once more, when nothing is new."""

import json
import os
import subprocess
import sys
from pathlib import Path

import deltalake
import pytest

from tests.conftest import DATA

pytestmark = [pytest.mark.spark, pytest.mark.distributed]

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


def pipeline(var: Path) -> tuple[int, dict, str]:
    paths = (f"paths.raw={DATA}", f"paths.warehouse={var / 'warehouse'}", f"paths.var={var}")
    arguments = [word for setting in (*paths, *SETTINGS) for word in ("--set", setting)]
    command = [sys.executable, "-m", "behavior_lib.cli", "pipeline", "--env", "test", *arguments]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=var.parent, env=environ, capture_output=True, text=True, timeout=900, check=False
    )
    return done.returncode, json.loads(done.stdout.strip().splitlines()[-1]), done.stderr


def rows(var: Path, table: str) -> int:
    return int(
        deltalake.DeltaTable(str(var / "warehouse" / table))
        .get_add_actions(flatten=True)["num_records"]
        .to_numpy()
        .sum()
    )


def test_raw_files_in_a_champion_and_its_vectors_out_and_then_nothing_new(tmp_path: Path):
    var = tmp_path / "var"
    code, told, errors = pipeline(var)
    assert code == 0, errors[-3000:]
    assert told["status"] == "succeeded"
    assert rows(var, "events") == 7956
    assert (rows(var, "user_embeddings"), rows(var, "item_embeddings") > 3000) == (48, True)
    assert (var / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert {"tables:", "models:", "report:"} <= set(errors.split())
    code, again, errors = pipeline(var)
    assert (code, again["status"]) == (0, "unchanged"), errors[-3000:]
    assert again["tables"].keys() == {"pipeline_runs"}

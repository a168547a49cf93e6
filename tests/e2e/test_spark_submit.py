"""The jobs under the real spark-submit: the same code, arguments, JSON line and exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import DATA

pytestmark = [pytest.mark.spark, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
SPARK_SUBMIT = Path(sys.executable).parent / "spark-submit"


def submit(tmp_path: Path, job: str, *settings: str) -> tuple[int, dict, str]:
    paths = [f"paths.raw={DATA}", f"paths.warehouse={tmp_path / 'warehouse'}", f"paths.var={tmp_path / 'var'}"]
    arguments = [word for setting in (*paths, *settings) for word in ("--set", setting)]
    environ = {**os.environ, "PATH": f"{SPARK_SUBMIT.parent}{os.pathsep}{os.environ['PATH']}"}
    command = [str(SPARK_SUBMIT), "--master", "local[2]", "--driver-memory", "1g", f"jobs/{job}.py", "--env", "test"]
    done = subprocess.run(
        [*command, *arguments], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=600, check=False
    )
    return done.returncode, json.loads(done.stdout.strip().splitlines()[-1]), done.stderr


def test_ingest_then_sessionize(tmp_path: Path):
    settings = ("source=online_retail", f"run.input={DATA / 'online_retail' / '2011-02-09.csv'}", "run.batch_id=one")
    code, told, _ = submit(tmp_path, "ingest", *settings)
    assert (code, told["status"], told["batch_id"]) == (0, "succeeded", "one")
    assert told["rows"]["read"] == told["rows"]["accepted"] + told["rows"]["duplicate"] + told["rows"]["quarantined"]
    code, told, _ = submit(tmp_path, "sessionize", *settings)
    assert (code, told["job"], told["status"]) == (0, "sessionize", "succeeded")


def test_a_wrong_argument_is_a_sentence_and_exit_code_2(tmp_path: Path):
    code, told, errors = submit(tmp_path, "ingest", "run.batch=one")
    assert (code, told["error"]) == (2, "unknown key run.batch in --set; did you mean run.batch_id?")
    assert "Traceback" not in errors

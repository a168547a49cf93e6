"""A run in a process of its own, with Spark's event log on: what it prints and leaves holds neither key nor id."""

import base64
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from behavior_lib.privacy.keys import Key
from tests.conftest import DATA
from tests.jobs.remains import files_with

pytestmark = [pytest.mark.spark, pytest.mark.slow]

SECRET = "a secret that is long enough to be one"
ROOT = Path(__file__).parents[2]


def run(tmp_path: Path, *words: str) -> subprocess.CompletedProcess:
    conf = {"eventLog.enabled": "true", "eventLog.dir": f"file://{tmp_path}/log", "eventLog.compress": "false"}
    settings = [f"spark.conf.spark.{key}={value}" for key, value in conf.items()]
    settings += [f"paths.raw={DATA}", f"paths.warehouse={tmp_path / 'warehouse'}", f"paths.var={tmp_path / 'var'}"]
    settings += ["source=online_retail", "privacy.pseudonymize=true", "privacy.keys.v1=env:BEHAVIOR_KEY"]
    told = [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, "-m", "behavior_lib.cli", *words, "--env", "test", *told]
    environ = {**os.environ, "BEHAVIOR_KEY": SECRET, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=600, check=False)


def test_a_key_is_in_no_event_log_table_print_or_configuration(tmp_path: Path):
    (tmp_path / "log").mkdir()
    day = DATA / "online_retail" / "2011-02-09.csv"
    done = run(tmp_path, "ingest", "--set", "run.batch_id=one", "--set", f"run.input={day}")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.strip().splitlines()[-1])["rows"]["accepted"] > 0
    (tmp_path / "log" / "printed.txt").write_text(done.stdout + done.stderr + run(tmp_path, "config").stdout)
    roots = [tmp_path / name for name in ("log", "warehouse", "var")]
    assert files_with("physicalPlanDescription.*BroadcastNestedLoopJoin", [tmp_path / "log"]) != []
    assert files_with("env:BEHAVIOR_KEY", [tmp_path / "log"]) == ["printed.txt"]
    key = Key("v1", SECRET.encode())
    for secret in (key.secret, *key.pads):
        for shown in (secret.decode("latin-1"), secret.hex(), base64.b64encode(secret).decode()):
            assert files_with(re.escape(shown[:20]), roots) == []
    # As the files have it: 13319.0. The plain number may be a size of something.
    assert files_with(r'13319\.0|user_id\\*":\\*"13319"', roots) == []

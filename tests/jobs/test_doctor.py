"""The doctor as people call it: on a machine that is well, and on one where much is wrong at once."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# These depend on what else the machine is doing.
OF_THE_HOUR = {"memory", "disk"}


def call(*arguments: str, **environ: str) -> tuple[int, dict[str, dict[str, object]], str]:
    """The exit code, the checks by name, and what was said on standard error."""
    command = [sys.executable, str(ROOT / "jobs" / "doctor.py"), *arguments]
    search = os.pathsep.join(filter(None, [str(ROOT), environ.pop("PYTHONPATH", "")]))
    environment = {**os.environ, **environ, "PYTHONPATH": search}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["job"] == "doctor"
    return done.returncode, {check["name"]: check for check in told["checks"]}, done.stderr


def test_every_part_works_here():
    code, checks, said = call()
    assert list(checks) == [
        "python", "java", "memory", "disk", "packages", "configuration", "delta", "petastorm", "horovod", "mlflow",
    ]  # fmt: skip
    assert {
        name: check["sentence"] for name, check in checks.items() if not check["ok"] and name not in OF_THE_HOUR
    } == {}
    assert code == (0 if all(check["ok"] for check in checks.values()) else 1)
    assert checks["petastorm"]["sentence"] == "0.12.1 read 1,000 rows back"
    assert checks["horovod"]["sentence"] == "0.28.1 summed over 2 processes"
    assert len(said.splitlines()) == len(checks)


def test_everything_that_is_wrong_is_told_in_one_line_each(tmp_path):
    for name in ("pyspark", "petastorm", "horovod", "mlflow"):
        package = tmp_path / name / "__init__.py"
        package.parent.mkdir()
        package.write_text(f"raise ImportError('{name} is broken')\n")
    code, checks, said = call("--set", "train.worker=2", PYTHONPATH=str(tmp_path), JAVA_HOME="/nowhere")
    assert code == 1
    wrong = {name: check["sentence"] for name, check in checks.items() if not check["ok"] and name not in OF_THE_HOUR}
    assert wrong == {
        "java": "JAVA_HOME holds no Java that runs: '/nowhere'; "
        "type `unset JAVA_HOME; sudo apt-get install -y openjdk-17-jre-headless`",
        "configuration": "unknown key train.worker in --set; did you mean train.workers?",
        "delta": "ImportError: pyspark is broken; type `make setup`",
        "petastorm": "ImportError: petastorm is broken; type `make setup`",
        "horovod": "ImportError: horovod is broken; "
        "type `make setup`, or train without Horovod: `--set train.communicator=torch`",
        "mlflow": "ImportError: mlflow is broken; type `make setup`",
    }
    assert "Traceback" not in said
    assert [line for line in said.splitlines() if not line.startswith(("ok  ", "FAIL"))] == []

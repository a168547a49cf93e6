"""What a job prints where."""

import subprocess
import sys

import pytest

pytestmark = [pytest.mark.spark, pytest.mark.end_to_end]

PROGRAM = """
from behavior_lib.config import load
from behavior_lib.spark.session import start_session

print("before")
paths = [f"paths.{name}={name}" for name in ("raw", "warehouse", "var")]
spark = start_session("streams", load("test", None, paths).config.spark)
spark._jvm.java.lang.System.out.println("the JVM's")
print("after")
"""


def test_what_the_jvm_prints_is_not_on_standard_output(tmp_path):
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "before\nafter\n"
    assert "the JVM's" in done.stderr.splitlines()

import subprocess
import sys

import pytest

from behavior_lib.errors import Occupied
from behavior_lib.locks import hold, lock_path

HOLDER = """
import sys
from pathlib import Path
from behavior_lib.locks import hold
with hold(Path(sys.argv[1]), "ingest of source shop", 0):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_names_its_holder_and_is_free_once_that_one_is_killed(tmp_path):
    path = lock_path(str(tmp_path), "log-shop")
    other = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "held\n"
    told = (
        rf"rebuild cannot start beside another: 'ingest of source shop, process {other.pid}, since .*run\.wait_minutes"
    )
    with pytest.raises(Occupied, match=told), hold(path, "rebuild", 0):
        pass
    other.kill()
    other.wait()
    with hold(path, "rebuild", 0):
        assert '"holder": "rebuild"' in path.read_text()


def test_who_waits_gets_the_lock_when_it_is_free(tmp_path):
    path = tmp_path / "one.lock"
    other = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout.readline() == b"held\n"
    other.stdin.close()
    with hold(path, "rebuild", 60):
        assert other.wait() == 0

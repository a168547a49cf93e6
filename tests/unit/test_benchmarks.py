"""The tools of the benchmarks: what the event log is read as, and whose CPU time is counted."""

import json
import subprocess
import sys

import pytest

from benchmarks.eventlog import between, heaviest, read_stages, shuffled, worst_skew
from benchmarks.processes import ProcessTree, run_cold


def task(stage: int, milliseconds: int, written: int = 0, failed: bool = False) -> dict:
    return {
        "Event": "SparkListenerTaskEnd",
        "Stage ID": stage,
        "Stage Attempt ID": 0,
        "Task Info": {"Launch Time": 1000, "Finish Time": 1000 + milliseconds, "Failed": failed, "Killed": False},
        "Task Metrics": {
            "Executor CPU Time": 10**9,
            "Executor Deserialize CPU Time": 10**8,
            "JVM GC Time": 20,
            "Disk Bytes Spilled": 0,
            "Input Metrics": {"Bytes Read": 100},
            "Shuffle Write Metrics": {"Shuffle Bytes Written": written},
            "Shuffle Read Metrics": {"Remote Bytes Read": 1, "Local Bytes Read": 2},
        },
    }


def stage_end(stage: int, submitted: int) -> dict:
    scopes = [{"Scope": json.dumps({"id": "1", "name": name})} for name in ("Exchange", "Scan json ")]
    info = {"Stage ID": stage, "Stage Attempt ID": 0, "Stage Name": "save", "Submission Time": submitted}
    return {"Event": "SparkListenerStageCompleted", "Stage Info": {**info, "RDD Info": [*scopes, {}]}}


@pytest.fixture
def stages(tmp_path):
    events = [
        {"Event": "SparkListenerLogStart"},
        *(task(1, ms, written=500) for ms in (100, 200, 600)),
        task(1, 9000, failed=True),
        stage_end(1, 10_000),
        # Without a third task there is no median worth the name.
        *(task(2, ms) for ms in (100, 5000)),
        stage_end(2, 11_000),
        *(task(3, ms) for ms in (1, 1, 50)),
        stage_end(3, 12_000),
    ]
    (tmp_path / "local-1").write_text("\n".join(json.dumps(event) for event in events) + "\n")
    (tmp_path / ".local-1.crc").write_bytes(b"\xff")
    return read_stages(tmp_path)


def test_bytes_and_task_times_of_each_stage(stages):
    assert [stage.seconds for stage in stages] == [[0.1, 0.2, 0.6], [0.1, 5.0], [0.001, 0.001, 0.05]]
    assert shuffled(stages) == 1500
    assert heaviest(stages, 2)[1] == {
        "operators": "Exchange < Scan json",
        "tasks": 3,
        "task_seconds": 0.9,
        "cpu_seconds": 3.3,
        "gc_seconds": 0.06,
        "slowest_to_median": 3.0,
        "input_mb": 0.0,
        "shuffle_write_mb": 0.0,
        "shuffle_read_mb": 0.0,
        "spilled_mb": 0.0,
    }


def test_skew_is_told_of_stages_that_matter(stages):
    assert worst_skew(stages) == 3.0
    assert worst_skew(stages[1:2]) is None
    assert [stage.submitted for stage in between(stages, 10.5, 12.0)] == [11.0, 12.0]


def test_cpu_time_of_a_process_that_ended_is_kept():
    tree = ProcessTree()
    code = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"
    with tree.measure() as cost:
        child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        child.stdout.readline()
        seen = tree.cpu_seconds()
        child.communicate(b"\n")
    assert child.returncode == 0
    # The kernel counts in hundredths, user and system time apart.
    assert cost.cpu_seconds >= 0.28
    assert tree.cpu_seconds() >= seen


def test_a_cold_run_ends_with_its_last_line_or_with_its_failure():
    cost, last = run_cold(["-c", "print('first'); print('last')"])
    assert (last, cost.seconds > 0) == ("last", True)
    with pytest.raises(SystemExit) as failed:
        run_cold(["-c", "print('no'); raise SystemExit(3)"])
    assert str(failed.value).endswith("ended with exit code 3: no")

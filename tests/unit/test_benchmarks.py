"""The tools of the benchmarks: what the event log is read as, whose CPU time is counted, and the log by SQL."""

import dataclasses
import hashlib
import json
import subprocess
import sys
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import duckdb
import psutil
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from behavior_lib.tables import SESSIONS
from behavior_lib.tables.arrow import arrow_schema
from benchmarks import encoders, optimizer
from benchmarks.cluster import content
from benchmarks.duck_log import GENERATED, DuckLog, difference
from benchmarks.eventlog import between, disturbance, heaviest, read_stages, shuffled, worst_skew
from benchmarks.oracle import differences, out_of_order, parse
from benchmarks.processes import ProcessTree, kill_tree, run_cold

# Another customer's row with the same key is a conflict.
WITHOUT_CUSTOMER = dataclasses.replace(GENERATED, key=("request", "occurred_at"))


def test_an_oracle_that_compares_nothing_is_refused(capsys):
    with pytest.raises(SystemExit):
        parse(["--no-complete-journey"])
    assert "nothing to compare: give --online-retail FOLDER" in capsys.readouterr().err
    assert not parse(["--no-complete-journey", "--online-retail", "days"]).complete_journey


def task(stage: int, milliseconds: int, written: int = 0, failed: bool = False, cpu: int = 1) -> dict:
    return {
        "Event": "SparkListenerTaskEnd",
        "Stage ID": stage,
        "Stage Attempt ID": 0,
        "Task Info": {"Launch Time": 1000, "Finish Time": 1000 + milliseconds, "Failed": failed, "Killed": False},
        "Task Metrics": {
            "Executor CPU Time": cpu * 10**9,
            "Executor Deserialize CPU Time": 10**8,
            "JVM GC Time": 20,
            "Disk Bytes Spilled": 0,
            "Peak Execution Memory": milliseconds * 10**6,
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
        *(task(3, ms, cpu=ms) for ms in (1, 1, 50)),
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
        "cpu_slowest_to_median": 1.0,
        "input_mb": 0.0,
        "shuffle_write_mb": 0.0,
        "shuffle_read_mb": 0.0,
        "spilled_mb": 0.0,
        "peak_task_mb": 600.0,
    }


def test_skew_is_told_of_stages_that_matter(stages):
    assert worst_skew(stages) == 3.0
    assert worst_skew(stages, of_cpu=True) == 1.0
    assert stages[2].cpu_skew == pytest.approx(50.1 / 1.1)
    assert worst_skew(stages[1:2]) is None
    assert [stage.submitted for stage in between(stages, 10.5, 12.0)] == [11.0, 12.0]


def test_what_had_to_be_done_again(tmp_path):
    def ended(stage: int, attempt: int, name: str, seconds: tuple[int, int]) -> dict:
        times = {"Submission Time": 1000 * seconds[0], "Completion Time": 1000 * seconds[1]}
        rdds = [{"Scope": json.dumps({"id": "1", "name": name})}]
        info = {"Stage ID": stage, "Stage Attempt ID": attempt, "RDD Info": rdds, **times}
        return {"Event": "SparkListenerStageCompleted", "Stage Info": info}

    reasons = ("Success", "FetchFailed", "FetchFailed", "ExecutorLostFailure")
    removed = ("worker lost: got disassociated", "Command exited with code 0")
    events = [
        *({"Event": "SparkListenerTaskEnd", "Task End Reason": {"Reason": reason}} for reason in reasons),
        *({"Event": "SparkListenerExecutorRemoved", "Removed Reason": reason} for reason in removed),
        ended(1, 0, "Exchange", (10, 20)),
        ended(2, 0, "Write", (20, 30)),
        ended(1, 1, "Exchange", (30, 40)),
    ]
    (tmp_path / "app-1").write_text("\n".join(json.dumps(event) for event in events) + "\n")
    seen = disturbance(tmp_path)
    assert seen.told() == {
        "executors_lost": 1,
        "tasks": {"FetchFailed": 2, "ExecutorLostFailure": 1},
        "stages": 1,
        "operators": ["Exchange"],
    }
    assert seen.running_at(25) == ["Write"]


def test_tables_are_equal_in_any_order_and_no_longer_with_another_value(tmp_path):
    def write(name: str, values: list[float], files: int) -> dict[str, int]:
        instants = [datetime(2024, 1, 1, hour, tzinfo=timezone.utc) for hour in range(len(values))]
        rows = [
            {
                **dict.fromkeys(SESSIONS.column_names),
                **{"session_id": f"s{value}", "user_id": "a", "source": "x", "session_start": at, "session_end": at},
                **{"n_events": 2, "n_items": 1, "events_by_type": [("view", 1), ("cart", 1)], "value_sum": value},
                **{"is_open": False, "session_date": at.date()},
            }
            for at, value in zip(instants, values, strict=True)
        ]
        rows = rows[::-1] if files > 1 else rows
        for part in range(files):
            table = pa.Table.from_pylist(rows[part::files], arrow_schema(SESSIONS))
            write_deltalake(str(tmp_path / name / "warehouse" / "sessions"), table, mode="append")
        return content(tmp_path / name, SESSIONS)

    one, other, third = (
        write("one", [1.0, 2.0, 4.0], 1),
        write("other", [1.0, 2.0, 4.0], 2),
        write("third", [1, 2, 3], 1),
    )
    assert one == other
    assert (one["rows"], one["keys"]) == (third["rows"], third["keys"]) == (3, 3)
    assert one["hash"] != third["hash"]
    assert content(tmp_path / "nowhere", SESSIONS)["rows"] == 0


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


def test_shuffled_days_are_all_there_and_never_late():
    days = [Path(f"{date(2010, 12, 1) + timedelta(days=number)}.csv") for number in range(200)]
    order = out_of_order(days, 1, 30)
    assert sorted(order) == days
    assert order == out_of_order(days, 1, 30)
    assert order != out_of_order(days, 2, 30)
    dates = [date.fromisoformat(day.stem) for day in order]
    behind = [(max(dates[: place + 1]) - day).days for place, day in enumerate(dates)]
    # Nor at any hour of the day: late is what is more than 30 days older than the newest.
    assert 20 < max(behind) < 30


def test_rows_that_differ_are_told_as_often_as_they_do():
    database = duckdb.connect()
    alike = "select 1 as n, 'a' as name union all select 1, 'a'"
    assert difference(database, alike, alike) == {"equal": True, "rows": 2, "stored": 2, "missing": [], "surplus": []}
    once = difference(database, alike, "select 1 as n, 'a' as name")
    assert once == {"equal": False, "rows": 2, "stored": 1, "missing": [{"n": "1", "name": "a"}], "surplus": []}
    other = difference(database, "select null as n, 0.1 as name", "select 2 as n, 0.1 as name")
    assert (other["missing"], other["surplus"]) == ([{"n": "None", "name": "0.1"}], [{"n": "2", "name": "0.1"}])
    assert difference(database, alike, None)["missing"] == [{"n": "1", "name": "a"}] * 2
    assert differences({"journey": {"events": once}}) == ['journey: events: missing: {"n": "1", "name": "a"}']


def test_the_log_by_sql_of_three_batches(tmp_path):
    def line(request: str, minute: int, **values: object) -> dict:
        row = {"request": request, "customer": "u", "action": "view", "product": "i"}
        return {**row, "occurred_at": f"2024-01-02 10:{minute:02}:00", "price": 1, "device": "phone", **values}

    def write(day: str, *lines: object) -> tuple[str, list[Path]]:
        folder = tmp_path / f"day={day}"
        folder.mkdir()
        (folder / "a.json").write_text(
            "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in lines)
        )
        return day, [folder / "a.json"]

    batches = [
        write("1", line("a", 0), line("a", 0), line("b", 45, price=0.1, device=9), line("c", 46, customer=None)),
        write(
            "2",
            json.dumps(line("d", 20, price=0.2)).replace('"phone"', "10.449999999999999"),
            line("a", 0, product="other"),
            line("a", 0, customer="v"),
            '{"request": "e", "cust',
        ),
        write("3", line("f", 1, occurred_at="2024-01-01 10:44:59.999999"), line("g", 1, price=-1, action="hover")),
    ]
    log = DuckLog(WITHOUT_CUSTOMER, batches, late_days=1)
    names = ("read", "accepted", "duplicate", "quarantined", "late", "conflict")
    assert {name: tuple(told[kind] for kind in names) for name, told in log.counts().items()} == {
        "1": (4, 2, 1, 1, 0, 0),
        "2": (4, 1, 0, 3, 0, 2),
        "3": (2, 0, 0, 1, 1, 0),
    }
    expected = log.expected()
    rules = log.database.sql(f"select rules, payload[1] from ({expected['events_quarantine']}) order by all").fetchall()
    assert rules == [
        (["action_unknown", "value_negative"], "g"),
        (["conflict"], "a"),
        (["conflict"], "a"),
        (["event_type_required", "time_required", "unreadable_row", "user_id_required"], '{"request": "e", "cust'),
        (["late"], "f"),
        (["user_id_required"], "c"),
    ]
    # A number is text as it stands.
    devices = log.database.sql("select attributes[1].value from event order by event_time").fetchall()
    assert [device for (device,) in devices] == ["phone", "10.449999999999999", "9"]
    # The second batch joins what were two sessions: 10:00 and 10:45 are more than 30 minutes apart, 10:20 is between.
    sessions = log.database.sql("select n_events, n_items, value_sum, is_open from sessions").fetchall()
    assert sessions == [(3, 1, 1.3, True)]
    start = "start\x1f" + str(1704189600 * 10**6)
    aliases = log.database.sql(f"select session_id, batch_id from ({expected['session_alias']})").fetchall()
    assert aliases == [(hashlib.sha256(f"generated\x1fu\x1f{start}".encode()).hexdigest()[:32], "2")]


@pytest.mark.usefixtures("one_thread")
def test_a_pass_of_every_encoder_is_timed():
    told = encoders.run(["--rows", "2", "--columns", "4", "--dimension", "8", "--repeats", "1"])
    assert set(encoders.ENCODERS) - {"transformer_repeat"} < set(told)
    inputs = (5 + 32 + 1) * 8  # event types, gaps, value
    of_rnn = inputs + 2 * 8 * 8 + 2 * 8
    assert (told["mean"]["parameters"], told["rnn"]["parameters"]) == (inputs, of_rnn)
    assert told["transformer"]["ratio"] == 1.0
    assert all(figures["milliseconds"] > 0 for figures in told.values())


def test_row_wise_steps_keep_less_than_dense_ones():
    told = optimizer.run(["--items", "20000", "--dimension", "8", "--length", "8", "--steps", "2"])
    items = 20_003
    other = told["dense"]["weights_mb"] - 4 * 9 * items / 2**20  # one layer, and small tables
    assert abs(told["dense"]["state_mb"] - 2 * 4 * 9 * items / 2**20) < 0.1 + 2 * other
    assert abs(told["rowwise"]["state_mb"] - (4 * items + 2 * 4 * items) / 2**20) < 0.1 + 2 * other
    assert told["rowwise"]["steps"] == told["dense"]["steps"] == 2
    assert told["step_ratio"] > 0


def test_a_killed_worker_takes_all_with_it_and_counts_its_own_children_alone():
    child = "import subprocess; subprocess.Popen(['sleep', '600']); print('child', flush=True); input()"
    parent = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}], stdin=0); sys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", parent], **pipes) as worker:
        assert worker.stdout.readline() == b"child\n"
        offspring = psutil.Process(worker.pid).children(recursive=True)
        assert (len(offspring), kill_tree(worker)) == (2, 1)
    assert psutil.wait_procs(offspring, timeout=10)[1] == []


def test_a_child_that_is_dead_already_is_not_counted():
    waited = "os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)"  # it has ended, and stays a zombie
    script = f"child = subprocess.Popen(['true']); {waited}; print('dead', flush=True); sys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", f"import os, subprocess, sys; {script}"], **pipes) as worker:
        assert worker.stdout.readline() == b"dead\n"
        (dead,) = psutil.Process(worker.pid).children()
        assert (dead.status(), kill_tree(worker)) == (psutil.STATUS_ZOMBIE, 0)

"""kill -9 at points drawn at random: the run after it ends in the tables of a run that nobody disturbed."""

import contextlib
import os
import random
import signal
import subprocess
from pathlib import Path

import duckdb
import pytest
from deltalake import DeltaTable

from behavior_lib.tables import BATCH_STATISTICS, EVENTS, EVENTS_QUARANTINE, INGEST_FILES, PIPELINE_RUNS, SESSIONS
from benchmarks.jobs import INTERPRETED
from tests.jobs.conftest import Shop
from tests.jobs.small_source import YAML, line

pytestmark = [pytest.mark.spark, pytest.mark.end_to_end]

TEXT = (
    YAML.replace("key: [user, item, time]", "key: [user, item]\nsession_gap: 1h")
    + """
rules:
  - {id: cheap, keep_if: value < 90, else: quarantine}
  - {id: far, outlier: iqr, column: value, else: flag}
"""
)
# What may differ between two runs of one thing: when it was done, and where the files lie.
_OF_THE_RUN = {"accepted_at", "path", "ingest_date"}
_LOG = ("ingest", "ingest", "sessionize", "ingest", "rebuild")
_OF_A_ROUND = 8  # kills: a rebuild takes all batches of its warehouse again


def pytest_generate_tests(metafunc):
    """As many rounds as the kills that are asked for need, each with warehouses and a seed of its own."""
    if "kills" in metafunc.fixturenames:
        wanted = metafunc.config.getoption("kills")
        starts = range(0, wanted, _OF_A_ROUND)
        rounds = [(number, min(_OF_A_ROUND, wanted - start)) for number, start in enumerate(starts)]
        metafunc.parametrize(("number_of_round", "kills"), rounds)


def batch(draw: random.Random, number: int) -> bytes:
    """Users who come back within the hour, now and then before events that are there already; copies and conflicts."""
    rows = []
    for _ in range(60):
        day, hour = draw.choice((number, number, number, max(number - 2, 1))), draw.randrange(24)
        time = f"2017-05-{day:02d} {hour:02d}:{draw.randrange(60):02d}:00"
        user, item = draw.choice("abc"), f"i{day}-{hour}-{draw.randrange(4)}"
        rows.append(line(user=user, item=item, time=time, value=str(draw.randrange(100))))
    return b"".join([*rows, *rows[:5], b"{torn\n"])


class Twin:
    """A warehouse that is killed and one that is not, fed with the same files."""

    def __init__(self, spark, root: Path, capture) -> None:
        self.killed, self.calm = (Shop(spark, root / name, capture) for name in ("killed", "calm"))
        for shop in (self.killed, self.calm):
            (shop.root / "raw").mkdir(parents=True)
            (shop.root / "shop.yaml").write_text(TEXT)

    def arrive(self, name: str, content: bytes) -> None:
        for shop in (self.killed, self.calm):
            (shop.root / "raw" / name).write_bytes(content)

    def run_calmly(self, shop: Shop, job: str, number: int) -> int:
        """Returns how many files the job wrote."""
        before = set(files(shop))
        assert shop.run(job, *settings(shop, number))["exit_code"] == 0
        return len(set(files(shop)) - before)

    def kill(self, job: str, number: int, after: int) -> bool:
        """Start the job as a process of its own, and kill it and its JVM once it has written so many files."""
        shop = self.killed
        command = shop.command(job, *settings(shop, number), *INTERPRETED)
        there = set(files(shop))
        with open(shop.root / "killed.log", "ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
            while process.poll() is None and len(set(files(shop)) - there) < after:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.002)
            was_running = process.poll() is None
            if was_running:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return was_running


def settings(shop: Shop, number: int) -> list[str]:
    return [f"source={shop.root / 'shop.yaml'}", "late.max_days=3", f"run.batch_id=b{number}"]


def files(shop: Shop) -> list[str]:
    """What lies in the warehouse; a folder may vanish while it is read."""
    return [os.path.join(folder, name) for folder, _, names in os.walk(shop.root / "warehouse") for name in names]


def rows(shop: Shop, spec) -> list[str]:
    """What the table's newest version holds, read without Spark."""
    table = shop.root / "warehouse" / spec.name
    found = DeltaTable(str(table)).file_uris() if DeltaTable.is_deltatable(str(table)) else []
    kept = ", ".join(name for name in spec.column_names if name not in _OF_THE_RUN)
    query = f"select {kept} from read_parquet(?, hive_partitioning=true)"
    return sorted(str(row) for row in duckdb.execute(query, [found]).fetchall()) if found else []


def test_whatever_is_killed_ends_as_if_nothing_had_happened(spark, tmp_path, capsys, number_of_round, kills):
    draw = random.Random(f"round {number_of_round}")
    twin = Twin(spark, tmp_path, capsys.readouterr)
    killed = 0
    for number in range(1, 3 * kills):
        if killed == kills:
            break
        job = _LOG[number % len(_LOG)]
        twin.arrive(f"{number}.json", batch(draw, number % 28 + 1))
        for shop in (twin.calm, twin.killed) if job != "ingest" else ():
            twin.run_calmly(shop, "ingest", number)
        written = twin.run_calmly(twin.calm, job, number)
        killed += twin.kill(job, number, draw.randint(1, max(written, 1)))
        twin.run_calmly(twin.killed, job, number)
        for spec in (EVENTS, EVENTS_QUARANTINE, BATCH_STATISTICS, INGEST_FILES, SESSIONS):
            assert rows(twin.killed, spec) == rows(twin.calm, spec), (number, job, spec.name)
    assert killed == kills
    ledger = twin.killed.tables.read(PIPELINE_RUNS).where("job = 'ingest' and rows_read is not null")
    assert ledger.count() == ledger.select(PIPELINE_RUNS.batch_id).distinct().count()

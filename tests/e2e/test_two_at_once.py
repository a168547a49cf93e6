"""Two runs at the same moment, each a process of its own."""

import json
import subprocess

import pytest

from behavior_lib.tables import EVENTS, INGEST_FILES, PIPELINE_RUNS
from tests.jobs.conftest import Shop
from tests.jobs.small_source import YAML, line

pytestmark = [pytest.mark.spark, pytest.mark.end_to_end]


def start(shop: Shop, source: str) -> subprocess.Popen:
    command = shop.command("ingest", "run.wait_minutes=10", f"source={shop.root / source}.yaml")
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def told(process: subprocess.Popen) -> dict:
    out, err = process.communicate()
    assert process.returncode == 0, err
    return json.loads(out.strip().splitlines()[-1])


@pytest.fixture
def sources(spark, tmp_path, capsys) -> Shop:
    shop = Shop(spark, tmp_path, capsys.readouterr)
    for number, name in enumerate(("north", "south"), 3):
        (shop.root / "raw" / name).mkdir(parents=True)
        lines = [line(user=f"{name}{user}", item=f"i{user}") for user in range(number)]
        (shop.root / "raw" / name / "a.json").write_bytes(b"".join([*lines, lines[0]]))
        (shop.root / f"{name}.yaml").write_text(YAML.replace("shop", name).replace("raw}/*", f"raw}}/{name}/*"))
    return shop


@pytest.mark.slow
def test_two_sources_are_taken_at_once(sources: Shop):
    runs = [told(process) for process in [start(sources, "north"), start(sources, "south")]]
    assert [(run["rows"]["accepted"], run["rows"]["duplicate"]) for run in runs] == [(3, 1), (4, 1)]
    users = [
        row.user_id for row in sources.tables.read(EVENTS).select(EVENTS.user_id).orderBy(EVENTS.user_id).collect()
    ]
    assert users == ["north0", "north1", "north2", "south0", "south1", "south2", "south3"]
    batches = sources.tables.rows(INGEST_FILES)
    assert sorted((row["source"], row["batch_number"]) for row in batches) == [("north", 1), ("south", 1)]
    assert {run["run_id"] for run in runs} == {row["run_id"] for row in sources.tables.rows(PIPELINE_RUNS)}


def test_of_two_runs_on_one_source_one_takes_the_batch_and_the_other_finds_it_taken(sources: Shop):
    runs = [told(process) for process in [start(sources, "north"), start(sources, "north")]]
    assert sorted(run["status"] for run in runs) == ["succeeded", "unchanged"]
    assert sources.tables.read(EVENTS).count() == 3
    assert len(sources.tables.rows(INGEST_FILES)) == 1

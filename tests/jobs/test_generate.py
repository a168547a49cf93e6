"""`behavior generate` as people call it, and what ingest makes of its files, to the row."""

import gzip
import json
from datetime import timedelta
from itertools import pairwise

import duckdb
import pytest
from pyspark.sql import functions as F

from behavior_lib.cli import main
from behavior_lib.config.generator import BAD_KINDS
from behavior_lib.layout import conf_root
from behavior_lib.tables import EVENTS, EVENTS_QUARANTINE, SESSIONS
from benchmarks import duck

pytestmark = pytest.mark.spark

SOURCE = "source=generated"


@pytest.fixture
def generate(shop, capsys):
    def call(*words: str) -> dict:
        paths = [f"paths.{name}={shop.root / name}" for name in ("raw", "warehouse", "var")]
        settings = [word for path in paths for word in ("--set", path)]
        out = str(shop.root / "raw" / "generated")
        code = main(["generate", "--out", out, "--env", "test", *settings, *words])
        told = capsys.readouterr()
        return {**json.loads(told.out.strip().splitlines()[-1]), "exit_code": code}

    return call


def silences(times: dict[str, list]) -> list[timedelta]:
    return [b - a for own in times.values() for a, b in pairwise(sorted(own))]


def test_ingest_counts_what_the_generator_promises(shop, generate):
    told = generate("--events", "4000", "--seed", "11", "--bad", "0.02", "--days", "5", "--huge-session", "300")
    assert (told["exit_code"], told["status"], told["rows"]) == (0, "succeeded", {"written": 4000})
    assert told["counts"] == json.loads((shop.root / "raw/generated/_truth.json").read_text())["counts"]
    rows = shop.run("ingest", SOURCE)["rows"]
    assert rows == {"read": 4000, "accepted": 3720, "duplicate": 200, "quarantined": 80, "late": 0, "conflict": 0}
    rules = shop.tables.read(EVENTS_QUARANTINE).groupBy(EVENTS_QUARANTINE.rules).agg(F.sum(EVENTS_QUARANTINE.n_rows))
    assert {tuple(row[0]): row[1] for row in rules.collect()} == dict.fromkeys(BAD_KINDS.values(), 16)
    shop.run("sessionize", SOURCE)
    events = shop.tables.read(EVENTS).select(EVENTS.user_id, EVENTS.event_time).collect()
    times: dict[str, list] = {}
    for user, time in events:
        times.setdefault(user, []).append(time)
    breaks = sum(silence > timedelta(minutes=30) for silence in silences(times))
    sessions = shop.tables.read(SESSIONS)
    assert sessions.count() == len(times) + breaks
    huge = sessions.where(F.col(SESSIONS.user_id) == "huge-session-user").collect()
    assert [row[SESSIONS.n_events] for row in huge] == [300]
    rival = duck.run(shop.root / "raw" / "generated", shop.root / "duck", threads=1)
    assert rival == {"event": 3720, "session": sessions.count()}


def test_parquet_day_by_day_in_two_batches(shop, generate):
    assert generate("--events", "3000", "--bad", "0.01", "--days", "3", "--format", "parquet")["exit_code"] == 0
    folder = shop.root / "raw" / "generated"
    days = sorted(path.name for path in folder.glob("day=*"))
    source = shop.root / "parquet.yaml"
    # Parquet has types of its own, so the source declares none.
    head, tail = (conf_root() / "sources" / "generated.yaml").read_text().split("schema: >-")
    source.write_text(head.replace("format: json", "format: parquet") + tail[tail.index("timezone") :])
    first = "{" + ",".join(days[:2]) + "}"
    one = shop.run("ingest", f"source={source}", "run.batch_id=one", f"run.input={folder}/{first}")["rows"]
    two = shop.run("ingest", f"source={source}")["rows"]
    summed = {name: one[name] + two[name] for name in one}
    assert summed == {"read": 3000, "accepted": 2820, "duplicate": 150, "quarantined": 30, "late": 0, "conflict": 0}
    assert two["duplicate"] > 0
    query = "select count(*), count(distinct request) from read_parquet(?)"
    counted = duckdb.execute(query, [f"{folder}/day=*/*.parquet"]).fetchone()
    # The torn rows are empty in Parquet; the others' requests are the good events' and the bad rows' own.
    assert counted == (3000, 2820 + 30 - 6)


def test_a_heavy_day_lies_in_several_files(shop, generate):
    words = ("--events", "2000", "--heavy-day", "0.9", "--days", "9", "--duplicates", "0", "--rows-per-file", "250")
    assert generate(*words)["exit_code"] == 0
    files = {day.name: len(list(day.glob("*.gz"))) for day in (shop.root / "raw" / "generated").glob("day=*")}
    assert files.pop("day=2024-01-05") >= 8
    assert set(files.values()) == {1}


def test_no_file_has_more_rows_than_asked_for(shop, generate):
    words = ("--events", "3000", "--huge-session", "1200", "--days", "3", "--late", "0", "--rows-per-file", "100")
    assert generate(*words, "--duplicates", "0")["exit_code"] == 0
    folder = shop.root / "raw" / "generated"
    lines = {path: len(gzip.decompress(path.read_bytes()).splitlines()) for path in folder.glob("day=*/*.gz")}
    assert (max(lines.values()), sum(lines.values())) == (100, 3000)
    assert sum(rows for path, rows in lines.items() if path.parent.name == "day=2024-01-02") > 1200


def test_a_second_call_finds_the_rows_and_another_is_refused(generate, shop):
    (shop.root / "raw" / "generated").mkdir(parents=True)
    assert generate("--events", "500")["status"] == "succeeded"
    before = {path: path.stat().st_mtime_ns for path in (shop.root / "raw").rglob("*")}
    assert generate("--events", "500")["status"] == "unchanged"
    refused = generate("--events", "501")
    assert (refused["exit_code"], refused["status"]) == (2, "failed")
    out = str(shop.root / "raw" / "generated")
    assert refused["error"] == f"the folder holds something else in --out: {out!r}; remove it or name another"
    assert {path: path.stat().st_mtime_ns for path in (shop.root / "raw").rglob("*")} == before
    assert generate("--events", "0")["exit_code"] == 2
    assert generate("--events", "many")["error"].startswith("argument --events: invalid int value: 'many'")

"""maintain among the other jobs: they find nothing new after it, and what comes later is taken as ever."""

from __future__ import annotations

import deltalake
import pytest

from behavior_lib.tables import ALL_TABLES, EVENTS, PIPELINE_RUNS, SEQUENCES
from tests.jobs.test_event_log import DAYS, SOURCE, events_of, raw_lines, stored_events, stored_sessions

pytestmark = [pytest.mark.spark, pytest.mark.slow]

CUTS = ("split.validation=2011-02-10", "split.test=2011-02-11")


def versions(shop) -> dict[str, int]:
    present = [spec for spec in ALL_TABLES if shop.tables.exists(spec)]
    return {spec.name: shop.tables.version(spec) for spec in present if spec != PIPELINE_RUNS}


def test_maintain_between_the_days(shop):
    header, *lines = DAYS[0].read_text(encoding="utf-8").splitlines()
    for number in range(2):
        part = shop.root / f"part{number}.csv"
        part.write_text("\n".join([header, *lines[number::2]]) + "\n", encoding="utf-8")
        batch = (f"run.batch_id=part{number}", f"run.input={part}")
        assert shop.run("ingest", SOURCE, *batch)["exit_code"] == 0
    assert shop.run("sessionize", SOURCE)["status"] == "succeeded"
    assert shop.run("build_sequences", SOURCE, *CUTS)["status"] == "succeeded"
    sequences = deltalake.DeltaTable(shop.tables.location(SEQUENCES)).file_uris()
    events, sessions, before = stored_events(shop.tables), stored_sessions(shop.tables), versions(shop)

    told = shop.run("maintain", SOURCE)
    assert (told["exit_code"], told["status"]) == (0, "succeeded")
    assert told["metrics"]["partitions_rewritten"] >= 1
    assert told["report"]["events"]["files_before"] == 2
    assert told["report"]["events"]["files"] == told["report"]["events"]["partitions"] == 1
    assert told["tables"]["events"] == before["events"] + 1
    assert "events_quarantine" in told["stderr"]
    assert (stored_events(shop.tables), stored_sessions(shop.tables)) == (events, sessions)
    assert deltalake.DeltaTable(shop.tables.location(SEQUENCES)).file_uris() == sequences
    for job in ("sessionize", "build_sequences"):
        again = shop.run(job, SOURCE, *CUTS)
        assert (again["status"], again["tables"].keys()) == ("unchanged", {"pipeline_runs"}), job

    after = versions(shop)
    assert shop.run("maintain", SOURCE)["status"] == "unchanged"
    assert versions(shop) == after

    later = f"run.input={DAYS[1].parent}/2011-02-1*.csv"
    assert shop.run("ingest", SOURCE, "run.batch_id=later", later)["exit_code"] == 0
    assert shop.run("sessionize", SOURCE)["status"] == "succeeded"
    database = raw_lines()
    expected = database.execute(
        "select u, InvoiceNo, min(t), max(t), count(*), count(distinct StockCode) from event group by u, InvoiceNo"
    ).fetchall()
    assert stored_events(shop.tables) == sorted(events_of(database))
    assert stored_sessions(shop.tables) == sorted(expected)
    runs = shop.tables.read(PIPELINE_RUNS).where("job = 'maintain'").orderBy("started_at").collect()
    assert [(run.status, run.input_versions["events"]) for run in runs] == [
        ("succeeded", before["events"]),
        ("unchanged", after["events"]),
    ]
    properties = deltalake.DeltaTable(shop.tables.location(EVENTS)).metadata().configuration
    assert properties["delta.enableDeletionVectors"] == "false"


def test_a_short_retention_is_refused_before_anything_is_done(shop):
    told = shop.run("maintain", SOURCE, "maintain.retention_hours=1")
    assert told["exit_code"] == 2
    assert told["error"].startswith("files that running readers need would be removed in maintain.retention_hours: 1; ")

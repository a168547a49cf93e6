"""Sequences after increments equal those that are made whole, row for row and file for file."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from behavior_lib.cli import load_job
from behavior_lib.data.snapshot import Snapshot
from behavior_lib.spark.sequences import lay_out
from behavior_lib.tables import ITEM_GRAPH, SEQUENCES
from tests.jobs.small_source import line

pytestmark = pytest.mark.spark

SETTINGS = ["sequences.length=4", "sequences.stride=3", "sequences.files=2", "sequences.neighbours=3"]
CUTS = ["split.validation=2017-01-05", "split.test=2017-01-08"]
WHOLE = ["sequences.row_group=3"]


def lines(seed: int, users: str, items: str, n: int) -> bytes:
    """Purchases of ten days, so that every batch but the first brings late ones too."""
    draw, start = random.Random(seed), datetime(2017, 1, 1)
    times = [start + timedelta(minutes=draw.randrange(10 * 1440)) for _ in range(n)]
    return b"".join(line(user=draw.choice(users), item=draw.choice(items), time=str(time)) for time in times)


def stored(shop: Any, version: int) -> dict[str, list[pa.Table]]:
    """The rows of a version as they lie in its files, by split."""
    files = Snapshot.resolve(shop.tables.location(SEQUENCES), version).files
    return {split: [pq.ParquetFile(file.path).read() for file in of_split] for split, of_split in files.items()}


def edges(shop: Any, told: dict[str, Any]) -> list[Any]:
    """The rows of the item graph, which is that of the sequences that were written with it."""
    rows = shop.tables.read(ITEM_GRAPH, told["tables"]["item_graph"]).collect()
    assert {(row.sequences_version, row.kept) for row in rows} == {(told["tables"]["sequences"], 3)}
    return sorted(row[: len(ITEM_GRAPH.key) + 3] for row in rows)


def build(shop: Any, *settings: str) -> tuple[dict[str, Any], dict[str, list[pa.Table]]]:
    told = shop.run("build_sequences", *settings)
    assert told["exit_code"] == 0, told
    return told, stored(shop, told["tables"]["sequences"])


def test_an_increment_makes_its_users_again_and_equals_a_whole_build(shop, source):
    settings = [source(first_json=lines(1, "abcdefgh", "pqr", 90)), *SETTINGS, *CUTS]
    for job in ("ingest", "sessionize"):
        shop.run(job, *settings)
    told, first = build(shop, *settings)
    assert "users_made_again" not in told["metrics"]
    events = sum(sum(table["length"].to_pylist()) for tables in first.values() for table in tables)
    rows = sum(len(table) for tables in first.values() for table in tables)
    assert told["metrics"]["padding_share"] == round(1 - events / (4 * rows), 4)

    source(second_json=lines(2, "aby", "qrst", 12))
    shop.run("ingest", *settings)
    # Their sessions are not made yet: the next build has to look at the same users once more.
    told, _ = build(shop, *settings)
    assert told["metrics"]["users_made_again"] == 3
    shop.run("sessionize", *settings)
    told, second = build(shop, *settings)
    assert told["metrics"]["users_made_again"] == 3
    assert second != first
    graph = edges(shop, told)
    assert {row[:2] for row in graph} == {("train", "next")}

    whole, expected = build(shop, *settings, *WHOLE)
    assert "users_made_again" not in whole["metrics"]
    assert second == expected
    assert graph == edges(shop, whole)
    assert second.keys() == {"train", "validation", "test"}

    # What comes after the cut is in no edge.
    source(third_json=line(user="a", item="p", time="2017-01-09 10:00:00") + line(user="a", item="z"))
    shop.run("ingest", *settings)
    told, third = build(shop, *settings)
    assert third["test"] == second["test"]
    assert edges(shop, told) == graph


def test_a_table_from_before_first_event_times_is_made_again(shop, source, monkeypatch):
    """By a build that finds no new event, too; until then its rows have none."""
    settings = [source(first_json=lines(6, "abc", "pqr", 30)), *SETTINGS, *CUTS]
    for job in ("ingest", "sessionize"):
        shop.run(job, *settings)
    time = SEQUENCES.first_event_time
    older = replace(SEQUENCES, columns=tuple(column for column in SEQUENCES.columns if column.name != time))
    with monkeypatch.context() as before:
        before.setattr(load_job("build_sequences"), "SEQUENCES", older)
        before.setattr(load_job("build_sequences"), "lay_out", lambda *given: lay_out(*given).drop(time))
        _, first = build(shop, *settings)
    assert time not in first["train"][0].column_names
    assert {row[time] for row in shop.tables.read(SEQUENCES).collect()} == {None}
    told, second = build(shop, *settings)
    assert (told["status"], "users_made_again" in told["metrics"]) == ("succeeded", False)
    tables = [table for of_split in second.values() for table in of_split]
    assert all((pc.is_valid(table[time]).to_pylist() == pc.greater(table["length"], 0).to_pylist()) for table in tables)
    assert shop.run("build_sequences", *settings)["status"] == "unchanged"


@pytest.mark.slow
def test_a_moved_cut_and_other_configuration_make_all_again(shop, source):
    settings = [source(first_json=lines(3, "abc", "pq", 30)), *SETTINGS, "split.days=2"]
    for job in ("ingest", "sessionize"):
        shop.run(job, *settings)
    build(shop, *settings)
    source(second_json=line(user="a", item="p", time="2017-01-12 10:00:00"))
    for job in ("ingest", "sessionize"):
        shop.run(job, *settings)
    told, rows = build(shop, *settings)
    assert (told["test_cut"], "users_made_again" in told["metrics"]) == ("2017-01-11T00:00:00", False)
    told, _ = build(shop, *settings, "split.refit=true")
    assert {row[0] for row in edges(shop, told)} == {"train", "refit"}
    told, _ = build(shop, *settings, "sequences.neighbours=0")
    assert "item_graph" not in told["tables"]
    cuts = {str(value) for table in rows["test"] for value in table["as_of"].to_pylist()}
    assert cuts == {"2017-01-11 00:00:00+00:00"}
    assert "nothing to learn from" not in told["stderr"]
    assert "of the arrays is padding" not in told["stderr"]
    told, _ = build(shop, *settings, "split.days=14", "sequences.length=64")
    assert "sequences.length=16 would be written and read faster" in told["stderr"]
    assert told["metrics"]["rows_train"] == 0
    assert "nothing to learn from: no event lies before the first cut; move it by --set split.days" in told["stderr"]


@pytest.mark.slow
def test_leave_one_out_needs_no_sessions_and_no_cut(shop, source):
    settings = [source(first_json=lines(4, "abcdef", "pqr", 40)), *SETTINGS, "split.kind=leave_one_out"]
    for job in ("ingest", "sessionize"):
        shop.run(job, *settings)
    told, _ = build(shop, *settings)
    assert "test_cut" not in told
    source(second_json=lines(5, "fg", "qst", 8))
    for job in ("ingest", "sessionize"):
        shop.run(job, *settings)
    told, second = build(shop, *settings)
    assert told["metrics"]["users_made_again"] == 2
    assert second == build(shop, *settings, *WHOLE)[1]

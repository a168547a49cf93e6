"""A Spark standalone cluster of two workers loses one, by kill -9, while events are written."""

from pathlib import Path

import pytest

from benchmarks.cluster import generate, lose_a_worker

pytestmark = [pytest.mark.spark, pytest.mark.end_to_end, pytest.mark.slow]

ROWS = 100_000
SMALL = ["spark.conf.spark.databricks.delta.snapshotPartitions=1"]  # of 50 tasks a look at a table: a minute less


def test_a_worker_lost_midway_leaves_the_same_tables(tmp_path: Path):
    raw, days = generate(tmp_path, ROWS, seed=1)
    told = lose_a_worker(tmp_path, raw, days, seed=1, more=SMALL, worker_mb=1536, executor_mb=1024)
    assert (told["killed"]["executors"], told["retried"]["executors_lost"]) == (1, 1)
    assert told["retried"]["tasks"]["FetchFailed"] >= 1
    assert told["errors"] == {}
    assert told["rows"] == {
        "read": 100_000,
        "accepted": 94_500,
        "duplicate": 5_000,
        "quarantined": 500,
        "late": 0,
        "conflict": 0,
    }
    for found in told["tables"].values():
        assert found["shaken"] == found["calm"]
    assert told["equal"]

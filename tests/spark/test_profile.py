"""Facts about raw rows, on rows that can be counted by hand."""

from __future__ import annotations

from typing import Any

import pytest
from pyspark.sql import functions as F

from behavior_lib.config import load
from behavior_lib.profile.facts import RowFacts
from behavior_lib.profile.gaps import EDGES
from behavior_lib.spark.profile import column_facts, find_key, row_facts
from behavior_lib.spark.profile_events import event_facts
from behavior_lib.spark.profile_files import find_raw
from behavior_lib.spark.raw import UNREADABLE, RawFile
from tests.spark.conftest import event

pytestmark = pytest.mark.spark

ROWS = """select * from values
    ('7.0', 'red cup', '12/31/2016 8:00', '1.5', array('a')),
    ('7.0', 'red cup', '12/31/2016 8:00', '1.5', array('a')),
    ('8.0', 'tea', '1/2/2017 23:59', '-2', array('b')),
    (null, ' ', '1/3/2017 0:00', 'many', null)
    as t(who, what, seen, price, tags)"""


@pytest.fixture(scope="module")
def readable(spark: Any) -> Any:
    return spark.sql(ROWS).cache()


def test_every_fact_of_a_column(readable):
    who, what, seen, price, tags = column_facts(readable)
    assert (who.rows, who.missing, who.distinct, who.whole, who.integers) == (4, 1, 2, 3, 0)
    assert who.top == (("7.0", 2), ("8.0", 1))
    assert (what.missing, what.spaced, what.low, what.high, what.mean_length) == (1, 2, "red cup", "tea", 17 / 3)
    assert dict(seen.times) == {"M/d/yyyy H:mm": 4}
    assert (price.numbers, price.integers, price.number_low, price.number_high) == (3, 1, -2.0, 1.5)
    assert (tags.type, tags.missing, tags.top) == ("array<string>", 1, (('["a"]', 2), ('["b"]', 1)))


def test_rows_are_equal_only_in_every_column(readable):
    raw = readable.withColumn(UNREADABLE, F.lit(None).cast("string"))
    broken = readable.limit(1).select(
        *(F.lit(None).cast(t).alias(n) for n, t in readable.dtypes), F.lit("{").alias(UNREADABLE)
    )
    facts = row_facts(raw.unionByName(broken), [RawFile("a", 3), RawFile("b", 4)])
    assert facts == RowFacts(files=2, bytes=7, rows=5, unreadable=1, duplicates=1)
    assert facts.distinct == 3


def test_a_null_beside_a_value_is_not_the_value_beside_a_null(spark):
    frame = spark.sql("select * from values ('a', null), (null, 'a') as t(x, y)")
    facts = row_facts(frame.withColumn(UNREADABLE, F.lit(None).cast("string")), [])
    assert facts.duplicates == 0


def test_the_smallest_key_is_found(spark):
    grid = spark.range(60).selectExpr(
        "cast(id div 10 as string) as basket", "cast(id % 10 as string) as line", "'x' as same",
        "cast(id div 2 as string) as near",
    ).unionByName(spark.sql("select '0' as basket, '0' as line, 'x' as same, '0' as near"))  # fmt: skip
    key, how = find_key(grid, ["basket", "near", "line", "same"], 60)
    assert key == ["basket", "line"]
    assert how == "smallest set found: all 60 different rows of these files differ in it"
    bits = spark.range(32).selectExpr(*(f"cast((id div {2**n}) % 2 as string) as c{n}" for n in range(5)))
    key, how = find_key(bits, [f"c{n}" for n in range(5)], 32)
    assert key == [f"c{n}" for n in range(5)]
    assert how == "no set of 3 columns found, but this one: all 32 different rows of these files differ in it"


def test_a_key_that_the_first_rows_promise_is_counted_over_all(spark, monkeypatch):
    monkeypatch.setattr("behavior_lib.spark.profile._KEY_ROWS", 3)
    rows = spark.range(8, numPartitions=1)
    frame = rows.selectExpr("cast(id % 4 as string) as first", "cast(id div 4 as string) as second")
    assert find_key(frame, ["first", "second"], 8)[0] == ["first", "second"]


def test_a_source_by_its_yaml_is_read_as_it_says(spark, tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "day.txt").write_text("u1|2017-01-01\nu2|2017-01-02\n")
    yaml = """
name: tiny
format: csv
path: ${paths.raw}/*.txt
options: {sep: "|"}
schema: "who string, day string"
timezone: Europe/Berlin
columns: {user_id: who, event_type: "'visit'", event_time: try_to_timestamp(day)}
key: [who]
"""
    (tmp_path / "tiny.yaml").write_text(yaml)
    paths = [f"paths.{name}={tmp_path / name}" for name in ("raw", "warehouse", "var")]
    config = load("test", None, paths).config
    found = find_raw(spark, config, str(tmp_path / "tiny.yaml"), None, None)
    assert (found.name, found.format.options, found.timezone) == ("tiny", {"sep": "|"}, "Europe/Berlin")
    assert found.yaml_path(config) == "${paths.raw}/*.txt"
    assert [tuple(row) for row in found.read(spark).drop(UNREADABLE).collect()] == [
        ("u1", "2017-01-01"),
        ("u2", "2017-01-02"),
    ]
    told = find_raw(spark, config, None, str(tmp_path / "raw"), "json")
    assert (told.name, told.format.name, told.path) == ("raw", "json", str(tmp_path / "raw"))


def test_the_rows_as_events(events):
    rows = events(
        event("a", "2017-01-01 10:00:00", value=1.0, session_key="s", item_id="i"),
        event("a", "2017-01-01 10:00:00", value=3.0, session_key="s", item_id="j"),
        event("a", "2017-01-01 10:01:00", value=-2.0, event_type="buy", session_key="t"),
        event("a", "2017-01-02 10:01:00.000001", session_key="t"),
        event("b", "2017-01-01 12:00:00", session_key="t"),
        event(" ", "2017-01-01 12:00:00"),
    )
    facts = event_facts(rows)
    assert (facts.first, facts.last) == ("2017-01-01 10:00:00", "2017-01-02 10:01:00.000001")
    assert facts.types == {"view": 4, "buy": 1}
    # Rows without a type are for quarantine, and no type.
    blank = (event("a", "2017-01-02", event_type=kind) for kind in (None, " "))
    assert event_facts(rows.unionByName(events(*blank))).types == facts.types
    assert (facts.users, facts.per_user_median, facts.per_user_max, facts.busiest_day) == (2, 2.5, 4, 3)
    assert facts.per_user_p95 == pytest.approx(3.85)
    # A silence of exactly a minute lies up to it, one of a day and a microsecond past the day.
    assert facts.gaps == {EDGES.index(60): 1, EDGES.index(86400) + 1: 1}
    assert (facts.sessions, facts.shared_sessions, facts.without_item) == (2, 1, 3)
    assert (facts.values, facts.without_value, facts.negative, facts.distinct_values) == (3, 2, 1, 3)
    assert (facts.value_low, facts.value_high, facts.value_quartiles) == (-2.0, 3.0, (-2.0, 1.0, 3.0))

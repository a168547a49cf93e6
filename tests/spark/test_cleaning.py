"""Raw rows → canonical rows → judged rows, each rule by exact rows."""

import json
from datetime import datetime, timezone
from pathlib import Path

import pytest
from pyspark.sql import functions as F

from behavior_lib.config.source import OutlierTest, Policy, RuleConfig, SourceConfig
from behavior_lib.errors import ConfigError
from behavior_lib.spark.canonical import canonical, key_carries_time
from behavior_lib.spark.clean import BROKEN, accepted, judge, rejected
from behavior_lib.spark.dedupe import IS_DUPLICATE, mark_duplicates
from behavior_lib.spark.raw import read_raw
from behavior_lib.spark.raw_files import RawFile, find_files
from behavior_lib.tables import EVENTS

ACCEPTED_AT = datetime(2017, 6, 1, tzinfo=timezone.utc)


def source(**values) -> SourceConfig:
    columns = {
        "user_id": "user",
        "item_id": "item",
        "event_type": "type",
        "event_time": "try_to_timestamp(time)",
        "value": "value",
        "attributes": "map('shelf', shelf)",
    }
    schema = "user string, item string, type string, time string, value string, shelf string"
    given = {
        "name": "shop",
        "format": "json",
        "path": "unused",
        "columns": columns,
        "schema": schema,
        "key": ["user", "item", "time"],
    }
    return SourceConfig(**{**given, **values})


def line(**values) -> str:
    row = {"user": "u1", "item": "i1", "type": "view", "time": "2017-05-01 12:00:00", "value": "1.5", "shelf": "A"}
    return json.dumps({**row, **values})


@pytest.fixture
def read(spark, tmp_path: Path):
    """read(source, line, …) → canonical rows of one file with these lines."""

    def reader(of: SourceConfig, *lines: str | bytes, suffix: str = "json"):
        path = tmp_path / f"raw.{suffix}"
        path.write_bytes(b"\n".join(text if isinstance(text, bytes) else text.encode() for text in lines) + b"\n")
        raw = read_raw(spark, of, [RawFile(str(path), path.stat().st_size)])
        return canonical(raw, of)

    return reader


def broken(rows, of: SourceConfig, late_before: datetime | None = None) -> list[list[str]]:
    judged = judge(rows, of, ACCEPTED_AT, late_before).select(EVENTS.user_id, BROKEN).collect()
    return [row[BROKEN] for row in judged]


def test_canonical_columns_and_the_event_id(read):
    row = read(source(), line()).first()
    told = (row.user_id, row.item_id, row.event_type, str(row.event_time), row.value, row.session_key, row.attributes)
    assert told == ("u1", "i1", "view", "2017-05-01 12:00:00", 1.5, None, {"shelf": "A"})
    import hashlib

    expected = hashlib.sha256("\x1f".join(["shop", "u1", "i1", "2017-05-01 12:00:00"]).encode()).hexdigest()[:32]
    assert row.event_id == expected


def test_a_value_that_is_no_finite_number_is_null(read):
    texts = ["1e308", "NaN", "Infinity", "-inf", "1e400", "-2", "many"]
    rows = read(source(), *(line(item=text, value=text) for text in texts)).collect()
    assert {row.item_id: row.value for row in rows} == {
        "1e308": 1e308, "NaN": None, "Infinity": None, "-inf": None, "1e400": None, "-2": -2.0, "many": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("timezone_name", "text", "utc"),
    [
        ("Europe/London", "2017-05-01 12:00:00", "2017-05-01 11:00:00"),
        ("Europe/London", "2017-01-01 12:00:00", "2017-01-01 12:00:00"),
        ("Europe/London", "2017-05-01T12:00:00+05:00", "2017-05-01 07:00:00"),
        ("America/New_York", "2017-12-31 23:01:20", "2018-01-01 04:01:20"),
    ],
)
def test_times_without_offset_are_local_to_the_source(read, timezone_name: str, text: str, utc: str):
    of = source(timezone=timezone_name, columns={**source().columns, "event_time": "try_cast(time as timestamp)"})
    assert str(read(of, line(time=text)).first().event_time) == utc


@pytest.mark.parametrize(
    ("bad", "rules"),
    [
        (line(user=None), ["user_id_required"]),
        (line(user="  "), ["user_id_required"]),
        (line(time="yesterday"), ["time_required"]),
        (line(time="1900-01-01 00:00:00"), ["time_before_1970"]),
        (line(time="2300-01-01 00:00:00"), ["time_in_future"]),
        (line(time="2017-06-02 00:00:00.000001"), ["time_in_future"]),
        (line(time="2017-06-02 00:00:00"), []),
        (line(user="x" * 10_000), ["user_id_too_long"]),
        (line(item="a\u0000b"), ["item_id_control_character"]),
        (line(user="🛒", item="שלום"), []),
        (line(type=None, user=None, time="?"), ["event_type_required", "time_required", "user_id_required"]),
        ("{no json", ["event_type_required", "time_required", "unreadable_row", "user_id_required"]),
        (b'{"user": "u\x00"}', ["event_type_required", "time_required", "unreadable_row", "user_id_required"]),
        ("", []),
    ],
)
def test_what_every_event_must_meet(read, bad: str | bytes, rules: list[str]):
    of = source()
    good = line(user="good")
    found = judge(read(of, good, bad), of, ACCEPTED_AT, None).select(EVENTS.user_id, BROKEN).collect()
    assert len(found) == (2 if bad else 1)
    assert [row[BROKEN] for row in found if row.user_id != "good"] == ([rules] if bad else [])


RULES = [
    RuleConfig(id="positive", keep_if="value > 0"),
    RuleConfig(id="shelf_known", keep_if="attributes['shelf'] in ('A', 'B')", policy=Policy.flag),
    RuleConfig(id="item_there", required=True, column="item_id"),
    RuleConfig(id="cheap", range=[-5.0, 100.0], column="value", policy=Policy.drop),
    RuleConfig(id="type_known", allowed=["view", "buy"], column="event_type"),
    RuleConfig(id="user_form", pattern="u[0-9]+", column="user_id"),
]


@pytest.mark.parametrize(
    ("row", "rules"),
    [
        (line(), []),
        (line(value=None), []),
        (line(value="0"), ["positive"]),
        (
            line(value="-6", item=None, type="tap", user="xu1"),
            ["cheap", "item_there", "positive", "type_known", "user_form"],
        ),
        (line(value="101"), ["cheap"]),
        (line(user="u1x"), ["user_form"]),
    ],
)
def test_a_row_names_every_rule_that_it_breaks(read, row: str, rules: list[str]):
    of = source(rules=RULES)
    assert broken(read(of, row), of) == [rules]


def test_flagged_rows_stay_and_say_why(read):
    of = source(rules=RULES)
    row = accepted(judge(read(of, line(shelf="Z")), of, ACCEPTED_AT, None)).first()
    assert row.flags == ["shelf_known"]


def test_rejected_rows_keep_their_payload_unless_dropped_and_equal_rows_are_counted(read):
    of = source(rules=RULES)
    lines = [line(value="0"), line(value="0"), line(value="101"), "{no json"]
    rows = rejected(judge(read(of, *lines), of, ACCEPTED_AT, None), "shop", "b1", ACCEPTED_AT)
    told = {tuple(row.rules): (row.payload, row.n_rows, str(row.ingest_date)) for row in rows.collect()}
    assert told == {
        ("positive",): (json.dumps(json.loads(line(value="0")), separators=(",", ":")), 2, "2017-06-01"),
        ("cheap",): (None, 1, "2017-06-01"),
        ("event_type_required", "item_there", "time_required", "unreadable_row", "user_id_required"): (
            "{no json",
            1,
            "2017-06-01",
        ),
    }


def test_late_rows_are_set_aside_under_their_own_name(read):
    of = source()
    bound = datetime(2017, 5, 1, 12, tzinfo=timezone.utc)
    rows = read(of, line(time="2017-05-01 11:59:59.999999"), line(), line(user=None, time="2017-01-01"))
    assert sorted(broken(rows, of, bound)) == [[], ["late"], ["user_id_required"]]


@pytest.mark.parametrize(
    ("outlier", "policy", "expected"),
    [
        # Quartiles of 1, 2, 3, 4, 100 are 2 and 4: the fences stand at -1 and 7.
        (OutlierTest.iqr, Policy.quarantine, [1.0, 2.0, 3.0, 4.0]),
        (OutlierTest.iqr, Policy.clip, [1.0, 2.0, 3.0, 4.0, 7.0]),
        (OutlierTest.iqr, Policy.flag, [1.0, 2.0, 3.0, 4.0, 100.0]),
    ],
)
def test_outliers(read, outlier: OutlierTest, policy: Policy, expected: list[float]):
    of = source(rules=[RuleConfig(id="far", outlier=outlier, column="value", policy=policy)])
    lines = [line(item=f"i{value}", value=str(value)) for value in (1, 2, 3, 4, 100)]
    rows = accepted(judge(read(of, *lines), of, ACCEPTED_AT, None)).orderBy(EVENTS.value).collect()
    assert [row.value for row in rows] == expected
    assert [row.flags for row in rows if row.value > 4] == ([["far"]] if policy is not Policy.quarantine else [])


def test_z_scores_are_taken_for_each_group(read):
    rule = RuleConfig(id="far", outlier=OutlierTest.zscore, column="value", by="item_id", threshold=1.5)
    of = source(rules=[rule])
    lines = [line(item="a", user=f"u{n}", value=str(value)) for n, value in enumerate((1, 1, 1, 5))]
    lines += [line(item="b", user=f"u{n}", value=str(value)) for n, value in enumerate((5, 5, 5, 5))]
    judged = judge(read(of, *lines), of, ACCEPTED_AT, None).where(F.size(BROKEN) > 0).collect()
    assert [(row.item_id, row.value, row[BROKEN]) for row in judged] == [("a", 5.0, ["far"])]


def test_robots_are_users_with_too_many_events_in_a_day(read):
    of = source(rules=[RuleConfig(id="robot", robot=2)])
    lines = [line(user="r", time=f"2017-05-01 12:00:0{n}") for n in range(3)]
    lines += [line(user="h", time=f"2017-05-0{n + 1} 12:00:00") for n in range(3)]
    judged = judge(read(of, *lines), of, ACCEPTED_AT, None).collect()
    assert sorted((row.user_id, tuple(row[BROKEN])) for row in judged) == [("h", ())] * 3 + [("r", ("robot",))] * 3


@pytest.mark.parametrize(("strategy", "value"), [("mean", 3.0), ("median", 2.0), ("mode", 1.0), (9, 9.0)])
def test_missing_values_are_filled(read, strategy, value: float):
    of = source(missing={"value": strategy})
    lines = [line(user=f"u{n}", value=text) for n, text in enumerate(("1", "1", "3", "7", None))]
    rows = accepted(judge(read(of, *lines), of, ACCEPTED_AT, None)).where(F.col(EVENTS.user_id) == "u4").collect()
    assert [row.value for row in rows] == [value]


def test_the_first_of_equal_ids_wins_whatever_their_order(read):
    of = source(key=["user"])
    late, early = line(item="b"), line(item="c", time="2017-05-01 11:00:00")
    lines = [late, line(item="a"), early, line(item="c", time="2017-05-01 11:00:00", value="0.5")]
    for order in (lines, lines[::-1]):
        rows = accepted(judge(read(of, *order), of, ACCEPTED_AT, None))
        told = mark_duplicates(rows, rows.limit(0)).collect()
        assert sorted(row[IS_DUPLICATE] for row in told) == [False, True, True, True]
        winner = next(row for row in told if not row[IS_DUPLICATE])
        assert (winner.item_id, str(winner.event_time), winner.value) == ("c", "2017-05-01 11:00:00", 0.5)


def test_events_of_earlier_batches_are_duplicates(read):
    of = source(key=["user"])
    rows = accepted(judge(read(of, line(user="u1"), line(user="u2")), of, ACCEPTED_AT, None))
    told = {row.user_id: row[IS_DUPLICATE] for row in mark_duplicates(rows, rows.where("user_id = 'u2'")).collect()}
    assert told == {"u1": False, "u2": True}


def test_duplicates_cost_one_shuffle_of_the_batch(read):
    of = source()
    rows = accepted(judge(read(of, line()), of, ACCEPTED_AT, None)).repartition(2)
    plan = mark_duplicates(rows, rows.limit(0))._jdf.queryExecution().executedPlan().treeString()
    assert "Python" not in plan
    assert plan.count("Exchange hashpartitioning(event_id#") == 1


def test_days_are_pruned_only_where_equal_ids_mean_equal_times():
    raw = ["user", "item", "time"]
    assert key_carries_time(source(), raw)
    assert not key_carries_time(source(key=["user", "item"]), raw)
    assert not key_carries_time(source(columns={**source().columns, "event_id": "item"}), raw)


def test_a_key_that_the_files_lack_is_named(read):
    with pytest.raises(
        ConfigError, match="a key column is not in the files in source shop: 'sku'; the files have user, item"
    ):
        read(source(key=["sku"]), line())


def test_csv_rows_of_another_width_are_unreadable(read):
    columns = {"user_id": "a", "event_type": "'v'", "event_time": "try_to_timestamp(b)"}
    of = source(format="csv", options={"header": "true"}, schema=None, columns=columns, key=["a"])
    rows = read(of, "a,b", "u1,2017-05-01", "u2,2017-05-01,more", "u3", suffix="csv")
    told = {row.user_id: row[BROKEN] for row in judge(rows, of, ACCEPTED_AT, None).collect()}
    assert told["u1"] == []
    assert "unreadable_row" in told["u2"]
    assert "unreadable_row" in told["u3"]


def test_hidden_files_are_no_data(spark, tmp_path: Path):
    for name in ("a.json", "_b.json", ".c.json"):
        (tmp_path / name).write_text("{}")
    found = find_files(spark, str(tmp_path))
    assert [(file.path.rsplit("/", 1)[-1], file.size_bytes) for file in found] == [("a.json", 2)]

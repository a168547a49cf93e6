"""Guesses about raw files: names, times, formats, kinds, silences, and the YAML that comes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from behavior_lib.config import load, load_source
from behavior_lib.profile.draft import Origin, head, suggest_rules, write
from behavior_lib.profile.facts import ColumnFacts, EventFacts, RowFacts, Trial
from behavior_lib.profile.gaps import EDGES, GapSuggestion, place_name, suggest_gap
from behavior_lib.profile.guesses import guess, quoted
from behavior_lib.profile.keys import likely_keys
from behavior_lib.profile.kinds import Kind, kind_of
from behavior_lib.profile.names import hint, names_an_id, source_name, words
from behavior_lib.profile.show import _values
from behavior_lib.profile.sniff import Format, by_name, sniff
from behavior_lib.profile.times import has_offset, likely_formats

DOUBLED = {"quote": '"', "escape": '"'}


def column(name: str, **values: Any) -> ColumnFacts:
    return ColumnFacts(**{"name": name, "type": "string", "rows": 1000, "missing": 0, "distinct": 400, **values})


def number(name: str, **values: Any) -> ColumnFacts:
    return column(name, **{"integers": 1000, "numbers": 1000, "number_low": 1.0, "number_high": 9.0, **values})


def events(**values: Any) -> EventFacts:
    plain = {"first": "2017-01-01 00:00:00", "last": "2017-01-02 00:00:00", "types": {"event": 1000}, "users": 100}
    counts = {"per_user_median": 4.0, "per_user_p95": 30.0, "per_user_max": 90, "busiest_day": 20, "gaps": {}}
    return EventFacts(**{**plain, **counts, **values})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("CustomerID", ["customer", "id"]),
        ("unit_price", ["unit", "price"]),
        ("HTTPStatus", ["http", "status"]),
        ("event type", ["event", "type"]),
        ("0", []),
    ],
)
def test_words_of_a_name(name: str, expected: list[str]):
    assert words(name) == expected


def test_a_short_hint_is_a_whole_word():
    assert hint("created_at", ("at",)) == "at"
    assert hint("category", ("at",)) is None
    assert hint("username", ("user",)) == "user"
    named = ("household_id", "userid", "StockCode", "note", "product_type", "price")
    assert [name for name in named if names_an_id(name)] == ["household_id", "userid", "StockCode"]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/raw/online_retail/*.csv", "online_retail"),
        ("s3a://bucket/My Shop/2020-*/", "my_shop"),
        ("/raw/clicks.json.gz", "clicks"),
        ("/*", "source"),
    ],
)
def test_a_source_is_named_after_its_place(path: str, name: str):
    assert source_name(path) == name


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("seen", "2017-01-01 22:21:58", ["ISO 8601"]),
        ("seen", "2017-01-01T22:21:58.123456+01:00", ["ISO 8601"]),
        ("seen", "2017-01-01", ["ISO 8601"]),
        ("seen", "12/1/2010 8:26", ["M/d/yyyy H:mm", "d/M/yyyy H:mm"]),
        ("seen", "12/31/2010 8:26", ["M/d/yyyy H:mm"]),
        ("seen", "31/12/2010 8:26:01", ["d/M/yyyy H:mm:ss"]),
        ("seen", "12/31/2010 8:26 PM", ["M/d/yyyy h:mm a"]),
        ("seen", "31.12.2010", ["d.M.yyyy"]),
        ("seen", "1-Dec-2010 08:26", ["d-MMM-yyyy H:mm"]),
        ("event_ts", "1485900000", ["epoch seconds"]),
        ("event_ts", "1485900000123", ["epoch milliseconds"]),
        ("event_ts", "1485900000123456", ["epoch microseconds"]),
        ("date", "20170131", ["yyyyMMdd"]),
        ("basket_id", "1485900000", []),
        ("event_ts", "31198678498", []),
        ("seen", "hello", []),
    ],
)
def test_the_pattern_of_a_time(name: str, value: str, expected: list[str]):
    assert [form.name for form in likely_formats(name, [value] * 3)] == expected


def test_one_bad_time_in_ten_hides_no_pattern():
    good = ["2017-01-01"] * 9
    assert [form.name for form in likely_formats("day", [*good, "?"])] == ["ISO 8601"]
    assert likely_formats("day", [*good, "?", "?"]) == []
    assert (has_offset("2017-01-01T10:00:00Z"), has_offset("2017-01-01 10:00:00"), has_offset("2017-01-01")) == (
        True, False, False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("path", "lines", "expected"),
    [
        ("a.csv", ["id,name,price", '1,"a ""b""",2'], ("csv", {"header": "true", **DOUBLED})),
        ("a.txt", ["id;name", "1;a,b"], ("csv", {"header": "true", "sep": ";", **DOUBLED})),
        ("a.tsv", ["1\t2017-01-01\tx", "2\t2017-01-02\ty"], ("csv", {"header": "false", "sep": "\t", **DOUBLED})),
        ("a", ["id,text", '1,"with \\" inside"'], ("csv", {"header": "true"})),
        ("a", ['{"a": 1}', '{"a": 2}'], ("json", {})),
        ("a.json", ["[", '{"a": 1},', "]"], ("json", {"multiLine": "true"})),
        ("a.json.gz", ['{"a": 1}'], ("json", {})),
        ("a.parquet", [], ("parquet", {})),
        ("a", ["PAR1\x15"], ("parquet", {})),
    ],
)  # fmt: skip
def test_the_format_of_a_file(path: str, lines: list[str], expected: tuple[str, dict[str, str]]):
    found = sniff(path, lines)
    assert (found.name, found.options) == expected


def test_a_format_that_is_told_is_not_guessed():
    assert sniff("a.json", ["a,b"], "csv").name == "csv"
    assert (by_name("s3a://b/part-0.snappy.parquet"), by_name("x/LOG.JSONL"), by_name("noending")) == (
        "parquet", "json", None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        (column("a", missing=1000, distinct=0), Kind.empty),
        (column("a", type="array<string>"), Kind.nested),
        (column("a", type="timestamp"), Kind.time),
        (column("a", times={"ISO 8601": 950}), Kind.time),
        (number("week"), Kind.integer),
        (number("household_id"), Kind.id),
        (number("CustomerID", integers=0, whole=1000), Kind.id),
        (number("price", integers=10), Kind.decimal),
        (number("price", integers=10, numbers=980, distinct=900), Kind.id),
        (column("country", distinct=30), Kind.category),
        (column("description", distinct=900, spaced=800), Kind.text),
        (column("token", distinct=900), Kind.id),
    ],
)
def test_the_kind_of_a_column(facts: ColumnFacts, kind: Kind):
    assert kind_of(facts) is kind


def test_a_web_shop_by_its_names():
    found = guess(
        [
            column("InvoiceNo", integers=980, numbers=980),
            column("StockCode", integers=900, numbers=900),
            column("Description", spaced=1000),
            number("Quantity", number_low=-3.0),
            column("InvoiceDate", times={"M/d/yyyy H:mm": 1000, "d/M/yyyy H:mm": 400}),
            number("UnitPrice", integers=10),
            number("CustomerID", integers=0, whole=750, numbers=750, missing=250, distinct=90),
            column("Country", distinct=30),
        ]
    )
    assert {name: guessed.expression for name, guessed in found.found.items()} == {
        "user_id": "regexp_replace(CustomerID, '[.]0+$', '')",
        "item_id": "StockCode",
        "event_type": "case when try_cast(Quantity as double) < 0 then 'return' else 'purchase' end",
        "event_time": "try_to_timestamp(InvoiceDate, 'M/d/yyyy H:mm')",
        "value": "try_cast(Quantity as double) * try_cast(UnitPrice as double)",
        "session_key": "InvoiceNo",
        "attributes": "map('Description', Description, 'Quantity', Quantity, 'UnitPrice', UnitPrice, "
        "'Country', Country)",
    }
    assert found.found["user_id"].reason == "the name says customer; 90 values; 250 rows have none; .0 cut off"
    assert found.found["event_time"].reason == "M/d/yyyy H:mm in all 1,000 values"


def test_a_click_log_with_ids_of_its_own():
    found = guess(
        [
            column("event_id", distinct=1000),
            number("visitorid", distinct=200),
            number("timestamp", times={"epoch milliseconds": 1000}),
            column("event", distinct=3),
            number("itemid"),
            column("note", missing=1000, distinct=0),
        ]
    )
    assert {name: guessed.expression for name, guessed in found.found.items()} == {
        "event_id": "event_id",
        "user_id": "visitorid",
        "item_id": "itemid",
        "event_type": "event",
        "event_time": "try_cast(try_cast(`timestamp` as decimal(20, 6)) / 1000 as timestamp)",
    }


def test_what_no_column_says_is_missing():
    found = guess([column("colour", distinct=5)])
    assert found.missing == ["user_id", "event_time"]
    assert found.found["event_type"].expression == "'event'"
    assert (quoted("a b"), quoted("order"), quoted("a`b")) == ("`a b`", "`order`", "`a``b`")


def test_a_set_of_columns_that_two_rows_share_is_no_key():
    grid = np.array([[1, line, basket, basket * 10 + line] for basket in range(5) for line in range(6)], np.int64)
    assert likely_keys(grid[:, :3]) == [[1, 2], [0, 1, 2]]
    assert likely_keys(grid)[0] == [3]
    bits = np.array([[number >> bit & 1 for bit in range(6)] for number in range(64)], np.int64)
    assert likely_keys(bits) == [[0, 1, 2, 3, 4, 5]]
    # The best three are 0, 1 and 2, columns 3 and 4 add nothing to them, and 5 all that is missing.
    dull = np.column_stack([bits[:, :2], np.arange(64) // 4 % 8, bits[:, 0], bits[:, 1], bits[:, 5]]).astype(np.int64)
    assert likely_keys(dull)[0] == [0, 1, 2, 5]
    assert likely_keys(bits[:0, :0]) == []


def test_the_valley_between_short_and_long_silences():
    place = {place_name(number): number for number in range(len(EDGES) + 1)}
    gaps = {place["30s to 1m"]: 500, place["3m to 5m"]: 60, place["1h to 2h"]: 2, place["16h to 1d"]: 300}
    gaps |= {place["5m to 10m"]: 40, place["10m to 15m"]: 20, place["15m to 30m"]: 20, place["30m to 1h"]: 10}
    gaps |= {place["2h to 4h"]: 20, place["4h to 8h"]: 40, place["8h to 16h"]: 80, place["1m to 3m"]: 200}
    assert suggest_gap(gaps) == GapSuggestion(
        "1h", "valley of the histogram: fewest silences per octave between 1h and 2h, 66% are shorter"
    )


def test_without_a_valley_the_gap_is_the_usual_one():
    assert suggest_gap({3: 99}) == GapSuggestion("30m", "the usual 30m: only 99 silences to look at")
    few_short = dict.fromkeys(range(5), 9) | dict.fromkeys(range(15, 19), 200)
    assert suggest_gap(few_short).gap == "30m"
    one_peak = suggest_gap(dict.fromkeys(range(10), 100))
    assert one_peak == GapSuggestion("30m", "the usual 30m: the silences show no valley between short and long ones")
    assert (place_name(0), place_name(len(EDGES))) == ("up to 1s", "over 90d")


def test_a_column_is_shown_by_what_its_kind_says_most_with():
    columns = [
        number("store_id", number_low=176.0, number_high=3424.0, low="1019", high="940"),
        number("price", integers=0, number_low=0.5, number_high=1234.0),
        column("country", distinct=4, top=(("UK", 900), ("FR", 50), ("DE", 49), ("IE", 1))),
        column("note", distinct=900, spaced=900, low="a" * 30, high="b"),
    ]
    assert [_values(facts) for facts in columns] == [
        "176 to 3424",
        "0.5 to 1,234",
        "UK (900), FR (50), DE (49), …",
        "aaaaaaaaaaaaaaaaaaaaaaa… to b",
    ]


def test_rules_that_the_files_suggest():
    guesses = guess([number("user_id"), number("item_id"), column("type", distinct=2), number("price", integers=0)])
    facts = events(
        types={"view": 900, "buy": 100}, values=1000, value_low=0.5, value_high=900.0, distinct_values=300,
        value_quartiles=(1.0, 2.0, 4.0), busiest_day=5000,
    )  # fmt: skip
    assert [dict(rule.content) for rule in suggest_rules(facts, guesses)] == [
        {"id": "item_missing", "required": True, "column": "item_id", "else": "quarantine"},
        {"id": "value_missing", "required": True, "column": "value", "else": "quarantine"},
        {"id": "value_negative", "keep_if": "value >= 0", "else": "quarantine"},
        {"id": "value_outlier", "outlier": "iqr", "column": "value", "threshold": 10.0, "else": "flag"},
        {"id": "type_unknown", "allowed": ["buy", "view"], "column": "event_type", "else": "flag"},
        {"id": "robot", "robot": 1000, "else": "flag"},
    ]
    rating = events(values=999, without_value=1, value_low=1.0, value_high=5.0, distinct_values=5, without_item=1)
    assert dict(suggest_rules(rating, guesses)[0].content) == {
        "id": "value_range", "range": [1.0, 5.0], "column": "value", "else": "flag",
    }  # fmt: skip


def test_the_draft_loads_with_every_awkward_name(tmp_path):
    columns = [
        number("user id", distinct=10),
        column("when", times={"ISO 8601": 1000}),
        column("order", distinct=30),
        number("item: #1"),
        column("it's", distinct=3),
    ]
    guesses = guess(columns)
    origin = Origin(
        "shop", "${paths.raw}/shop/*.csv", Format("csv", {"header": "true", "sep": "|"}), [c.name for c in columns]
    )
    facts = events(values=0)
    text = write(
        origin, guesses, (["user id", "order"], "smallest set"), GapSuggestion("1h", "a valley"),
        suggest_rules(facts, guesses), head(RowFacts(1, 9, 1000, 0, 0), Trial(990, 4, {"time_required": 6}, {})),
    )  # fmt: skip
    (tmp_path / "shop.yaml").write_text(text)
    assert text.splitlines()[:3] == [
        "# First draft by `behavior profile` from 1,000 rows in 1 file; every guess says why.",
        "# Of these rows ingest would accept 990; 4 have an event_id that came before.",
        "# 6 would go into quarantine by time_required.",
    ]
    paths = [f"paths.{name}=/x/{name}" for name in ("raw", "warehouse", "var")]
    source = load_source(load("test", None, [*paths, f"source={tmp_path / 'shop.yaml'}"]).config)
    assert (source.path, source.options, source.key) == (
        "/x/raw/shop/*.csv", {"header": "true", "sep": "|"}, ["user id", "order"],
    )  # fmt: skip
    assert source.schema == "`user id` string, `when` string, `order` string, `item: #1` string, `it's` string"
    assert source.columns["user_id"] == "`user id`"
    assert source.columns["event_type"] == "'purchase'"
    assert """  event_type: "'purchase'"\n""" in text
    assert source.columns["event_time"] == "try_to_timestamp(`when`)"
    assert [rule.id for rule in source.rules] == ["item_missing"]

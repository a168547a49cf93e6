"""Raw rows that hold an array of events: one event an element, and no raw row lost."""

import hashlib
import json
from datetime import datetime, timezone
from pathlib import Path

import pytest
from pyspark.sql import functions as F

from behavior_lib.config.source import RuleConfig, SourceConfig
from behavior_lib.errors import ConfigError
from behavior_lib.spark.canonical import canonical
from behavior_lib.spark.clean import BROKEN, PAYLOAD, accepted, judge
from behavior_lib.spark.raw import read_raw
from behavior_lib.spark.raw_files import RawFile
from behavior_lib.tables import EVENTS

ACCEPTED_AT = datetime(2017, 6, 1, tzinfo=timezone.utc)


def source(**values) -> SourceConfig:
    given = {
        "name": "shop",
        "format": "json",
        "path": "unused",
        "schema": "order string, user string, time string, goods array<struct<sku: string, price: string>>",
        "explode": "goods",
        "columns": {
            "user_id": "user",
            "item_id": "element.sku",
            "event_type": "'buy'",
            "event_time": "try_to_timestamp(time)",
            "value": "try_cast(element.price as double) / size(goods)",
        },
        "key": ["order", "element.sku", "position"],
    }
    return SourceConfig(**{**given, **values})


def order(number: int, goods: object, **values: object) -> str:
    row = {"order": f"o{number}", "user": "u1", "time": "2017-05-01 12:00:00", "goods": goods}
    return json.dumps({**row, **values}, separators=(",", ":"))


@pytest.fixture
def rows(spark, tmp_path: Path):
    """rows(source, line, …) → canonical rows of one file with these lines."""

    def read(of: SourceConfig, *lines: str):
        (tmp_path / "a.json").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return canonical(read_raw(spark, of, [RawFile(str(tmp_path / "a.json"), 1)]), of)

    return read


def event_id(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(("shop", *parts)).encode()).hexdigest()[:32]


def test_each_element_is_an_event_with_a_place_of_its_own(rows):
    of = source()
    pear = {"sku": "pear", "price": "3"}
    found = accepted(judge(rows(of, order(1, [pear, {"sku": "fig", "price": "1"}, pear])), of, ACCEPTED_AT, None))
    told = sorted((row.item_id, row.value, row.event_id) for row in found.collect())
    expected = [
        ("fig", 1 / 3, event_id("o1", "fig", "1")),
        ("pear", 1.0, event_id("o1", "pear", "0")),
        ("pear", 1.0, event_id("o1", "pear", "2")),
    ]
    assert told == sorted(expected)


def test_a_raw_row_without_elements_is_one_row_in_quarantine(rows):
    of = source(rules=[RuleConfig(id="cheap", keep_if="value > 1")])
    lines = [order(1, []), order(2, None), order(3, [{"sku": "a", "price": "1"}, {"sku": "b", "price": "9"}])]
    judged = judge(rows(of, *lines, "{torn", order(4, [None])), of, ACCEPTED_AT, None)
    told = {row[PAYLOAD]: row[BROKEN] for row in judged.where(F.size(BROKEN) > 0).collect()}
    element = {"sku": "a", "price": "1"}
    cheap = {"order": "o3", "user": "u1", "time": "2017-05-01 12:00:00", "position": 0, "element": element}
    assert told == {
        order(1, []): ["no_element"],
        '{"order":"o2","user":"u1","time":"2017-05-01 12:00:00"}': ["no_element"],
        json.dumps(cheap, separators=(",", ":")): ["cheap"],
        "{torn": ["time_required", "unreadable_row", "user_id_required"],
    }
    # An element that is null is an element: the event has no item.
    kept = sorted((row.item_id or "", row.value) for row in accepted(judged).collect())
    assert kept == [("", None), ("b", 4.5)]
    assert judged.count() == 6


def test_an_expression_may_make_the_array(rows):
    of = source(explode="if(user = 'u2', array(null), filter(goods, g -> g.price <> '0'))")
    goods = [{"sku": "free", "price": "0"}, {"sku": "pear", "price": "3"}]
    found = accepted(judge(rows(of, order(1, goods), order(2, None, user="u2")), of, ACCEPTED_AT, None))
    told = sorted((row.user_id, row.item_id, row.event_id) for row in found.collect())
    assert told == [("u1", "pear", event_id("o1", "pear", "0")), ("u2", None, event_id("o2", "\x00", "0"))]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"explode": "user"},
            "explode needs an array in source shop: 'string'; explode user is not one; "
            "give an array column or an expression that makes one",
        ),
        (
            {"schema": f"{source().schema}, position int"},
            "a raw column has the name of a column of explode in source shop: 'position'; "
            "explode gives its own column of that name; leave it out of the schema",
        ),
    ],
)
def test_what_cannot_be_exploded_is_named(rows, values: dict, sentence: str):
    with pytest.raises(ConfigError) as error:
        rows(source(**values), order(1, []))
    assert str(error.value) == sentence


def test_a_key_part_may_be_an_expression(rows):
    of = source(
        explode=None, columns={**source().columns, "item_id": "order", "value": "1"}, key=["upper(order)", "user"]
    )
    assert rows(of, order(1, [])).first()[EVENTS.event_id] == event_id("O1", "u1")

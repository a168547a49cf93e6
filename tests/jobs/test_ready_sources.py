"""The shipped sources for an access log and a clickstream on two synthetic days, against the same rules elsewhere."""

import hashlib
import re
import shutil
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path

import duckdb
import pytest
from pyspark.sql import functions as F

from behavior_lib.tables import EVENTS, EVENTS_QUARANTINE
from tests.conftest import DATA

pytestmark = pytest.mark.spark

LINE = re.compile(
    r'(\S+) \S+ (\S+) \[([^\]]+)\] "([A-Z]+) (\S+)(?: (HTTP/[0-9.]+))?" (\d{3}) (\d+|-)'
    r' "((?:[^"\\]|\\.)*)" "((?:[^"\\]|\\.)*)"'
)


def ingest_days(shop, source: str, files: list[Path]) -> Counter:
    """Take one file a run, and every one of them again. Returns the summed counts of rows."""
    folder = shop.root / "raw" / files[0].parent.name
    folder.mkdir(parents=True)
    rows: Counter = Counter()
    for file in files:
        shutil.copy(file, folder)
        told = shop.run("ingest", f"source={source}")
        assert told["exit_code"] == 0, told
        rows.update(told["rows"])
    assert shop.run("ingest", f"source={source}")["status"] == "unchanged"
    return rows


def quarantined(shop) -> Counter:
    rows = shop.tables.read(EVENTS_QUARANTINE).select(EVENTS_QUARANTINE.rules, EVENTS_QUARANTINE.n_rows).collect()
    counts: Counter = Counter()
    for rules, count in rows:
        counts[tuple(rules)] += count
    return counts


def event_of(line: re.Match) -> tuple:
    ip, user, time, method, target, _, status, size, _, agent = line.groups()
    path = re.split(r"[?#]", target)[0]
    kind = {"GET": "view", "POST": "submit", "HEAD": "head"}[method]
    kind = "error" if status >= "400" else "redirect" if status == "301" else kind
    is_robot = any(word in agent.lower() for word in ("bot", "curl/"))
    flags = ["asset"] * path.endswith(".css") + ["robot_agent"] * is_robot
    return (
        hashlib.sha256(f"{ip} {agent}".encode()).hexdigest()[:32] if user == "-" else user,
        path,
        kind,
        datetime.strptime(time, "%d/%b/%Y:%H:%M:%S %z").astimezone(timezone.utc).replace(tzinfo=None),
        None if size == "-" else float(size),
        flags,
    )


def test_an_access_log(shop):
    days = sorted((DATA / "access_log").glob("access.log-*"))
    rows = ingest_days(shop, "web_access_log", days)
    lines = [line for day in days for line in day.read_text(encoding="utf-8").split("\n")[:-1]]
    good = {line: found for line in lines if (found := LINE.fullmatch(line))}
    n_good, n_bad = sum(line in good for line in lines), sum(line not in good for line in lines)
    assert (n_bad, n_good - len(good)) == (8, 6)
    assert rows == {"read": 280, "accepted": len(good), "duplicate": 6, "quarantined": 8, "late": 0, "conflict": 0}
    columns = (EVENTS.user_id, EVENTS.item_id, EVENTS.event_type, EVENTS.event_time, EVENTS.value, EVENTS.flags)
    stored = [tuple(row) for row in shop.tables.read(EVENTS).select(*columns).collect()]
    assert sorted(stored, key=str) == sorted((event_of(found) for found in good.values()), key=str)
    assert {kind for _, _, kind, *_ in stored} == {"view", "submit", "head", "error", "redirect"}
    aside = shop.tables.read(EVENTS_QUARANTINE).collect()
    assert {row.payload for row in aside} == {line for line in lines if line not in good}
    assert all("unreadable_row" in row.rules for row in aside)


def clicks() -> duckdb.DuckDBPyConnection:
    database = duckdb.connect()
    files = [str(day) for day in sorted((DATA / "clickstream").glob("*.json"))]
    database.execute(
        "create table line as select column0 as text from "
        "read_csv(?, header=false, delim='\x01', quote='', escape='', columns={'column0': 'varchar'})",
        [files],
    )
    database.execute("""
        create table click as
        select text::json ->> '$.event_id' as id, text::json ->> '$.type' as type,
            coalesce(text::json ->> '$.customer', text::json ->> '$.visitor') as u, text::json ->> '$.time' as time,
            text::json ->> '$.query' as query,
            case when text::json ->> '$.type' = 'search' then ['{}'::json]
                else from_json(text::json -> '$.items', '["json"]') end as items
        from line where json_valid(text)""")
    database.execute("""
        create table element as
        select id, type, u, try_cast(time as timestamptz) at time zone 'UTC' as t, query, item ->> '$.sku' as sku,
            try_cast(item ->> '$.quantity' as double) * try_cast(item ->> '$.price' as double) as v, position
        from (select *, unnest(items) as item, generate_subscripts(items, 1) as position from click)""")
    database.execute("""
        create table good as select * from element where u is not null and t is not null
            and type in ('view', 'search', 'cart', 'purchase') and (type = 'search' or sku is not null)
            and (type <> 'purchase' or v is not null)""")
    return database


def test_a_clickstream(shop):
    rows = ingest_days(shop, "clickstream", sorted((DATA / "clickstream").glob("*.json")))
    database = clicks()
    lines, clicked, elements, good, distinct, empty = database.execute(
        "select (select count(*) from line), (select count(*) from click), (select count(*) from element), "
        "(select count(*) from good), (select count(distinct (id, position)) from good), "
        "(select count(*) from click where coalesce(len(items), 0) = 0)"
    ).fetchone()
    assert (lines, clicked) == (332, 330)
    read = elements + empty + (lines - clicked)
    assert rows == {
        "read": read,
        "accepted": distinct,
        "duplicate": good - distinct,
        "quarantined": read - good,
        "late": 0,
        "conflict": 0,
    }
    columns = (EVENTS.user_id, EVENTS.item_id, EVENTS.event_type, EVENTS.event_time, EVENTS.value)
    query = F.col(EVENTS.attributes)["query"]
    stored = [tuple(row) for row in shop.tables.read(EVENTS).select(*columns, query).collect()]
    expected = database.execute("select distinct on (id, position) u, sku, type, t, v, query from good").fetchall()
    assert sorted(stored, key=str) == sorted(expected, key=str)
    aside = quarantined(shop)
    assert sum(aside.values()) == read - good
    assert sum(count for rules, count in aside.items() if "no_element" in rules) == empty
    assert {rule for rules in aside for rule in rules} == {
        *("no_element", "unreadable_row", "type_known", "user_id_required", "time_required", "item_missing"),
        *("price_missing", "event_type_required"),
    }


def test_a_delta_table(shop, spark):
    table = shop.root / "raw" / "clicks"
    (shop.root / "shop.yaml").write_text(
        "name: shop\nformat: delta\npath: ${paths.raw}/clicks\n"
        "columns: {user_id: user, item_id: item, event_type: \"'view'\", event_time: time}\nkey: [user, item, time]\n"
    )
    source = f"source={shop.root / 'shop.yaml'}"

    def append(*users: str) -> None:
        values = ", ".join(f"('{user}', 'i1', timestamp'2017-05-01 12:00:00')" for user in users)
        frame = spark.sql(f"select * from values {values} as t(user, item, time)")
        frame.coalesce(1).write.format("delta").mode("append").save(str(table))

    append("u1", "u2")
    first = shop.run("ingest", source, "run.batch_id=one")
    append("u2", "u3")
    again = shop.run("ingest", source, "run.batch_id=one", f"run.input={table}")
    assert (first["rows"]["accepted"], again["status"]) == (2, "unchanged")
    assert shop.run("ingest", source, "run.batch_id=one", f"run.input={table}@v1")["exit_code"] == 3
    spark.sql(f"optimize delta.`{table}`")
    second = shop.run("ingest", source)
    assert second["rows"] == {"read": 2, "accepted": 1, "duplicate": 1, "quarantined": 0, "late": 0, "conflict": 0}
    assert shop.run("ingest", source)["status"] == "unchanged"
    spark.sql(f"delete from delta.`{table}` where user = 'u1'")
    refused = shop.run("ingest", source)
    assert refused["exit_code"] == 3
    assert "changed or removed by DELETE" in refused["error"]
    assert sorted(row.user_id for row in shop.tables.read(EVENTS).collect()) == ["u1", "u2", "u3"]

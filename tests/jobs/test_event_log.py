"""ingest and sessionize on three real days of Online Retail, against the same rules in DuckDB."""

import random
import shutil
from pathlib import Path

import duckdb
import pytest
from pyspark.sql import Observation
from pyspark.sql import functions as F

from behavior_lib.spark.tables import Tables
from behavior_lib.tables import EVENTS, EVENTS_QUARANTINE, INGEST_FILES, ITEMS, PIPELINE_RUNS, SESSIONS
from tests.conftest import DATA

pytestmark = pytest.mark.spark

DAYS = sorted((DATA / "online_retail").glob("*.csv"))
SOURCE = "source=online_retail"


def raw_lines(days=DAYS) -> duckdb.DuckDBPyConnection:
    database = duckdb.connect()
    files = [str(day) for day in days]
    database.execute(
        "create table raw as select *, row_number() over () as line from read_csv(?, header=true, all_varchar=true)",
        [files],
    )
    database.execute("""
        create table line as select *,
            CustomerID is not null and trim(CustomerID) <> '' as is_good,
            (InvoiceDate::timestamp at time zone 'Europe/London') at time zone 'UTC' as t,
            replace(CustomerID, '.0', '') as u,
            Quantity::int * UnitPrice::double as v
        from raw""")
    database.execute("""
        create table event as
        select distinct on (InvoiceNo, StockCode, Description, Quantity, InvoiceDate, UnitPrice, CustomerID, Country) *
        from line where is_good""")
    return database


def events_of(database: duckdb.DuckDBPyConnection) -> list[tuple]:
    kind = "case when InvoiceNo like 'C%' or Quantity::int < 0 then 'return' else 'purchase' end"
    return database.execute(f"select u, StockCode, {kind}, t, v, InvoiceNo from event order by all").fetchall()


def stored_events(tables) -> list[tuple]:
    columns = (EVENTS.user_id, EVENTS.item_id, EVENTS.event_type, EVENTS.event_time, EVENTS.value, EVENTS.session_key)
    return sorted(tuple(row) for row in tables.read(EVENTS).select(*columns).collect())


def stored_sessions(tables) -> list[tuple]:
    columns = (
        SESSIONS.user_id,
        SESSIONS.session_key,
        SESSIONS.session_start,
        SESSIONS.session_end,
        SESSIONS.n_events,
        SESSIONS.n_items,
    )
    return sorted(tuple(row) for row in tables.read(SESSIONS).select(*columns).collect())


def test_rows_that_were_observed_twice_are_counted_again(shop, monkeypatch):
    observed = Observation.get.fget
    twice = property(lambda self: {name: 2 * count for name, count in observed(self).items()})
    monkeypatch.setattr(Observation, "get", twice)
    told = shop.run("ingest", SOURCE, f"run.input={DAYS[0]}", "run.batch_id=first")
    database = raw_lines([DAYS[0]])
    read, good, distinct = database.execute(
        "select count(*), count_if(is_good), (select count(*) from event) from line"
    ).fetchone()
    found = [told["rows"][name] for name in ("read", "accepted", "duplicate")]
    assert (told["exit_code"], found) == (0, [read, distinct, good - distinct])


def test_three_days_one_at_a_time_in_any_order(shop):
    database = raw_lines()
    total, good, distinct = database.execute(
        "select count(*), count_if(is_good), (select count(*) from event) from line"
    ).fetchone()
    rows = []
    for day in (DAYS[1], DAYS[0], DAYS[2]):
        batch = [f"run.batch_id={day.stem}", f"run.input={day}"]
        told = shop.run("ingest", SOURCE, *batch)
        assert (told["exit_code"], told["status"], told["batch_id"]) == (0, "succeeded", day.stem)
        rows.append(told["rows"])
        assert shop.run("ingest", SOURCE, *batch)["status"] == "unchanged"
        assert shop.run("sessionize", SOURCE)["exit_code"] == 0
    summed = {name: sum(row[name] for row in rows) for name in rows[0]}
    assert summed == {
        "read": total,
        "accepted": distinct,
        "duplicate": good - distinct,
        "quarantined": total - good,
        "late": 0,
        "conflict": 0,
    }
    assert stored_events(shop.tables) == sorted(events_of(database))
    expected = database.execute(
        "select u, InvoiceNo, min(t), max(t), count(*), count(distinct StockCode) from event group by u, InvoiceNo"
    ).fetchall()
    assert stored_sessions(shop.tables) == sorted(expected)
    aside = (
        shop.tables.read(EVENTS_QUARANTINE)
        .groupBy(EVENTS_QUARANTINE.rules)
        .agg(F.sum(EVENTS_QUARANTINE.n_rows))
        .collect()
    )
    assert {tuple(rules): count for rules, count in aside} == {("user_id_required",): total - good}
    assert shop.run("sessionize", SOURCE)["status"] == "unchanged"
    ledger = shop.tables.read(PIPELINE_RUNS)
    law = ledger.where("rows_read <> rows_accepted + rows_duplicate + rows_quarantined + rows_late")
    assert (law.count(), ledger.where("rows_read is not null").count()) == (0, 3)


def test_shuffled_lines_in_other_files_give_the_same_events(shop):
    lines = [line for day in DAYS for line in day.read_text(encoding="utf-8").splitlines()[1:]]
    header = DAYS[0].read_text(encoding="utf-8").splitlines()[0]
    random.Random(7).shuffle(lines)
    folder = shop.root / "raw" / "online_retail"
    folder.mkdir(parents=True)
    for number in range(4):
        (folder / f"{number}.csv").write_text("\n".join([header, *lines[number::4]]) + "\n", encoding="utf-8")
    told = shop.run("ingest", SOURCE)
    assert told["rows"]["read"] == len(lines)
    assert stored_events(shop.tables) == sorted(events_of(raw_lines()))
    assert shop.run("ingest", SOURCE)["status"] == "unchanged"


def test_a_later_file_is_a_batch_of_its_own_and_a_changed_batch_is_refused(shop):
    folder = shop.root / "raw" / "online_retail"
    folder.mkdir(parents=True)
    for day in DAYS[:2]:
        shutil.copy(day, folder)
        told = shop.run("ingest", SOURCE)
    files = shop.tables.read(INGEST_FILES).orderBy(INGEST_FILES.batch_number).collect()
    assert [(row.batch_number, Path(row.path).name) for row in files] == [(1, DAYS[0].name), (2, DAYS[1].name)]
    assert told["batch_id"] == files[1].batch_id
    refused = shop.run("ingest", SOURCE, f"run.batch_id={files[0].batch_id}", f"run.input={DAYS[2]}")
    assert refused["exit_code"] == 3
    assert refused["error"].startswith(f"batch {files[0].batch_id} was taken with other files: ")


def test_a_run_that_died_after_its_events_were_written_is_finished(shop, spark):
    folder = shop.root / "raw" / "online_retail"
    folder.mkdir(parents=True)
    shutil.copy(DAYS[0], folder)
    first = shop.run("ingest", SOURCE)
    # What a kill between the events and the ledger leaves behind: everything but the ledger's line.
    shop.tables.replace(PIPELINE_RUNS, shop.tables.read(PIPELINE_RUNS).limit(0))
    before = stored_events(shop.tables)
    shutil.copy(DAYS[1], folder)
    again = shop.run("ingest", SOURCE)
    assert again["status"] == "succeeded"
    runs = shop.tables.read(PIPELINE_RUNS).collect()
    told = {row.batch_id: (row.status, row.rows_accepted) for row in runs}
    assert told == {
        first["batch_id"]: ("succeeded", first["rows"]["accepted"]),
        again["batch_id"]: ("succeeded", again["rows"]["accepted"]),
    }
    assert shop.tables.read(EVENTS).where(F.col(EVENTS.batch_id) == first["batch_id"]).count() == len(before)
    assert shop.tables.read(EVENTS).count() == len(before) + again["rows"]["accepted"]
    assert shop.run("ingest", SOURCE)["status"] == "unchanged"


def test_sequences_of_a_later_batch_keep_every_number(shop):
    cuts = ("split.validation=2011-02-10", "split.test=2011-02-11")
    folder = shop.root / "raw" / "online_retail"
    folder.mkdir(parents=True)
    numbers = {}
    for day in DAYS:
        shutil.copy(day, folder)
        for job in ("ingest", "sessionize", "build_sequences"):
            assert shop.run(job, SOURCE, *cuts)["exit_code"] == 0
        found = {row.item_id: row.item_index for row in shop.tables.read(ITEMS).collect()}
        assert numbers.items() <= found.items()
        assert sorted(found.values()) == list(range(3, 3 + len(found)))
        numbers = found
    again = shop.run("build_sequences", SOURCE, *cuts)
    assert (again["status"], again["tables"].keys()) == ("unchanged", {"pipeline_runs"})
    counts = raw_lines().execute("select StockCode, count(*) from event group by 1").fetchall()
    assert {row.item_id: row.n_events for row in shop.tables.read(ITEMS).collect()} == dict(counts)


@pytest.mark.parametrize("job", ["sessionize", "rebuild"])
def test_all_sessions_are_made_of_files_that_are_read_evenly(shop, monkeypatch, job):
    shop.run("ingest", SOURCE, f"run.input={DAYS[0]}", "run.batch_id=first")
    replace, opening = Tables.replace, {}

    def spied(tables, spec, frame, *rest):
        opening[spec.name] = frame.sparkSession.conf.get("spark.sql.files.openCostInBytes")
        return replace(tables, spec, frame, *rest)

    monkeypatch.setattr(Tables, "replace", spied)
    assert shop.run(job, SOURCE)["exit_code"] == 0
    assert opening == {SESSIONS.name: str(64 << 10)}

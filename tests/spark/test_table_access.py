from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from pyspark.sql import functions as F

from behavior_lib.errors import BatchConflict, ContractBroken, LawBroken
from behavior_lib.spark.batches import BatchRegistry
from behavior_lib.spark.failures import explain
from behavior_lib.spark.ledger import Ledger, RowCounts, RunRecord, Summary
from behavior_lib.spark.raw_files import RawFile
from behavior_lib.spark.schema import rows_frame
from behavior_lib.spark.tables import Tables
from behavior_lib.tables import EVENT_TYPES, EVENTS, INGEST_FILES, PIPELINE_RUNS, SESSIONS
from behavior_lib.tables.spec import LONG, STRING, Column

NOT_FOUR = (("not_four", "type_index <> 4"),)
NOW = datetime(2017, 6, 1, tzinfo=timezone.utc)


def types(spark, *rows: tuple[str, int]):
    return rows_frame(spark, EVENT_TYPES, [{"event_type": name, "type_index": index} for name, index in rows])


def stored(tables) -> list[tuple]:
    return sorted(tuple(row) for row in tables.read(EVENT_TYPES).collect())


def test_an_append_is_done_once_and_does_not_touch_the_next(spark, tables):
    tables.append(EVENT_TYPES, types(spark, ("a", 3)), writer="w", number=1)
    tables.append(EVENT_TYPES, types(spark, ("a", 3)), writer="w", number=1)
    tables.append(EVENT_TYPES, types(spark, ("b", 4)), writer="other", number=1)
    tables.insert(EVENT_TYPES, types(spark, ("c", 5)))
    assert stored(tables) == [("a", 3), ("b", 4), ("c", 5)]


def test_a_warehouse_may_be_relative_to_where_the_command_is_typed(spark, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tables = Tables(spark, "var/warehouse")
    tables.insert(EVENT_TYPES, types(spark, ("a", 3)))
    assert tables.location(EVENT_TYPES) == str(tmp_path / "var" / "warehouse" / "event_types")
    assert (tables.version(EVENT_TYPES), stored(tables)) == (1, [("a", 3)])


def test_merge_updates_inserts_and_removes_in_one_commit(spark, tables):
    before = tables.insert(EVENT_TYPES, types(spark, ("a", 3), ("b", 4)))
    after = tables.merge(EVENT_TYPES, types(spark, ("a", 7), ("c", 5)), types(spark, ("b", 4)))
    assert stored(tables) == [("a", 7), ("c", 5)]
    assert after == before + 1
    tables.merge(EVENT_TYPES, types(spark, ("a", 9), ("d", 6)), update=False)
    assert stored(tables) == [("a", 7), ("c", 5), ("d", 6)]


def test_replace_touches_only_what_it_names(spark, tables):
    tables.insert(EVENT_TYPES, types(spark, ("a", 3), ("b", 4)))
    version = tables.replace(EVENT_TYPES, types(spark, ("a", 5)), "event_type = 'a'")
    assert stored(tables) == [("a", 5), ("b", 4)]
    assert sorted(tuple(r) for r in tables.read(EVENT_TYPES, version - 1).collect()) == [("a", 3), ("b", 4)]


def test_row_groups_have_as_many_rows_as_are_wanted(spark, tables):
    rows = types(spark, *((str(n), n) for n in range(3, 8))).coalesce(1)
    tables.replace(EVENT_TYPES, rows, row_group=2)
    assert row_groups(tables) == [2, 2, 1]
    tables.replace(EVENT_TYPES, rows)
    assert row_groups(tables) == [5]


def row_groups(tables) -> list[int]:
    [path] = DeltaTable(tables.location(EVENT_TYPES)).file_uris()
    footer = pq.read_metadata(path)
    return [footer.row_group(number).num_rows for number in range(footer.num_row_groups)]


def test_a_frame_that_is_not_the_table_is_refused(spark, tables):
    wrong = types(spark, ("a", 3)).withColumn("type_index", F.lit("3"))
    with pytest.raises(ContractBroken) as error:
        tables.insert(EVENT_TYPES, wrong)
    assert str(error.value) == "column type_index in a frame for table event_types: 'string'; the table has int"
    assert error.value.exit_code == 3
    with pytest.raises(ContractBroken, match="column type_index in a frame for table event_types: 'absent'"):
        tables.insert(EVENT_TYPES, wrong.drop("type_index"))


def test_batches_are_numbered_as_they_come_and_keep_their_files(spark, tables):
    registry = BatchRegistry(spark, tables, "shop")
    files = [RawFile("b.json", 2), RawFile("a.json", 1)]
    first = replace(registry.propose(None, files, NOW, 30), newest_event_time=NOW)
    registry.register(first)
    registry.register(first)
    assert tables.read(INGEST_FILES).count() == 2
    assert registry.propose(None, files[::-1], datetime(2020, 1, 1, tzinfo=timezone.utc), 30) == first
    second = registry.propose("day2", [RawFile("c.json", 3)], NOW, 30)
    assert (first.late_before, second.late_before) == (None, NOW - timedelta(days=30))
    registry.register(second)
    with pytest.raises(BatchConflict, match="another run took batch number 2: 'day3'; run again"):
        registry.register(replace(second, batch_id="day3"))
    assert [(b.batch_id, b.number) for b in registry.batches()] == [(first.batch_id, 1), ("day2", 2)]
    assert BatchRegistry(spark, tables, "other").batches() == []
    with pytest.raises(BatchConflict) as error:
        registry.propose("day2", [RawFile("c.json", 4)], NOW, 30)
    assert str(error.value).startswith("batch day2 was taken with other files: 'c.json'; ")


def test_the_ledger_knows_the_last_good_run(spark, tables):
    ledger = Ledger(spark, tables)
    rows = RowCounts(read=5, accepted=1, duplicate=1, quarantined=2, late=1)
    run = RunRecord("r1", "ingest", "shop", NOW)
    ledger.write(run, Summary(rows=rows, tables={"events": 4}, batch_id="b1"), "hash")
    ledger.write(RunRecord("r2", "ingest", "shop", NOW), Summary(batch_id="b2"), "hash", error="it broke")
    good = ledger.last_success("ingest", "shop")
    told = [good[name] for name in ("run_id", "rows_read", "output_versions", "config_hash", "started_at")]
    assert told == ["r1", 5, {"events": 4}, "hash", NOW]
    assert ledger.finished_batches("ingest", "shop") == {"b1"}
    assert ledger.last_success("ingest", "other") is None
    ledger.write(RunRecord("r3", "ingest", "shop", NOW), Summary(), "hash")
    assert ledger.last_success("ingest", "shop")["run_id"] == "r3"
    assert ledger.last_success("ingest", "shop", wrote=EVENTS)["run_id"] == "r1"
    assert ledger.last_success("ingest", "shop", before=good["finished_at"])["run_id"] == "r1"
    assert ledger.last_success("ingest", "shop", wrote=EVENT_TYPES) is None
    failed = tables.read(PIPELINE_RUNS).where("run_id = 'r2'").first()
    assert (failed.status, failed.error) == ("failed", "it broke")


def test_the_law_of_conservation():
    RowCounts(5, 1, 1, 2, 1).check("b1")
    with pytest.raises(LawBroken, match="^5 rows came out of 6 in batch b1"):
        RowCounts(6, 1, 1, 2, 1).check("b1")


def test_a_row_that_breaks_a_check_is_refused_by_delta(spark, tables):
    good = {EVENT_TYPES.event_type: "view", EVENT_TYPES.type_index: 3}
    tables.insert(EVENT_TYPES, rows_frame(spark, EVENT_TYPES, [good]))
    with pytest.raises(Exception, match="DELTA_VIOLATE_CONSTRAINT_WITH_VALUES.*numbered"):
        tables.insert(EVENT_TYPES, rows_frame(spark, EVENT_TYPES, [{**good, EVENT_TYPES.type_index: 2}]))


def test_an_older_table_gains_what_its_spec_has_gained(spark, tmp_path):
    older = replace(EVENT_TYPES, columns=EVENT_TYPES.columns, checks=())
    Tables(spark, str(tmp_path)).insert(older, rows_frame(spark, older, [{"event_type": "view", "type_index": 3}]))
    newer = replace(older, columns=(*older.columns, Column("note", STRING, "why", nullable=True)), checks=NOT_FOUR)
    assert [tuple(row) for row in Tables(spark, str(tmp_path)).read(newer).collect()] == [("view", 3, None)]
    row = {"event_type": "four", "type_index": 4, "note": ""}
    with pytest.raises(Exception, match="not_four"):
        Tables(spark, str(tmp_path)).insert(newer, rows_frame(spark, newer, [row]))
    other = replace(older, columns=(older.columns[0], replace(older.columns[1], type=LONG)))
    with pytest.raises(
        ContractBroken, match="column type_index is int and not bigint in table event_types; the table w"
    ):
        Tables(spark, str(tmp_path)).read(other)


def test_a_table_that_a_killed_run_had_begun_to_make_is_made(spark, tmp_path):
    log = tmp_path / EVENT_TYPES.name / "_delta_log"
    log.mkdir(parents=True)
    (log / ".00000000000000000000.json.5d7b.tmp").write_text('{"commitInfo"')
    assert Tables(spark, str(tmp_path)).read(EVENT_TYPES).count() == 0


def test_a_merge_of_two_rows_with_one_key_writes_nothing_and_names_it(spark, tables):
    tables.merge(EVENT_TYPES, types(spark, ("a", 3)))
    for update in (True, False):
        with pytest.raises(Exception) as error:
            tables.merge(EVENT_TYPES, types(spark, ("b", 5), ("c", 6), ("b", 7)), update=update)
        told = explain(error.value)
        assert (type(told), told.exit_code) == (ContractBroken, 3)
        expected = """two rows that were to be written have one key: 'table event_types: {"event_type":"b"}'; """
        assert str(told).startswith(expected)
    assert stored(tables) == [("a", 3)]


def test_rows_of_a_small_table_are_those_that_spark_reads(spark, tables, monkeypatch):
    ledger = Ledger(spark, tables)
    ledger.write(RunRecord("r1", "ingest", "shop", NOW), Summary(tables={"events": 4}), "hash")
    spark.sql(f"ALTER TABLE {tables.sql_name(PIPELINE_RUNS)} ADD COLUMN cluster string")
    grown = replace(PIPELINE_RUNS, columns=(*PIPELINE_RUNS.columns, Column("cluster", STRING, "where", nullable=True)))
    ledger.write(RunRecord("r2", "ingest", "shop", NOW), Summary(), "hash", error="it broke")
    names = ("run_id", "started_at", "status", "rows_read", "output_versions", "cluster")
    expected = [
        {
            **dict.fromkeys(names),
            "run_id": "r1",
            "started_at": NOW,
            "status": "succeeded",
            "output_versions": {"events": 4},
        },
        {**dict.fromkeys(names), "run_id": "r2", "started_at": NOW, "status": "failed", "output_versions": {}},
    ]

    def found(there: Tables) -> list[dict]:
        rows = sorted(there.rows(grown), key=lambda row: row["run_id"])
        return [{name: row[name] for name in names} for row in rows]

    assert found(tables) == expected
    monkeypatch.setattr("behavior_lib.spark.tables.local_rows", lambda *_: None)
    # One that keeps no rows yet.
    assert found(Tables(spark, str(Path(tables.location(PIPELINE_RUNS)).parent))) == expected


def test_rows_that_a_side_file_may_delete_are_left_to_spark(spark, tables):
    tables.insert(EVENT_TYPES, types(spark, ("a", 3), ("b", 4)))
    name = tables.sql_name(EVENT_TYPES)
    spark.sql(f"ALTER TABLE {name} SET TBLPROPERTIES ('delta.enableDeletionVectors' = 'true')")
    spark.sql(f"DELETE FROM {name} WHERE event_type = 'a'")
    assert tables.rows(EVENT_TYPES) == [{"event_type": "b", "type_index": 4}]


def test_a_merge_within_days_leaves_the_files_of_other_days_unread(spark, tables):
    def session(name: str, day: int, n_events: int) -> dict:
        start = datetime(2017, 6, day, tzinfo=timezone.utc)
        day_of = {"session_date": start.date().isoformat(), "session_start": start, "session_end": start}
        sums = {"n_events": n_events, "n_items": 0, "events_by_type": {}, "value_sum": 0.0, "is_open": False}
        return {"session_id": name, "user_id": "u", "source": "shop", **day_of, **sums}

    def put(*rows: dict, within: list[int]) -> list[tuple]:
        frame = rows_frame(spark, SESSIONS, rows)
        tables.merge(SESSIONS, frame, within=[date(2017, 6, day) for day in within])
        kept = tables.read(SESSIONS).select("session_id", "session_date", "n_events").collect()
        return sorted((row[0], row[1].day, row[2]) for row in kept)

    assert put(session("a", 1, 1), session("b", 2, 1), within=[]) == [("a", 1, 1), ("b", 2, 1)]
    assert put(session("a", 1, 5), session("c", 3, 1), within=[1]) == [("a", 1, 5), ("b", 2, 1), ("c", 3, 1)]
    # A file of the second day that is gone would end a merge that reads it.
    for file in Path(tables.location(SESSIONS), "session_date=2017-06-02").glob("*.parquet"):
        file.unlink()
    tables.merge(SESSIONS, rows_frame(spark, SESSIONS, [session("a", 1, 7)]), within=[date(2017, 6, 1)])
    kept = tables.read(SESSIONS).where("session_date <> '2017-06-02'").select("session_id", "n_events").collect()
    assert sorted(tuple(row) for row in kept) == [("a", 7), ("c", 1)]

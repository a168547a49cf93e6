"""Care for tables: what is rewritten, what is removed, and what must stay as it is."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import deltalake
import pyarrow.parquet as pq
import pytest
from pyspark.sql import functions as F

from behavior_lib.config.schema import MaintainConfig
from behavior_lib.errors import ConfigError
from behavior_lib.spark.files import (
    FileReport,
    TableFile,
    _files_of_frame,
    _files_of_log,
    commits_since_checkpoint,
    condition,
    report,
)
from behavior_lib.spark.history import REARRANGED, has_same_rows
from behavior_lib.spark.maintain import Caretaker, arranged, check_retention, crowded
from behavior_lib.spark.schema import rows_frame
from behavior_lib.spark.tables import Tables
from behavior_lib.tables import ALL_TABLES, EVENT_TYPES, EVENTS, EVENTS_QUARANTINE, SEQUENCES, USER_EMBEDDINGS
from tests.spark.conftest import event

pytestmark = pytest.mark.spark

DAY, NEXT = date(2017, 1, 1), date(2017, 1, 2)


def file(size: int, day: date = DAY, rows: int | None = 1) -> TableFile:
    return TableFile((day,), size, rows)


def paths(folder: str) -> set[str]:
    return {Path(uri).name for uri in deltalake.DeltaTable(folder).file_uris()}


def on_disk(folder: str) -> set[str]:
    return {path.name for path in Path(folder).rglob("*.parquet") if "_delta_log" not in path.parts}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([file(10), file(20), file(10, NEXT)], {(DAY,): 1}),
        ([file(10), file(100), file(100)], {}),
        ([file(60), file(60), file(60), file(60)], {(DAY,): 2}),
        ([file(99), file(99)], {(DAY,): 1}),
        ([file(90), file(90), file(100), file(100)], {(DAY,): 3}),
        ([file(90), file(90), file(500)], {}),
        ([], {}),
    ],
)
def test_a_partition_is_rewritten_where_two_small_files_fit_into_fewer(files, expected):
    assert crowded(files, 100) == expected


def test_patience_lets_some_small_files_be():
    files = [file(1) for _ in range(10)]
    assert crowded(files, 100, patience=10) == {}
    assert crowded([*files, file(1)], 100, patience=10) == {(DAY,): 1}


def test_what_the_files_add_up_to():
    files = [file(10), file(40), file(20, NEXT), file(130, NEXT)]
    assert report(files, 40, 7) == FileReport(4, 200, 10, 30, 130, 2, 2, 7)
    assert report([], 40, 1) == FileReport(0, 0, 0, 0, 0, 0, 0, 1)


def test_a_condition_names_partitions_of_every_type():
    assert condition(EVENTS, [(DAY,), (None,)]) == "(event_date <=> date'2017-01-01') or (event_date <=> null)"
    assert condition(USER_EMBEDDINGS, [(3,)]) == "(model_version <=> 3)"
    assert condition(SEQUENCES, [("it's",)]) == r"(split <=> 'it\'s')"
    assert condition(EVENT_TYPES, [()]) is None


def test_statistics_are_of_columns_that_delta_can_compare():
    for spec in ALL_TABLES:
        assert spec.statistics_columns, spec.name
        for name in spec.statistics_columns:
            assert spec.column(name).type.ddl in {"string", "int", "bigint", "double", "timestamp", "date"}, name
            assert name not in spec.partition_by
    assert EVENTS.statistics_columns == ("user_id", "event_time", "event_id", "source", "batch_id")


def test_a_retention_that_readers_would_not_survive_is_refused():
    check_retention(MaintainConfig(retention_hours=168))
    check_retention(MaintainConfig(retention_hours=0, allow_short_retention=True))
    with pytest.raises(ConfigError) as error:
        check_retention(MaintainConfig(retention_hours=167))
    assert str(error.value) == (
        "files that running readers need would be removed in maintain.retention_hours: 167; give 168 or more, or set "
        "maintain.allow_short_retention=true while nothing else runs"
    )
    with pytest.raises(ConfigError, match="a key of maintain is not positive"):
        check_retention(MaintainConfig(target_file_mb=0))


def test_small_files_are_joined_in_order_and_nothing_else_is_touched(spark, tables, events):
    for user in ("c", "a", "b"):
        tables.insert(EVENTS, events(event(user, "2017-01-01 10:00:00")))
    last = tables.insert(EVENTS, events(event("z", "2017-01-02 10:00:00")))
    folder = tables.location(EVENTS)
    rows = sorted(tables.read(EVENTS).drop("attributes").collect())
    untouched = {name for name in paths(folder) if f"2017-01-02/{name}" in str(list(Path(folder).rglob(name)))}
    assert (len(untouched), len(paths(folder))) == (1, 4)

    caretaker = Caretaker(spark, tables, MaintainConfig())
    care = caretaker.care(EVENTS)
    assert (care.partitions_rewritten, care.before.files, care.after.files, care.files_removed) == (1, 4, 2, 0)
    assert (care.after.partitions, care.after.small, care.after.versions) == (2, 2, last + 2)
    assert tables.version(EVENTS) == last + 1
    assert sorted(tables.read(EVENTS).drop("attributes").collect()) == rows
    assert untouched < paths(folder)
    (joined,) = paths(folder) - untouched
    users = pq.ParquetFile(next(Path(folder).rglob(joined))).read(["user_id"])["user_id"].to_pylist()
    assert users == ["a", "b", "c"]
    assert tables.inserted_since(EVENTS, last, last + 1).count() == 0
    assert tables.inserted_since(EVENTS, 0, last + 1).count() == 4
    assert has_same_rows(spark, tables, EVENTS, last, last + 1)
    assert not has_same_rows(spark, tables, EVENTS, last - 1, last + 1)

    again = caretaker.care(EVENTS)
    assert again.is_unchanged
    assert tables.version(EVENTS) == last + 1
    assert sorted(_files_of_frame(tables, EVENTS), key=str) == sorted(_files_of_log(folder, EVENTS), key=str)


def test_rows_appended_between_reading_and_writing_are_kept(spark, tables, events):
    tables.insert(EVENTS, events(event("b", "2017-01-01 10:00:00")))
    tables.insert(EVENTS, events(event("a", "2017-01-01 10:00:00")))
    where = condition(EVENTS, [(DAY,)])
    frame = arranged(tables.read(EVENTS).where(where), EVENTS, 1)
    assert frame.count() == 2
    tables.insert(EVENTS, events(event("late", "2017-01-01 11:00:00")))
    tables.rearrange(EVENTS, frame, where, REARRANGED)
    assert sorted(row.user_id for row in tables.read(EVENTS).collect()) == ["a", "b", "late"]


def test_a_large_partition_is_split_by_its_order(spark, events):
    rows = events(*(event(f"u{n:02}", "2017-01-01 10:00:00") for n in range(40)))
    parts = arranged(rows, EVENTS, 2).select(F.spark_partition_id(), EVENTS.user_id).collect()
    by_file: dict[int, list[str]] = {}
    for number, user in parts:
        by_file.setdefault(number, []).append(user)
    first, second = (by_file[number] for number in sorted(by_file))
    assert first + second == [f"u{n:02}" for n in range(40)]


def test_vacuum_removes_what_no_version_needs_and_writes_no_version(spark, tables):
    def types(*names: str) -> object:
        return rows_frame(spark, EVENT_TYPES, [{"event_type": name, "type_index": 3} for name in names])

    tables.insert(EVENT_TYPES, types("a"))
    tables.replace(EVENT_TYPES, types("b"))
    version, folder = tables.version(EVENT_TYPES), tables.location(EVENT_TYPES)
    orphan = Path(folder, "part-orphan.parquet")
    orphan.write_bytes(b"left by a killed writer")
    assert len(on_disk(folder)) == 3
    kept = Caretaker(spark, tables, MaintainConfig()).care(EVENT_TYPES)
    assert (kept.files_removed, kept.is_unchanged, len(on_disk(folder))) == (0, True, 3)
    config = MaintainConfig(retention_hours=0, allow_short_retention=True)
    care = Caretaker(spark, tables, config).care(EVENT_TYPES)
    assert care.files_removed == 2
    assert on_disk(folder) == paths(folder)
    assert tables.version(EVENT_TYPES) == version
    assert spark.conf.get("spark.databricks.delta.retentionDurationCheck.enabled", None) is None
    assert [row.event_type for row in tables.read(EVENT_TYPES).collect()] == ["b"]


def test_a_lost_checkpoint_is_written_again(spark, tables):
    for number in range(11):
        tables.read(EVENT_TYPES)
        spark.sql(f"ALTER TABLE {tables.sql_name(EVENT_TYPES)} SET TBLPROPERTIES ('note' = '{number}')")
    folder = tables.location(EVENT_TYPES)
    log = Path(folder, "_delta_log")
    for lost in [*log.glob("*.checkpoint*"), log / "_last_checkpoint"]:
        lost.unlink()
    assert commits_since_checkpoint(folder) == 12
    caretaker = Caretaker(spark, tables, MaintainConfig())
    assert caretaker.care(EVENT_TYPES).has_new_checkpoint
    assert commits_since_checkpoint(folder) == 0
    assert caretaker.care(EVENT_TYPES).is_unchanged


def test_a_table_of_an_earlier_release_gets_the_properties_of_today(spark, tables):
    tables.read(EVENTS_QUARANTINE)
    name = tables.sql_name(EVENTS_QUARANTINE)
    spark.sql(f"ALTER TABLE {name} UNSET TBLPROPERTIES ('delta.dataSkippingStatsColumns')")
    before = tables.version(EVENTS_QUARANTINE)
    caretaker = Caretaker(spark, tables, MaintainConfig())
    assert caretaker.care(EVENTS_QUARANTINE).properties_set == 1
    properties = deltalake.DeltaTable(tables.location(EVENTS_QUARANTINE)).metadata().configuration
    assert properties["delta.dataSkippingStatsColumns"] == "source,batch_id,row_hash"
    assert properties["delta.enableDeletionVectors"] == "false"
    assert has_same_rows(spark, tables, EVENTS_QUARANTINE, before, before + 1)
    assert caretaker.care(EVENTS_QUARANTINE).is_unchanged


def test_the_files_of_sequences_are_left_as_they_are(spark, tables):
    row = {"chunk_id": 0, "split": "train", "length": 1, "as_of": "2017-01-01T00:00:00Z"}
    row |= {name: [3] for name in ("item_index", "event_type", "gap_seconds", "value", "target_index")}
    for user in ("b", "a"):
        tables.insert(SEQUENCES, rows_frame(spark, SEQUENCES, [{"user_id": user, **row}]))
    folder = tables.location(SEQUENCES)
    before = paths(folder)
    care = Caretaker(spark, tables, MaintainConfig()).care(SEQUENCES)
    assert (care.is_unchanged, care.after.files, care.after.small) == (True, 2, 2)
    assert paths(folder) == before


def test_tables_that_have_names_are_cared_for_like_folders(spark, tmp_path, events):
    spark.sql(f"create database care location '{tmp_path / 'care'}'")
    try:
        tables = Tables(spark, str(tmp_path / "warehouse"), "care")
        assert not tables.exists(EVENTS)
        for user in ("b", "a"):
            tables.insert(EVENTS, events(event(user, "2017-01-01 10:00:00")))
            row = {"event_type": user, "type_index": ord(user)}
            tables.insert(EVENT_TYPES, rows_frame(spark, EVENT_TYPES, [row]))
        caretaker = Caretaker(spark, tables, MaintainConfig())
        for spec in (EVENTS, EVENT_TYPES):
            assert tables.exists(spec)
            before = tables.version(spec)
            names = [tuple(row) for row in tables.read(spec).select(spec.key[0]).orderBy(spec.key[0]).collect()]
            care = caretaker.care(spec)
            assert (care.before.files, care.after.files, care.partitions_rewritten) == (2, 1, 1), spec.name
            assert has_same_rows(spark, tables, spec, before, tables.version(spec))
            after = [tuple(row) for row in tables.read(spec).select(spec.key[0]).orderBy(spec.key[0]).collect()]
            assert after == names
            assert caretaker.care(spec).is_unchanged
        assert tables.inserted_since(EVENTS, 2, tables.version(EVENTS)).count() == 0
    finally:
        spark.sql("drop database care cascade")

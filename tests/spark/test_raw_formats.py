"""Files of one batch that are not alike, log lines, and what a retyped column does: exact rows of each."""

import base64
import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from pyspark.sql import functions as F

from behavior_lib.config.source import SourceConfig
from behavior_lib.errors import ConfigError, DataRefused
from behavior_lib.spark.canonical import canonical
from behavior_lib.spark.even_tasks import even_tasks
from behavior_lib.spark.raw import read_raw
from behavior_lib.spark.raw_files import UNREADABLE, find_files
from behavior_lib.spark.session import session_settings

COLUMNS = {"user_id": "user", "event_type": "'view'", "event_time": "try_to_timestamp(time)"}
SCHEMA = "user string, item string, time string, value string"


def source(**values: Any) -> SourceConfig:
    given = {"name": "shop", "format": "csv", "path": "unused", "columns": COLUMNS, "key": ["user", "time"]}
    return SourceConfig(**{**given, "options": {"header": "true"}, **values})


@pytest.fixture
def read(spark, tmp_path: Path) -> Callable[..., Any]:
    """read(source, {name: text, …}) → the raw rows as sorted tuples, with what was warned of in `read.warned`."""

    def reader(of: SourceConfig, files: dict[str, str]) -> list[tuple]:
        for name, text in files.items():
            path = tmp_path / "raw" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        reader.warned = []
        found = find_files(spark, f"{tmp_path / 'raw'}/{'*/' if '/' in next(iter(files)) else ''}*")
        rows = read_raw(spark, of, found, reader.warned.append)
        reader.columns = rows.columns
        return sorted((tuple(row) for row in rows.collect()), key=str)

    return reader


def test_csv_columns_are_taken_by_name_from_each_file(read):
    files = {
        "a.csv": "user,item,time,value\nu1,i1,t1,1\n",
        "reordered.csv": "item,value,user,time\ni2,2,u2,t2\n",
        "more.csv": 'user,coupon,Item,time,value\nu3,"x,y",i3,t3,3\nu3,torn\n',
        "fewer.csv": "time,user\nt4,u4\n",
    }
    assert read(source(schema=SCHEMA), files) == [
        ("u1", "i1", "t1", "1", None),
        ("u2", "i2", "t2", "2", None),
        ("u3", "i3", "t3", "3", None),
        ("u3", None, None, None, "u3,torn"),
        ("u4", None, "t4", None, None),
    ]
    assert read.warned == []


def test_marks_of_globs_in_a_name_stand_for_themselves(read):
    files = {
        f"{name}.csv": f"user,item,time,value\n{name},i,t,1\n" for name in ("a{b}", "export*", "export1", "export[1]")
    }
    assert [row[0] for row in read(source(schema=SCHEMA), files)] == ["a{b}", "export*", "export1", "export[1]"]


def test_csv_without_a_schema_has_the_columns_of_all_files(read):
    files = {"a.csv": "user,time\nu1,t1\n", "b.csv": "time,shelf,user\nt2,007,u2\n"}
    assert read(source(), files) == [("u1", "t1", None, None), ("u2", "t2", "007", None)]
    assert read.columns == ["user", "time", "shelf", UNREADABLE]


@pytest.mark.parametrize(
    ("schema", "header", "wanted"),
    [
        (SCHEMA, "item,time,value", "user"),
        (SCHEMA.replace("value string", "value string not null"), "user,item,time", "value"),
    ],
)
def test_a_csv_file_without_a_column_that_is_needed_is_refused(read, schema: str, header: str, wanted: str):
    with pytest.raises(DataRefused) as error:
        read(source(schema=schema), {"a.csv": "user,item,time,value\nu1,i1,t1,1\n", "b.csv": f"{header}\n1,2,3\n"})
    assert str(error.value).startswith("a column that the source needs is missing in file:")
    shown = f"b.csv: '{wanted}'; it has {header.replace(',', ', ')}; write it again, or correct the source's columns"
    assert str(error.value).endswith(shown)


def test_a_declared_column_that_no_file_has_is_null_and_told(read):
    assert read(source(schema=SCHEMA), {"a.csv": "user,time,item\nu1,t1,i1\n"}) == [("u1", "i1", "t1", None, None)]
    assert read.warned == ["no file of the batch has column value of source shop; it is null"]


def test_a_renamed_column_keeps_its_events(spark, read, tmp_path: Path):
    columns = {**COLUMNS, "user_id": "coalesce(customer, user)", "item_id": "item"}
    of = source(schema=f"{SCHEMA}, customer string", columns=columns, key=["coalesce(customer, user)", "time"])
    read(of, {"old.csv": "user,item,time,value\nu1,i1,t1,1\n", "new.csv": "customer,item,time,value\nu1,i1,t1,1\n"})
    rows = canonical(read_raw(spark, of, find_files(spark, str(tmp_path / "raw"))), of).collect()
    assert [(row.user_id, row.item_id) for row in rows] == [("u1", "i1")] * 2
    assert rows[0].event_id == rows[1].event_id


def test_columns_of_folders_are_text(read):
    files = {"shop=007/a.csv": "user,time\nu1,t1\n", "shop=x/b.csv": "time,user\nt2,u2\n"}
    assert read(source(), files) == [("u1", "t1", "007", None), ("u2", "t2", "x", None)]


def test_a_csv_file_without_even_a_header_has_no_rows(read):
    assert read(source(schema=SCHEMA), {"a.csv": "\n"}) == []
    assert read(source(schema=SCHEMA), {"b.csv": "user,time\nu1,t1\n"}) == [("u1", None, "t1", None, None)]


def test_csv_without_a_header_goes_by_place(read):
    of = source(schema="user string, time string", options={})
    assert read(of, {"a.csv": "u1,t1\n", "b.csv": "u2,t2\n"}) == [("u1", "t1", None), ("u2", "t2", None)]


def test_declared_times_are_local_to_the_source(spark, read, tmp_path: Path):
    of = source(
        schema="user string, time timestamp", timezone="Europe/London", columns={**COLUMNS, "event_time": "time"}
    )
    for name, text in {
        "csv": "user,time\nu1,2017-05-01 12:00:00\n",
        "json": '{"user":"u1","time":"2017-05-01 12:00:00"}\n',
    }.items():
        of.format = name
        read(of, {f"{name}/a.{name}": text})
        rows = canonical(read_raw(spark, of, find_files(spark, str(tmp_path / "raw" / name))), of)
        assert str(rows.first().event_time) == "2017-05-01 11:00:00"


def test_json_numbers_and_texts_are_one_text_column(read):
    of = source(format="json", options={}, schema="user string, time string, value string")
    lines = [{"user": "u1", "time": "t", "value": "1.50"}, {"user": 2, "time": "t", "value": 1.5, "more": [1]}]
    found = read(of, {"a.json": "\n".join(map(json.dumps, lines)) + "\n"})
    assert found == [("2", "t", "1.5", None), ("u1", "t", "1.50", None)]


@pytest.fixture
def parquet(spark, tmp_path: Path) -> list:
    """Three files: a whole number, a wider one with another order and a column more, and a text."""
    frames = [
        spark.sql("select 'u1' as user, 't1' as time, 1 as n, named_struct('a', 1) as s"),
        spark.sql(
            "select 't2' as time, 3000000000L as n, 'x' as more, 'u2' as user, named_struct('b', 2, 'a', 3) as s"
        ),
        spark.sql("select 'u3' as user, 't3' as time, 'many' as n"),
    ]
    for number, frame in enumerate(frames):
        frame.coalesce(1).write.parquet(str(tmp_path / "raw" / str(number)))
    return find_files(spark, str(tmp_path / "raw" / "*"))


def test_parquet_files_with_other_schemas_are_read_by_name(spark, parquet):
    of = source(format="parquet", options={}, schema="user string, time string, n bigint, s struct<a: int, b: int>")
    rows = read_raw(spark, of, parquet).orderBy("time").collect()
    unreadable = '{"user":"u3","time":"t3","n":"many"}'
    assert [(r.user, r.n, r.s and tuple(r.s), r[UNREADABLE]) for r in rows] == [
        ("u1", 1, (1, None), None),
        ("u2", 3000000000, (3, 2), None),
        ("u3", None, None, unreadable),
    ]


def test_parquet_files_without_a_schema_give_the_wider_type(spark, parquet):
    of = source(format="parquet", options={})
    with pytest.raises(ConfigError) as error:
        read_raw(spark, of, parquet)
    assert str(error.value) == (
        "a nested column has several types in source shop: 's'; the files have struct<a:int> and "
        "struct<b:int,a:int>; declare it in the source's schema"
    )
    flat = [spark.read.parquet(file.path).drop("s").write.parquet(f"{file.path}.flat") for file in parquet]
    assert len(flat) == 3
    files = [file for folder in parquet for file in find_files(spark, f"{folder.path}.flat")]
    assert [(r.user, r.n, r.more) for r in read_raw(spark, of, files[:2]).orderBy("time").collect()] == [
        ("u1", 1, None),
        ("u2", 3000000000, "x"),
    ]
    assert [r.n for r in read_raw(spark, of, files).orderBy("time").collect()] == ["1", "3000000000", "many"]


def test_lines_that_match_are_columns_and_others_stay_whole(read):
    of = source(format="text", options={}, pattern=r"(\w+) (?<user>\w+)(?: at (?<time>.*))?", columns=COLUMNS)
    found = read(of, {"a.log": "hi u1 at t1, noon\r\nhi u2\n\nu3\nhi ü at t\n"})
    assert read.columns == ["user", "time", UNREADABLE]
    assert sorted(found, key=str) == sorted(
        [("u1", "t1, noon", None), ("u2", "", None), (None, None, ""), (None, None, "u3"), (None, None, "hi ü at t")],
        key=str,
    )


def test_a_heavy_day_of_many_files_is_read_by_tasks_of_the_same_load(spark, tmp_path):
    drawn = random.Random(1)
    for number, size in enumerate([1_030_000] * 6 + [8_000] * 30):
        name = tmp_path / f"{number}.csv.gz"
        name.write_bytes(gzip.compress(b"user\n" + base64.b64encode(drawn.randbytes(size)), mtime=0))
    files = find_files(spark, str(tmp_path))
    sizes = {Path(file.path).name: file.size_bytes for file in files}

    def loads() -> list[float]:
        rows = read_raw(spark, source(schema="user string"), files)
        told = rows.select(F.spark_partition_id().alias("task"), F.input_file_name().alias("file")).distinct().collect()
        of_task: dict[int, float] = {}
        for row in told:
            of_task[row["task"]] = of_task.get(row["task"], 0) + sizes[Path(row["file"]).name] + (64 << 10)
        return sorted(of_task.values())

    with session_settings(spark, even_tasks(list(sizes.values()), cores=2)):
        even = loads()
    assert len(even) == 8
    assert even[-1] < 1.01 * median(even)
    assert len(loads()) == 2

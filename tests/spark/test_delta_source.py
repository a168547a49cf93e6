"""A Delta table as a source: each appended row once, the same rows at each replay, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from behavior_lib.config.source import SourceConfig
from behavior_lib.errors import ConfigError, DataRefused
from behavior_lib.spark.delta_source import covers, new_data_files, read_data_files


def source(**values: Any) -> SourceConfig:
    return SourceConfig(**{"name": "shop", "format": "delta", "path": "unused", "options": {}, **values})


class Table:
    """A Delta table that tests append to, and the batches taken from it."""

    def __init__(self, spark: Any, path: Path) -> None:
        self.spark, self.path, self.taken = spark, str(path), []

    def append(self, sql: str, **options: str) -> None:
        frame = self.spark.sql(sql).coalesce(1)
        frame.write.format("delta").mode("append").options(mergeSchema="true", **options).save(self.path)

    def sql(self, text: str) -> None:
        self.spark.sql(text.replace("TABLE", f"delta.`{self.path}`"))

    def next(self, until: str = "", **values: Any) -> list:
        """Take the next batch and return its files."""
        files = new_data_files(self.spark, source(**values), f"{self.path}{until}", self.taken)
        self.taken = [*self.taken, *files]
        return files

    def ids(self, files: list, **values: Any) -> list:
        return sorted(row.id for row in read_data_files(self.spark, source(**values), files).collect())


@pytest.fixture
def table(spark: Any, tmp_path: Path) -> Table:
    return Table(spark, tmp_path / "a table")


def refusal(table: Table, **values: Any) -> str:
    with pytest.raises(DataRefused) as error:
        table.next(**values)
    return str(error.value)


def vacuum_now(table: Table) -> None:
    """Remove what no version of now needs. Delta lists folders in as many tasks as the second key says: 10,000."""
    keys = {
        "spark.databricks.delta.retentionDurationCheck.enabled": "false",
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": "1",
    }
    for key, value in keys.items():
        table.spark.conf.set(key, value)
    try:
        table.sql("vacuum TABLE retain 0 hours")
    finally:
        for key in keys:
            table.spark.conf.unset(key)


def test_each_row_is_in_one_batch_whatever_is_optimized_and_vacuumed(spark, table):
    for number in (0, 1):
        table.append(f"select {number} as id")
    table.sql("optimize TABLE")
    first = table.next()
    assert table.ids(first) == [0, 1]
    assert table.next() == []
    for number in (2, 3):
        table.append(f"select {number} as id")
    table.sql("optimize TABLE")
    second = table.next()
    assert table.ids(second) == [2, 3]
    assert table.next() == []
    table.append("select 4 as id")
    assert table.ids(table.next()) == [4]
    assert (table.ids(first), table.ids(second)) == ([0, 1], [2, 3])
    vacuum_now(table)
    with pytest.raises(DataRefused) as error:
        table.ids(second)
    assert str(error.value).startswith("a data file of a batch is gone in file:")
    assert "VACUUM removed it: restore it" in str(error.value)


def test_a_version_may_be_named(table):
    for number in range(3):
        table.append(f"select {number} as id")
    first = table.next("@v1")
    assert table.ids(first) == [0, 1]
    assert (covers(first, table.path), covers(first, f"{table.path}@v1"), covers(first, f"{table.path}@v2")) == (
        True,
        True,
        False,
    )
    assert not covers(first, f"{table.path}2")
    assert table.next("@v0") == []
    assert table.ids(table.next("@v2")) == [2]
    with pytest.raises(ConfigError, match=": '7'; it has 0 to 2$"):
        table.next("@v7")


def test_changed_rows_are_refused_or_passed_over(table):
    table.append("select explode(sequence(0, 3)) as id")
    table.next()
    table.sql("delete from TABLE where id = 2")
    table.append("select 4 as id")
    told = refusal(table)
    assert told.startswith("rows of a source table were changed or removed by DELETE in file:")
    assert ": 'version 1'; a source table may only grow; options: {skipChangeCommits: 'true'} leaves such" in told
    assert table.ids(table.next(options={"skipChangeCommits": "true"})) == [4]
    table.append("select 5 as id")
    assert table.ids(table.next()) == [5]


def test_a_first_batch_is_the_table_as_it_is(table):
    table.append("select explode(sequence(0, 3)) as id")
    table.sql("delete from TABLE where id = 2")
    assert table.ids(table.next()) == [0, 1, 3]


def test_partitions_new_columns_and_declared_types(table):
    table.append("select 1 as id, '007' as shop")
    first = table.next()
    table.append("select 2 as id, '8' as shop, 'x' as more")
    second = table.next()
    rows = [read_data_files(table.spark, source(), files).first() for files in (first, second)]
    assert [(row.id, row.shop, row.more) for row in rows] == [(1, "007", None), (2, "8", "x")]
    declared = source(schema="shop int, id string, gone string")
    assert [tuple(row) for row in read_data_files(table.spark, declared, first).collect()] == [(7, "1", None, None)]


def test_partition_values_come_from_folders_as_the_table_types_them(spark, table):
    rows = "select * from values (1, '007'), (2, 'a b/ü=1'), (3, null) as t(id, shop)"
    spark.sql(rows).write.format("delta").partitionBy("shop").save(table.path)
    expected = [(1, "007"), (2, "a b/ü=1"), (3, None)]
    first = table.next()
    spark.sql(rows).write.format("delta").mode("append").save(table.path)
    for files in (first, table.next()):
        found = read_data_files(spark, source(), files).select("id", "shop").orderBy("id").collect()
        assert [tuple(row) for row in found] == expected


@pytest.mark.parametrize(
    ("options", "change", "told"),
    [
        (
            {"delta.enableDeletionVectors": "true"},
            "delete from TABLE where id = 1",
            "a source table has deletion vectors",
        ),
        ({"delta.columnMapping.mode": "name"}, None, "a source table has column mapping"),
    ],
)
def test_what_files_alone_do_not_say_is_refused(table, options: dict, change: str | None, told: str):
    table.append("select explode(sequence(0, 9)) as id", **options)
    if change:
        table.sql(change)
    assert refusal(table).startswith(f"{told} in file:")


def test_a_table_that_was_made_anew_or_lost_versions_is_refused(spark, table):
    for number in range(2):
        table.append(f"select {number} as id", **{"delta.checkpointInterval": "1"})
    table.next("@v0")
    table.append("select 2 as id")
    (Path(table.path) / "_delta_log" / f"{1:020}.json").unlink()
    assert "versions of a source table are no longer in its log" in refusal(table)
    spark.sql("select 9 as id").write.format("delta").save(f"{table.path} anew")
    table.path = f"{table.path} anew"
    assert refusal(table).startswith("the folder holds another table than it did in file:")

"""Which columns of JSON files no row has, told by bits that are gathered while the rows are judged."""

import json
from pathlib import Path

import pytest
from pyspark.sql import functions as F

from behavior_lib.config.source import SourceConfig
from behavior_lib.errors import ConfigError
from behavior_lib.spark.presence import PRESENT, absent_json_columns, named_in, with_array, with_presence
from behavior_lib.spark.raw import read_raw
from behavior_lib.spark.raw_files import RawFile

pytestmark = pytest.mark.spark

NAMES = [f"c{number:02}" for number in range(70)]  # more than one bigint has bits


def source(user: str) -> SourceConfig:
    columns = {
        "user_id": user,
        "event_type": "'view'",
        "event_time": "try_to_timestamp(c65)",
        "attributes": f"map('all', concat({', '.join(NAMES)}))",
    }
    schema = ", ".join(f"{name} string" for name in NAMES)
    return SourceConfig(name="shop", format="json", path="unused", columns=columns, key=["c65"], schema=schema)


def absent(spark, folder: Path, of: SourceConfig, *rows: object) -> list[str]:
    path = folder / "raw.json"
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    file = RawFile(str(path), path.stat().st_size)
    raw = with_presence(read_raw(spark, of, [file]), of)
    names = [name for name in raw.columns if name.startswith(PRESENT)]
    masks = raw.agg(*(F.bit_or(name) for name in names)).first()
    assert len(masks) == 2
    return absent_json_columns(spark, of, raw, [file], list(masks))


def test_names_are_found_in_any_case_and_elements_in_their_array():
    assert named_in("lower(customerid) || 'Time'", ["CustomerID", "Time"]) == ["CustomerID"]
    nested = SourceConfig(name="shop", format="json", path="unused", explode="Batch.events")
    names = ["batch", "element", "events"]
    assert named_in(with_array(nested, "element.user"), names) == ["batch", "element"]
    assert named_in(with_array(nested, "owner"), names) == []


def test_columns_without_a_value_are_absent_unless_a_row_has_the_name(spark, tmp_path: Path):
    rows = [{"c00": "u1", "c65": "2017-01-01"}, {"c00": "u2", "c61": None, "c69": "x"}, '{"c01": "torn']
    assert absent(spark, tmp_path, source("c00"), *rows) == [
        name for name in NAMES if name not in ("c00", "c61", "c65", "c69")
    ]


def test_a_column_that_events_need_is_refused(spark, tmp_path: Path):
    with pytest.raises(ConfigError, match="c07"):
        absent(spark, tmp_path, source("c07"), {"c00": "u1", "c65": "2017-01-01"})


def test_files_without_a_readable_row_tell_nothing(spark, tmp_path: Path):
    assert absent(spark, tmp_path, source("c00"), '{"c01": "torn') == []

"""Numbers of logs that were written before what is no finite number became null."""

import math
from decimal import Decimal

import numpy as np
import pytest
from pyspark.sql import functions as F

from behavior_lib.spark.values import EXACT_TIMES, exact_value, filled_value
from behavior_lib.tables import EVENTS

pytestmark = pytest.mark.spark
MOST = float(np.finfo(np.float32).max)


def test_times_in_json_lose_no_microsecond(spark):
    rows = spark.sql(
        "select struct(timestamp '2017-05-01 10:00:00.123456' as at,"
        " timestamp_ntz '2017-05-01 10:00:00.654321' as local) as raw"
    )
    text = rows.select(F.to_json("raw", EXACT_TIMES).alias("text"), "raw")
    told = text.select("raw", F.from_json("text", rows.schema["raw"].dataType).alias("read"), "text").first()
    assert told.read == told.raw
    assert (".123456" in told.text, ".654321" in told.text) == (True, True)


def test_what_a_float_and_a_decimal_make_of_any_double(spark):
    values = [None, math.nan, math.inf, -math.inf, 1e39, 1e30, -2.5]
    events = spark.createDataFrame([(value,) for value in values], f"{EVENTS.value} double")
    filled = filled_value().alias("filled"), filled_value().cast("float").alias("narrow")
    rows = events.select(*filled, exact_value().alias("exact")).collect()
    assert [row.filled for row in rows] == [0.0, 0.0, MOST, -MOST, MOST, 1e30, -2.5]
    assert [row.narrow for row in rows] == [float(np.float32(row.filled)) for row in rows]
    assert [row.exact for row in rows] == [None] * 6 + [Decimal("-2.5")]

"""What a batch is judged by, against numpy."""

import numpy as np
import pytest
from pyspark.sql import functions as F

from behavior_lib.config.source import OutlierTest, RuleConfig, SourceConfig
from behavior_lib.errors import ConfigError
from behavior_lib.spark.schema import rows_frame
from behavior_lib.spark.statistics import IS_FORGOTTEN, PSEUDONYM, WHOLE_BATCH, measure, wanted_statistics
from behavior_lib.tables import EVENTS
from tests.spark.conftest import event

VALUES = np.random.default_rng(7).lognormal(size=101).round(3)


def source(*rules: RuleConfig, **missing) -> SourceConfig:
    return SourceConfig(name="shop", format="json", path="unused", rules=list(rules), missing=missing)


@pytest.fixture
def sound(spark):
    """101 values of user u0 or u1, one missing, and one that is no number."""
    rows = [event(f"u{n % 2}", f"2017-01-0{1 + n % 3} 10:00:00", value=float(v)) for n, v in enumerate(VALUES)]
    rows.append(event("u0", "2017-01-01 11:00:00", item_id="i"))
    frame = rows_frame(spark, EVENTS, rows)
    not_a_number = frame.limit(1).withColumn(EVENTS.value, F.lit(float("nan")))
    return frame.unionByName(not_a_number)


def measured(rows, of: SourceConfig) -> dict[tuple[str, str, str], tuple]:
    found = measure(rows, wanted_statistics(of)).collect()
    return {(r.rule_id, r.user_id, r.group_value): (r.low, r.high, r.fill, r.n_rows) for r in found}


def test_fences_and_fillings_are_those_of_numpy_in_one_pass(sound):
    rules = [
        RuleConfig(id="tukey", outlier=OutlierTest.iqr, column="value", threshold=2.0),
        RuleConfig(id="sigma", outlier=OutlierTest.zscore, column="value", by="user_id"),
    ]
    of = source(*rules, value="median", item_id="mode")
    first, middle, third = np.percentile(VALUES, [25, 50, 75])
    found = measured(sound, of)
    fences = first - 2 * (third - first), third + 2 * (third - first)
    assert found["tukey", "", WHOLE_BATCH][:2] == pytest.approx(fences, rel=1e-12)
    assert found["tukey", "", WHOLE_BATCH][2:] == (None, 101)
    for user in (0, 1):
        own = VALUES[user::2]
        low, high = own.mean() - 3 * own.std(), own.mean() + 3 * own.std()
        assert found["sigma", f"u{user}", ""][:2] == pytest.approx((low, high), rel=1e-12)
        assert found["sigma", f"u{user}", ""][2:] == (None, len(own))
    assert float(found["missing.value", "", WHOLE_BATCH][2]) == middle
    assert found["missing.item_id", "", WHOLE_BATCH] == (None, None, "i", 1)
    assert len(found) == 5
    plan = measure(sound, wanted_statistics(of))._jdf.queryExecution().executedPlan().treeString()
    assert plan.count("Generate explode") == 1


def test_nothing_is_kept_under_the_name_of_who_was_forgotten(sound):
    of = source(RuleConfig(id="sigma", outlier=OutlierTest.zscore, column="value", by="user_id"), value="median")
    marked = measured(sound.withColumn(IS_FORGOTTEN, F.col(EVENTS.user_id) == "u0"), of)
    assert marked == {key: told for key, told in measured(sound, of).items() if key[1] != "u0"}
    assert {key[1] for key in marked} == {"", "u1"}


def test_the_order_of_the_rows_changes_no_bit(sound):
    of = source(RuleConfig(id="sigma", outlier=OutlierTest.zscore, column="value"), value="mean")
    shuffled = sound.orderBy(F.xxhash64(EVENTS.value)).repartition(5)
    assert measured(sound, of) == measured(shuffled, of)
    total = 0.0
    for value, count in zip(*np.unique(VALUES, return_counts=True), strict=True):
        total += value * count
    assert float(measured(sound, of)["missing.value", "", WHOLE_BATCH][2]) == total / len(VALUES)


def test_only_robots_are_told(sound):
    counts = {}
    for row in sound.collect():
        day = row.user_id, str(row.event_date)
        counts[day] = counts.get(day, 0) + 1
    found = measured(sound, source(RuleConfig(id="robot", robot=17)))
    expected = {("robot", *day): (None, None, None, n) for day, n in counts.items() if n > 17}
    assert expected
    assert found == expected
    hidden = sound.withColumn(PSEUDONYM, F.concat(F.lit("p"), EVENTS.user_id))
    told = measured(hidden, source(RuleConfig(id="robot", robot=17)))
    assert told == {(rule, f"p{user}", day): value for (rule, user, day), value in expected.items()}


def test_of_the_most_frequent_values_the_smallest_fills(spark):
    rows = [event("u", f"2017-01-01 10:00:0{n}", value=v) for n, v in enumerate((10.0, 9.0, 10.0, 9.0, 3.0))]
    assert measured(rows_frame(spark, EVENTS, rows), source(value="mode"))["missing.value", "", ""][2] == "9.0"


def test_a_mean_of_texts_is_refused():
    with pytest.raises(ConfigError, match=r"mean needs a number in missing\.item_id of source shop"):
        wanted_statistics(source(item_id="mean"))

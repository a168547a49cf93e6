"""Days packed into tasks, and rows into the task that is to write them."""

from datetime import date

import pytest
from pyspark.sql import functions as F

from behavior_lib.spark import placement
from behavior_lib.spark.dedupe import IS_CONFLICT, IS_DUPLICATE, mark_duplicates
from behavior_lib.spark.ingest import as_events
from behavior_lib.spark.placement import TASK, keys_of_tasks, murmur3, plan_placement
from behavior_lib.tables import EVENTS
from tests.spark.conftest import event

pytestmark = pytest.mark.spark
DAYS = [date(2017, 1, day) for day in range(1, 6)]


def test_the_hash_is_sparks(spark):
    values = [0, 1, 2, 41, 65_535, 1_000_003, 2**31 - 1]
    frame = spark.createDataFrame([(value,) for value in values], "v int")
    assert [murmur3(value) for value in values] == [row[0] for row in frame.select(F.hash("v")).collect()]


@pytest.mark.parametrize("number", [1, 2, 7, 64])
def test_each_key_goes_to_its_task(spark, number: int):
    keys = spark.createDataFrame([(key,) for key in keys_of_tasks(number)], "key int")
    rows = keys.repartition(number, "key").select("key", F.spark_partition_id().alias("task")).collect()
    assert sorted((row.task, row.key) for row in rows) == list(enumerate(keys_of_tasks(number)))


def test_a_small_batch_is_one_task():
    plan = plan_placement({DAYS[0]: 30_000, DAYS[4]: 20_000}, cores=8)
    assert (plan.n_tasks, plan.pieces, plan.task_of) == (1, (1, 0, 0, 0, 1), (0, 0))


def test_a_day_too_large_is_cut_and_the_others_share_what_is_left():
    plan = plan_placement({DAYS[0]: 10_000, DAYS[1]: 900_000, DAYS[2]: 60_000, DAYS[3]: 30_000}, cores=4)
    # A load is 250,000 rows: the large day is four pieces of 225,000, the largest of the others goes first.
    assert (plan.n_tasks, plan.pieces) == (4, (1, 4, 1, 1))
    loads = dict.fromkeys(range(4), 0)
    for task, size in zip(plan.task_of, (10_000, *[225_000] * 4, 60_000, 30_000), strict=True):
        loads[task] += size
    assert sorted(loads.values()) == [225_000, 235_000, 255_000, 285_000]


def test_a_load_is_never_larger_than_a_task_can_sort():
    plan = plan_placement(dict.fromkeys(DAYS, 1000000), cores=2)
    assert (plan.n_tasks, plan.pieces) == (10, (2,) * 5)


@pytest.fixture
def rows(events):
    """Canonical rows of three days; u1 has one event twice, and once with another item."""
    found = [event(f"u{n % 9}", f"2017-01-0{1 + n % 3} 10:00:{n // 3:02}", event_id=f"e{n}") for n in range(90)]
    found += [found[1], {**found[1], EVENTS.item_id: "z"}]
    hashed = F.xxhash64(EVENTS.event_id, EVENTS.item_id).alias(EVENTS.content_hash)
    kept = [name for name in EVENTS.column_names if name not in ("source", "batch_id", "event_date", "content_hash")]
    return events(*found).select(*kept, hashed)


@pytest.mark.parametrize("with_user", [True, False])
def test_rows_are_marked_and_laid_out_with_one_shuffle(rows, monkeypatch, with_user: bool):
    monkeypatch.setattr(placement, "_FEWEST_ROWS", 20)
    plan = plan_placement({DAYS[0]: 30, DAYS[1]: 32, DAYS[2]: 30}, cores=4)
    assert (plan.n_tasks, plan.pieces) == (4, (2, 2, 2))
    marked = mark_duplicates(rows.repartition(3), None, plan, with_user=with_user)
    told = [(row.event_id, row[IS_DUPLICATE], row[IS_CONFLICT], row.item_id) for row in marked.collect()]
    assert sorted(row[0] for row in told if not row[1]) == sorted(f"e{n}" for n in range(90))
    # Null is smaller than any item: the event without one stands.
    assert sorted(row[1:] for row in told if row[0] == "e1") == [
        (False, False, None),
        (True, False, None),
        (True, True, "z"),
    ]
    events = as_events(marked.where(~F.col(IS_DUPLICATE)), "shop", "b1")
    explained = events._jdf.queryExecution().executedPlan().treeString()
    assert explained.count("Exchange hashpartitioning") == 1
    assert explained.count(f"Exchange hashpartitioning({TASK}#") == 1
    assert explained.count("Sort [") == (1 if with_user else 2)
    placed = events.select("*", F.spark_partition_id().alias("task")).collect()
    order = [(row.event_date, row.user_id, row.event_time, row.event_id) for row in placed]
    for task in range(4):
        own = [key for key, row in zip(order, placed, strict=True) if row.task == task]
        assert own == sorted(own)
    assert len({row.task for row in placed}) == 4

"""How files are shared among the tasks that read them; whole reads are in test_raw_formats.py."""

from pathlib import Path

import pytest

from behavior_lib.spark.even_tasks import even_tasks, read_evenly
from behavior_lib.tables import EVENTS
from tests.spark.conftest import event

pytestmark = pytest.mark.spark
OPENING, BYTES = "spark.sql.files.openCostInBytes", "spark.sql.files.maxPartitionBytes"
MB = 1 << 20


@pytest.mark.parametrize(
    ("sizes", "cores", "of_a_task"),
    [
        ([16 * MB] * 4, 2, 8 * MB + (64 << 10) * 4 // 8),
        ([10], 2, MB),
        ([5_000 * MB], 2, 128 * MB),
    ],
)
def test_a_task_gets_an_eighth_of_two_cores_load(sizes, cores, of_a_task):
    assert even_tasks(sizes, cores) == {OPENING: str(64 << 10), BYTES: str(of_a_task)}


def test_a_table_is_read_so_inside_the_block_alone(spark, tables, events, monkeypatch):
    monkeypatch.setattr("behavior_lib.spark.even_tasks._FEWEST_BYTES_OF_A_TASK", 1)
    before = (spark.conf.get(OPENING), spark.conf.get(BYTES))
    tables.insert(EVENTS, events(event("u", "2017-01-01"), event("u", "2017-01-02")))
    files = [path.stat().st_size for path in Path(tables.location(EVENTS)).glob("event_date=*/*.parquet")]
    assert len(files) == 2
    with read_evenly(spark, tables, EVENTS):
        of_a_task = -(-(sum(files) + 2 * (64 << 10)) // (4 * spark.sparkContext.defaultParallelism))
        assert (spark.conf.get(OPENING), spark.conf.get(BYTES)) == (str(64 << 10), str(of_a_task))
    assert (spark.conf.get(OPENING), spark.conf.get(BYTES)) == before

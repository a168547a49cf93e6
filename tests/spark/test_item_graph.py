"""The item graph against SQL over the same histories."""

from datetime import timedelta

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import torch

from behavior_lib.data.snapshot import Snapshot, count_train
from behavior_lib.models.base import ModelSpec
from behavior_lib.models.build import build_model
from behavior_lib.spark.item_graph import item_graph, with_graph
from behavior_lib.spark.schema import rows_frame
from behavior_lib.spark.tables import Tables
from behavior_lib.tables import ITEM_GRAPH, SEQUENCES
from behavior_lib.train.communicator import SingleProcess
from behavior_lib.train.start import _events, start_item_graph
from tests.train.test_fit import SETTINGS
from tests.transitions_oracle import Transitions

pytestmark = pytest.mark.spark

LENGTH, GAP = 12, timedelta(minutes=30)
SQL = """
with event as (
    select split, user_id, chunk_id, unnest(range(length)) as place, unnest(item_index[1:length]) as item,
           unnest(gap_seconds[1:length]) as gap
    from sequences where split in ('train', 'refit')
), placed as (
    select *, sum(cast(place > 0 and gap > 0 as int)) over own as instant,
           sum(cast(place > 0 and gap > {gap} as int)) over own as session
    from event window own as (partition by split, user_id, chunk_id order by place)
), known as (select * from placed where item >= 3
), directed as (
    select split, 'next' as kind, one.item as item, other.item as neighbour, count(*) as times
    from known one join known other using (split, user_id, chunk_id)
    where other.instant = one.instant + 1 and one.item <> other.item group by all
), undirected as (
    select split, kind, item, neighbour, times from directed
    union all select split, kind, neighbour, item, times from directed
), held as (select distinct split, user_id, chunk_id, session, item from known
), edge as (
    select split, kind, item, neighbour, coalesce(any_value(directed.times), 0) as count, sum(all_.times) as weight
    from undirected all_ left join directed using (split, kind, item, neighbour) group by split, kind, item, neighbour
    union all
    select split, 'session', one.item, other.item, count(*), count(*)
    from held one join held other using (split, user_id, chunk_id, session) where one.item <> other.item group by all
), ranked as (
    select *, row_number() over (partition by split, kind, item order by weight desc, neighbour) as rank from edge
)
select split, kind, item, neighbour, rank, count, cast(weight as bigint) from ranked where rank <= {kept}
"""


def random_sequences(spark, seed: int, n: int = 40):
    """Rows of up to LENGTH events; a third of them share the instant of the one before, some name no known item."""
    random, rows = np.random.default_rng(seed), []
    for row in range(n):
        length = int(random.integers(0, LENGTH + 1)) if row else LENGTH
        items, gaps = random.integers(2, 12, LENGTH), random.choice([0, 60, 1800, 1801, 90_000], LENGTH)
        present = np.arange(LENGTH) < length
        arrays = {SEQUENCES.item_index: items * present, SEQUENCES.gap_seconds: gaps * present}
        rows.append(
            {
                SEQUENCES.user_id: f"u{row // 2}",
                SEQUENCES.chunk_id: row % 2,
                SEQUENCES.split: ["train", "train", "refit", "test"][row % 4],
                **{name: values.tolist() for name, values in arrays.items()},
                **{name: [0] * LENGTH for name in (SEQUENCES.event_type, SEQUENCES.value, SEQUENCES.target_index)},
                SEQUENCES.length: length,
                SEQUENCES.as_of: "2020-01-01T00:00:00Z",
            }
        )
    return rows_frame(spark, SEQUENCES, rows)


def told(frame) -> list[tuple]:
    return sorted(tuple(row) for row in frame.drop(ITEM_GRAPH.kept, ITEM_GRAPH.sequences_version).collect())


@pytest.mark.parametrize(("seed", "kept"), [(0, 1000), (1, 1000), (2, 3), (3, 1)])
def test_edges_are_those_that_sql_counts(spark, seed, kept):
    sequences = random_sequences(spark, seed)
    found = item_graph(sequences, 7, GAP, kept)
    assert found.columns == list(ITEM_GRAPH.column_names)
    with duckdb.connect() as connection:
        connection.register("sequences", pa.Table.from_pylist([row.asDict() for row in sequences.collect()]))
        expected = connection.execute(SQL.format(gap=1800, kept=kept)).fetchall()
    assert told(found) == sorted(expected)
    assert {row[:2] for row in expected} == {(s, k) for s in ("train", "refit") for k in ("next", "session")}
    assert found.select(ITEM_GRAPH.kept, ITEM_GRAPH.sequences_version).distinct().collect() == [(kept, 7)]


def test_one_row_by_hand(spark):
    #  3 and 4 together; a minute later 5 twice; then nobody knows what; two hours later 4.
    values = {SEQUENCES.item_index: [3, 4, 5, 5, 2, 4], SEQUENCES.gap_seconds: [9, 0, 60, 0, 60, 7200]}
    row = {SEQUENCES.user_id: "u", SEQUENCES.chunk_id: 0, SEQUENCES.split: "train", SEQUENCES.length: 6, **values}
    found = told(item_graph(rows_frame(spark, SEQUENCES, [row]), 1, GAP, 2))
    assert found == [
        ("train", "next", 3, 5, 1, 2, 2),
        ("train", "next", 4, 5, 1, 2, 2),
        ("train", "next", 5, 3, 1, 0, 2),
        ("train", "next", 5, 4, 2, 0, 2),
        ("train", "session", 3, 4, 1, 1, 1),
        ("train", "session", 3, 5, 2, 1, 1),
        ("train", "session", 4, 3, 1, 1, 1),
        ("train", "session", 4, 5, 2, 1, 1),
        ("train", "session", 5, 3, 1, 1, 1),
        ("train", "session", 5, 4, 2, 1, 1),
    ]


def test_the_plan_shuffles_twice_sums_before_and_limits_before(spark):
    graph = item_graph(random_sequences(spark, 0).repartition(3), 1, GAP, 2)
    plan = graph._jdf.queryExecution().executedPlan().toString()
    assert plan.count("Exchange hashpartitioning") == 2
    assert plan.count("partial_sum") == 2
    assert plan.count("WindowGroupLimit") == 2
    assert "CartesianProduct" not in plan
    assert "BroadcastNestedLoopJoin" not in plan


def test_training_reads_the_edges_that_counting_in_its_rows_gives(spark, tmp_path):
    tables = Tables(spark, str(tmp_path))
    version = tables.replace(SEQUENCES, random_sequences(spark, 5))
    tables.replace(ITEM_GRAPH, item_graph(tables.read(SEQUENCES, version), version, GAP, 1000))
    for split in ("train", "refit"):
        rows = Snapshot.resolve(tables.location(SEQUENCES), version).taught_by(split)
        snapshot, counts = with_graph(spark, tables, rows, split), count_train(rows)
        sizes = {"n_items": len(counts.items), "n_event_types": counts.n_event_types, "dimension": 8}
        counted = Transitions(len(counts.items))
        for neighbours in (1, 3, 1000):
            spec = ModelSpec("gcn", counts.length, **sizes, neighbours=neighbours)
            model = build_model(spec, torch.from_numpy(counts.items))
            if neighbours == 1:
                for item, instant in _events(model, rows, SETTINGS, lambda: None):
                    counted.add(item, instant)
            start_item_graph(model, snapshot, SingleProcess())
            index, weight = counted.edges(neighbours)
            assert torch.equal(model.item_graph().edge_index, index)
            assert torch.equal(model.item_graph().edge_weight, weight)
            assert len(weight) > len(counts.items)
        session = snapshot.graph.edges("session", 1000, len(counts.items))
        assert len(session[1]) > len(counts.items)
        assert not np.array_equal(session[0], index.numpy())
    # Of other sequences there is none yet.
    later = Snapshot.resolve(tables.location(SEQUENCES), tables.replace(SEQUENCES, random_sequences(spark, 6)))
    assert with_graph(spark, tables, later, "train") is later


def test_a_warehouse_without_the_table_has_no_graph(spark, tmp_path):
    tables = Tables(spark, str(tmp_path))
    rows = Snapshot(str(tmp_path), 0, {})
    assert with_graph(spark, tables, rows, "train") is rows
    assert not tables.exists(ITEM_GRAPH)

"""Small sequences tables for tests, written by delta-rs as Spark writes them."""

from collections import Counter
from dataclasses import replace
from datetime import datetime, timezone
from itertools import pairwise

import numpy as np
import pyarrow as pa
from deltalake import write_deltalake

from behavior_lib.data.histories import Histories
from behavior_lib.data.item_graph import Graph
from behavior_lib.tables import ITEM_GRAPH
from behavior_lib.tables.arrow import arrow_schema

CUT = datetime(2020, 1, 1, tzinfo=timezone.utc)
KIND = 3


MONDAY = np.datetime64("2019-07-01T00:00:00")


def histories(item_lists, length, gaps=None, starts=None):
    """Rows from lists of item indexes; gaps: seconds, one list a row, a day everywhere where not given.

    starts: when each row begins; five hours after the row before, from MONDAY on, where not given.
    """
    n = len(item_lists)
    items, kinds, seconds = (np.zeros((n, length), np.int32) for _ in range(3))
    for row, values in enumerate(item_lists):
        items[row, : len(values)] = values
        kinds[row, : len(values)] = KIND
        seconds[row, 1 : len(values)] = gaps[row][1:] if gaps else 86_400
    lengths = np.array([len(values) for values in item_lists], np.int32)
    begins = MONDAY + 5 * 3600 * np.arange(n) if starts is None else np.array(starts, "datetime64[s]")
    begins = np.where(lengths > 0, begins, np.datetime64("NaT"))
    return Histories(items, kinds, seconds, items.astype(np.float32) / 8, lengths, begins)


def widened(rows, columns):
    """The same rows with so many columns more of padding."""
    return Histories(
        **{
            name: np.pad(values, ((0, 0), (0, columns))) if values.ndim == 2 else values
            for name, values in vars(rows).items()
        }
    )


ATTRIBUTES, VECTORS = "model.item_attributes=[parity, third]", "model.item_vectors=[text]"


def with_values(counts):
    """Counts of items whose values of ATTRIBUTES, and VECTORS, follow from their indexes."""
    index = np.arange(len(counts.items))
    values = np.stack([3 + index % 2, 5 + index % 3], 1) * (index >= 3)[:, None]
    vectors = (np.stack([index / 8, -index / 4, index % 2], 1) * (index >= 3)[:, None]).astype(np.float32)
    return replace(counts, attributes=values, vectors={"text": vectors})


def frame(rows, split, targets=None, first_user=0):
    """An Arrow table of the sequences table's columns; targets: lists of item indexes, one a row."""
    n, length = rows.item_index.shape
    wanted = np.zeros((n, length), np.int32)
    for row, values in enumerate(targets or []):
        wanted[row, : len(values)] = values
    arrays = {
        "item_index": rows.item_index,
        "event_type": rows.event_type,
        "gap_seconds": rows.gap_seconds,
        "value": rows.value,
        "target_index": wanted,
    }
    kinds = {name: pa.list_(pa.float32() if name == "value" else pa.int32()) for name in arrays}
    columns = {name: pa.array(list(values), kinds[name]) for name, values in arrays.items()}
    return pa.table(
        {
            "user_id": [f"user {first_user + row}" for row in range(n)],
            "chunk_id": pa.array([0] * n, pa.int32()),
            **columns,
            "length": pa.array(rows.length, pa.int32()),
            "first_event_time": pa.array(rows.first_event_time.astype("datetime64[us]"), pa.timestamp("us", "UTC")),
            "as_of": [CUT] * n,
            "split": [split] * n,
        }
    )


def write(path, *frames, row_group=None):
    """One file a frame, one commit a file. Returns the newest version."""
    from deltalake import DeltaTable, WriterProperties

    properties = WriterProperties(max_row_group_size=row_group) if row_group else None
    for part in frames:
        write_deltalake(
            str(path),
            part,
            mode="append",
            schema_mode="merge",
            partition_by=["split"],
            writer_properties=properties,
        )
    return DeltaTable(str(path)).version()


def with_graph(snapshot, path, lists, kept=1000):
    """The snapshot with an item graph of these lists, each of whose items is an instant, as Spark writes its table."""
    ways = Counter(pair for items in lists for pair in pairwise(items) if pair[0] != pair[1])
    pairs = {ends for way in ways for ends in (way, way[::-1])}
    weight = {ends: ways[ends] + ways[ends[::-1]] for ends in pairs}
    rows = []
    for item in {end for end, _ in pairs}:
        near = sorted((ends for ends in pairs if ends[0] == item), key=lambda ends: (-weight[ends], ends[1]))
        rows += [(*ends, rank, ways[ends], weight[ends]) for rank, ends in enumerate(near[:kept], 1)]
    values = dict(zip(ITEM_GRAPH.column_names[2:7], zip(*rows, strict=True), strict=True))
    facts = {"split": "train", "kind": "next", "kept": kept, "sequences_version": snapshot.version}
    table = pa.table({**values, **{name: [value] * len(rows) for name, value in facts.items()}})
    table = table.select(ITEM_GRAPH.column_names).cast(arrow_schema(ITEM_GRAPH))
    write_deltalake(str(path), table, partition_by=list(ITEM_GRAPH.partition_by))
    return replace(snapshot, graph=Graph.resolve(str(path), 0, "train"))


def habits(n_users, length, n_items, seed):
    """Users who each buy the same own three items day after day; returns the item lists and each user's three."""
    random = np.random.default_rng(seed)
    own = np.stack([random.choice(n_items, 3, replace=False) + 3 for _ in range(n_users)])
    return [[int(value) for value in random.choice(items, length)] for items in own], own.tolist()

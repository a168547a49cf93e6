"""SEQUENCES → ITEM_GRAPH: which items stand beside which in histories, and how often."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from behavior_lib.data.item_graph import Graph
from behavior_lib.data.snapshot import Snapshot
from behavior_lib.spark.history import has_same_rows
from behavior_lib.spark.tables import Tables
from behavior_lib.tables import ITEM_GRAPH, SEQUENCES
from behavior_lib.tables.item_graph import NEXT, SESSION
from behavior_lib.tables.items import FIRST_INDEX
from behavior_lib.tables.sequences import REFIT, TRAIN

_GROUP, _ITEMS, _BESIDE, _ITEM, _OTHER = "_group", "_items", "_beside", "_item", "_other"
_LOW, _HIGH, _UP, _DOWN, _WAY = "_low", "_high", "_up", "_down", "_way"


def item_graph(sequences: DataFrame, version: int, session_gap: timedelta, kept: int) -> DataFrame:
    """ITEM_GRAPH rows of the splits that are trained.

    sequences: SEQUENCES rows of that version. Events without a known item are not counted, but their instants part
    others; nor is an item beside itself. session_gap: the silence that a session may hold, which tells the sessions of
    a row, as it does for the objective next_session; a row's bound ends one. kept: neighbours of an item.
    Pairs of a row are made from its arrays. Two shuffles: by pair, of what each task has summed, and by item, of the
    `kept` heaviest of each task (WindowGroupLimit): so no task has all pairs of an item that everybody has.
    """
    rows = sequences.where(F.col(SEQUENCES.split).isin(TRAIN, REFIT))
    groups = F.explode(F.concat(_neighbouring_instants(), _sessions(session_gap))).alias(_GROUP)
    apart = rows.select(SEQUENCES.split, groups).select(SEQUENCES.split, f"{_GROUP}.*")
    pairs = (
        apart.withColumn(_ITEM, F.explode(_ITEMS))
        .withColumn(_OTHER, F.explode(_BESIDE))
        # A session holds each pair twice.
        .where((F.col(_ITEM) < F.col(_OTHER)) | ((F.col(_ITEM) > F.col(_OTHER)) & (F.col(ITEM_GRAPH.kind) == NEXT)))
    )
    return _heaviest(_counted(pairs), kept).select(
        *ITEM_GRAPH.column_names[:-2],
        F.lit(kept).alias(ITEM_GRAPH.kept),
        F.lit(version).cast("bigint").alias(ITEM_GRAPH.sequences_version),
    )


def with_graph(spark: SparkSession, tables: Tables, snapshot: Snapshot, split: str) -> Snapshot:
    """The snapshot with the item graph of a split; as it is where there is none, or one of other rows."""
    if not tables.exists(ITEM_GRAPH):
        return snapshot
    graph = Graph.resolve(tables.location(ITEM_GRAPH), tables.version(ITEM_GRAPH), split)
    if graph is None or not has_same_rows(spark, tables, SEQUENCES, graph.sequences_version, snapshot.version):
        return snapshot
    return replace(snapshot, graph=graph)


def _counted(pairs: DataFrame) -> DataFrame:
    """Both directions of each pair, with count and weight."""
    ends = {_LOW: F.least(_ITEM, _OTHER), _HIGH: F.greatest(_ITEM, _OTHER)}
    is_up = F.col(_ITEM) < F.col(_OTHER)
    counted = (
        pairs.withColumns({**ends, _UP: is_up.cast("bigint"), _DOWN: (~is_up).cast("bigint")})
        .groupBy(ITEM_GRAPH.split, ITEM_GRAPH.kind, _LOW, _HIGH)
        .agg(F.sum(_UP).alias(_UP), F.sum(_DOWN).alias(_DOWN))
        .withColumn(ITEM_GRAPH.weight, F.col(_UP) + F.col(_DOWN))
    )

    def way(item: str, neighbour: str, count: str) -> Column:
        of_kind = F.when(F.col(ITEM_GRAPH.kind) == NEXT, F.col(count)).otherwise(F.col(ITEM_GRAPH.weight))
        named = {ITEM_GRAPH.item_index: F.col(item), ITEM_GRAPH.neighbour_index: F.col(neighbour)}
        return F.struct(*(column.alias(name) for name, column in named.items()), of_kind.alias(ITEM_GRAPH.count))

    ways = F.explode(F.array(way(_LOW, _HIGH, _UP), way(_HIGH, _LOW, _DOWN))).alias(_WAY)
    told = counted.select(ITEM_GRAPH.split, ITEM_GRAPH.kind, ITEM_GRAPH.weight, ways)
    return told.select(ITEM_GRAPH.split, ITEM_GRAPH.kind, ITEM_GRAPH.weight, f"{_WAY}.*")


def _heaviest(edges: DataFrame, kept: int) -> DataFrame:
    """The `kept` heaviest of each item with their rank, in the table's order within each task."""
    own = Window.partitionBy(ITEM_GRAPH.split, ITEM_GRAPH.kind, ITEM_GRAPH.item_index)
    rank = F.row_number().over(own.orderBy(F.col(ITEM_GRAPH.weight).desc(), ITEM_GRAPH.neighbour_index))
    near = edges.withColumn(ITEM_GRAPH.rank, rank).where(F.col(ITEM_GRAPH.rank) <= kept)
    return near.sortWithinPartitions(*ITEM_GRAPH.partition_by, *ITEM_GRAPH.sort_by)


def _neighbouring_instants() -> Column:
    """Of a row: the items of each instant that has a next one, beside those of the next."""
    starts = _starts(0)
    places = F.when(F.size(starts) > 1, F.sequence(F.lit(0), F.size(starts) - 2)).otherwise(F.array())
    return F.transform(places, lambda place: _group(NEXT, _items_from(starts, place), _items_from(starts, place + 1)))


def _sessions(gap: timedelta) -> Column:
    """Of a row: the distinct items of each session, beside themselves."""
    starts = _starts(int(gap.total_seconds()))

    def session(place: Column) -> Column:
        items = F.array_distinct(_items_from(starts, place))
        return _group(SESSION, items, items)

    places = F.when(F.size(starts) > 0, F.sequence(F.lit(0), F.size(starts) - 1)).otherwise(F.array())
    return F.transform(places, session)


def _group(kind: str, items: Column, beside: Column) -> Column:
    return F.struct(F.lit(kind).alias(ITEM_GRAPH.kind), items.alias(_ITEMS), beside.alias(_BESIDE))


def _starts(longest_gap: int) -> Column:
    """array<int>: the places, from 0, of events that come later than so many seconds after the one before."""
    places = F.when(F.col(SEQUENCES.length) > 0, F.sequence(F.lit(0), F.col(SEQUENCES.length) - 1)).otherwise(F.array())
    gaps = F.col(SEQUENCES.gap_seconds)
    return F.filter(places, lambda place: (place == 0) | (gaps[place] > longest_gap))


def _items_from(starts: Column, place: Column) -> Column:
    """The known items from the start of that place up to the next start."""
    end = F.coalesce(F.get(starts, place + 1), F.col(SEQUENCES.length))
    items = F.slice(SEQUENCES.item_index, starts[place] + 1, end - starts[place])
    return F.filter(items, lambda item: item >= FIRST_INDEX)

"""The item graph of one version of sequences, and the edges that a model reads of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable
from numpy.typing import NDArray

from behavior_lib.data.files import files_of, local_path, open_parquet
from behavior_lib.tables import ITEM_GRAPH

Edges = tuple[NDArray[np.int64], NDArray[np.float32]]
_FACTS = (ITEM_GRAPH.kept, ITEM_GRAPH.sequences_version)
_EDGE = (ITEM_GRAPH.item_index, ITEM_GRAPH.neighbour_index, ITEM_GRAPH.rank, ITEM_GRAPH.weight)


@dataclass(frozen=True)
class Graph:
    """What ITEM_GRAPH has of one split. files: by kind. kept: neighbours of an item. sequences_version: counted in."""

    files: Mapping[str, tuple[str, ...]]
    kept: int
    sequences_version: int

    @classmethod
    def resolve(cls, location: str, version: int, split: str) -> Graph | None:
        """That of a version of the table at a path or URI; None where it has no row of the split."""
        root = local_path(location)
        files: dict[str, list[str]] = {}
        for path, action in files_of(DeltaTable(root, version=version), root):
            if action[f"partition.{ITEM_GRAPH.split}"] == split:
                files.setdefault(action[f"partition.{ITEM_GRAPH.kind}"], []).append(path)
        for path in sorted(path for paths in files.values() for path in paths):
            told = open_parquet(path).read(columns=list(_FACTS)).slice(0, 1).to_pylist()
            if told:
                kept, sequences_version = (told[0][name] for name in _FACTS)
                return cls({kind: tuple(sorted(paths)) for kind, paths in files.items()}, kept, sequences_version)
        return None

    def edges(self, kind: str, neighbours: int, n_items: int) -> Edges:
        """As `undirected`, of pairs that are among the `neighbours` heaviest of one of their items. neighbours: at most
        `kept`.
        """
        tables = [open_parquet(path).read(columns=list(_EDGE)) for path in self.files.get(kind, ())]
        found = pa.concat_tables(tables) if tables else pa.table({name: pa.array([], pa.int64()) for name in _EDGE})
        item, neighbour, rank, weight = (found.column(name).to_numpy().astype(np.int64) for name in _EDGE)
        is_near = rank <= neighbours
        return undirected(item[is_near], neighbour[is_near], weight[is_near], n_items)


def undirected(item: NDArray[np.int64], neighbour: NDArray[np.int64], weight: NDArray[np.int64], n_items: int) -> Edges:
    """int64 [2, edges], ascending, and float32 [edges]: the edges of an ItemGraph of these pairs, [m] each.

    Each edge is there both ways, once, though its pair be given once or twice. A self loop weighs as the heaviest edge
    of its item, 1 where it has none.
    """
    key, first = np.unique(np.concatenate([item * n_items + neighbour, neighbour * n_items + item]), return_index=True)
    of_edge = np.concatenate([weight, weight])[first].astype(np.float32)
    heaviest = np.ones(n_items, np.float32)
    np.maximum.at(heaviest, key // n_items, of_edge)
    key, weights = np.concatenate([key, np.arange(n_items) * (n_items + 1)]), np.concatenate([of_edge, heaviest])
    order = np.argsort(key)
    index: NDArray[np.int64] = np.stack([key // n_items, key % n_items])[:, order]
    return index, weights[order]

"""Edges that a model reads of the table are those of its heaviest pairs."""

import numpy as np
import pytest
import torch

from behavior_lib.data.item_graph import Graph, undirected
from behavior_lib.data.snapshot import Snapshot
from tests.sequences_example import with_graph
from tests.transitions_oracle import Transitions

NOTHING = Snapshot("/tables/sequences", 4, {})


def random_lists(seed):
    random = np.random.default_rng(seed)
    return [random.integers(3, 12, random.integers(2, 9)).tolist() for _ in range(30)]


@pytest.mark.parametrize("neighbours", [1, 2, 3, 100])
@pytest.mark.parametrize("seed", range(3))
def test_edges_are_those_that_are_counted_in_the_rows(tmp_path, seed, neighbours):
    lists, counted = random_lists(seed), Transitions(13)
    graph = with_graph(NOTHING, tmp_path, lists, 100).graph
    for items in lists:
        counted.add(torch.tensor(items), torch.arange(len(items)))
    index, weight = counted.edges(neighbours)
    found, weights = graph.edges("next", neighbours, 13)
    np.testing.assert_array_equal(found, index.numpy())
    np.testing.assert_array_equal(weights, weight.numpy())
    assert (found.dtype, weights.dtype) == (np.int64, np.float32)


def test_a_pair_that_one_or_both_items_keep_is_there_both_ways_once():
    item, neighbour, weight = np.array([3, 4, 3]), np.array([4, 3, 5]), np.array([7, 7, 2])
    index, weights = undirected(item, neighbour, weight, 6)
    found = dict(zip(map(tuple, index.T.tolist()), weights.tolist(), strict=True))
    loops = {(0, 0): 1, (1, 1): 1, (2, 2): 1, (3, 3): 7, (4, 4): 7, (5, 5): 2}
    assert found == {(3, 4): 7, (4, 3): 7, (3, 5): 2, (5, 3): 2} | loops


def test_a_snapshot_travels_with_its_graph_and_tells_graphs_apart(tmp_path):
    lists = random_lists(0)
    one, other = (with_graph(NOTHING, tmp_path / str(kept), lists, kept) for kept in (2, 3))
    assert (one.graph.kept, one.graph.sequences_version, list(one.graph.files)) == (2, 4, ["next"])
    assert Snapshot.from_json(one.to_json()) == one
    assert Snapshot.from_json(NOTHING.to_json()) == NOTHING
    assert len({each.to_json() for each in (NOTHING, one, other)}) == 3
    assert Graph.resolve(str(tmp_path / "2"), 0, "refit") is None
    index, _ = one.graph.edges("session", 2, 12)
    np.testing.assert_array_equal(index, [np.arange(12)] * 2)

"""The graph of what follows what: every pair counted once, the heaviest edges kept, and carried with the weights."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch

from behavior_lib.models.build import build_model, load_model, save_model
from behavior_lib.models.graph import gathered
from behavior_lib.models.item_graph import ItemGraph
from tests import transitions_oracle as transitions
from tests.encoders_example import N_ITEMS, fill, rows, spec_of
from tests.transitions_oracle import Transitions

pytestmark = pytest.mark.usefixtures("one_thread")


def random_rows(seed, n=30, n_items=12):
    """Lists of instants, each a list of items."""
    random = np.random.default_rng(seed)
    return [
        [random.integers(3, n_items, random.integers(1, 4)).tolist() for _ in range(random.integers(1, 6))]
        for _ in range(n)
    ]


def counted(lists, n_items=12, at_once=7):
    """Some rows at a time, their events in any order."""
    found = Transitions(n_items)
    for start in range(0, len(lists), at_once):
        part = lists[start : start + at_once]
        instants = [(10 * row + place, items) for row, own in enumerate(part) for place, items in enumerate(own)]
        told = [(item, number) for number, items in instants for item in items]
        order = np.random.default_rng(start).permutation(len(told))
        item, instant = torch.tensor(told)[order].T
        found.add(item, instant)
    return found


def pairs_of(lists):
    return Counter(
        (min(one, other), max(one, other))
        for row in lists
        for now, after in pairwise(row)
        for one in now
        for other in after
        if one != other
    )


def kept(pairs, n_items, neighbours):
    """Edges with their weights, both ways and with the loops: what the documents say, in plain Python."""
    near = set()
    for item in range(n_items):
        own = [(-count, *pair) for pair, count in pairs.items() if item in pair]
        near |= {pair[1:] for pair in sorted(own)[:neighbours]}
    edges = {pair: pairs[pair] for pair in near} | {pair[::-1]: pairs[pair] for pair in near}
    loops = {(item, item): max([1, *(w for (end, _), w in edges.items() if end == item)]) for item in range(n_items)}
    return sorted((edges | loops).items())


@pytest.mark.parametrize("neighbours", [1, 2, 3, 100])
@pytest.mark.parametrize("seed", range(3))
def test_edges_are_the_heaviest_pairs_of_neighbouring_instants(seed, neighbours, monkeypatch):
    monkeypatch.setattr(transitions, "EVENTS_AT_ONCE", 5)
    monkeypatch.setattr(transitions, "PAIRS_AT_ONCE", 11)
    lists = random_rows(seed)
    index, weight = counted(lists).edges(neighbours)
    pairs = pairs_of(lists)
    found = [(tuple(edge), int(w)) for edge, w in zip(index.T.tolist(), weight, strict=True)]
    assert found == kept(pairs, 12, neighbours)


def test_one_row_by_hand():
    found = Transitions(8)
    #  3 and 4 together, then 5 twice, then 4; another row: 6 alone
    found.add(torch.tensor([3, 4, 5, 5, 4, 6]), torch.tensor([0, 0, 1, 1, 2, 9]))
    index, weight = found.edges(5)
    loops = [(item, item) for item in range(8)]
    expected = dict.fromkeys(loops, 1) | {(3, 5): 2, (5, 3): 2, (4, 5): 4, (5, 4): 4, (3, 3): 2, (4, 4): 4, (5, 5): 4}
    assert dict(zip(map(tuple, index.T.tolist()), weight.tolist(), strict=True)) == expected
    # The heaviest of 3 is the edge to 5, so it stays, though 5 has a heavier one.
    assert torch.equal(found.edges(1)[0], index)


def test_nothing_counted_leaves_the_loops():
    index, weight = Transitions(5).edges(3)
    assert (index.tolist(), weight.tolist()) == ([[0, 1, 2, 3, 4]] * 2, [1.0] * 5)


def test_sums_along_the_edges_have_the_gradients_of_a_product_of_matrices():
    graph = ItemGraph(N_ITEMS)
    fill(graph)
    random = torch.Generator().manual_seed(1)
    weight = torch.rand(len(graph.edge_weight), generator=random, dtype=torch.float64, requires_grad=True)
    vectors = torch.rand((N_ITEMS, 3), generator=random, dtype=torch.float64, requires_grad=True)
    upstream = torch.rand((N_ITEMS, 3), generator=random, dtype=torch.float64)
    matrix = torch.zeros(N_ITEMS, N_ITEMS, dtype=torch.float64).index_put((graph.ends, graph.begins), weight)
    product = matrix @ vectors
    found = gathered(vectors, weight, weight.detach()[graph.mirror], graph)
    torch.testing.assert_close(found, product)
    expected = torch.autograd.grad(product, (vectors, weight), upstream)
    torch.testing.assert_close(torch.autograd.grad(found, (vectors, weight), upstream), expected)
    assert torch.equal(graph.edge_index[:, graph.mirror], graph.edge_index.flip(0))


@pytest.mark.parametrize("name", ["gcn", "gat"])
def test_a_model_is_saved_with_its_graph(name, tmp_path):
    torch.manual_seed(0)
    counts = torch.arange(N_ITEMS)
    model = build_model(spec_of(name), counts).eval()
    batch = rows(3)
    alone = model.user_vectors(batch)
    model.user_vectors(batch).sum().backward()  # what is remembered of the old edges must go
    fill(model.item_graph())
    vectors = model.user_vectors(batch)
    assert not torch.equal(vectors, alone)
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert len(loaded.item_graph().edge_weight) == len(model.item_graph().edge_weight) > N_ITEMS
    assert torch.equal(loaded.user_vectors(batch), vectors)
    other = build_model(spec_of(name), counts)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.eval().scores(batch), model.scores(batch))
    assert torch.equal(other.item_graph().mirror, model.item_graph().mirror)

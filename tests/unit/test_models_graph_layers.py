"""The graph layers against PyTorch Geometric's, with the same weights on the same weighted graph.

Ours add what they were given and apply the nonlinearity, which there stands outside the layer. The self loops are edges
of the graph, whose weights differ from item to item, so that no layer of the two may add its own.
"""

import pytest
import torch
import torch.nn.functional as F
from torch_geometric.nn import GATConv, GCNConv

from behavior_lib.models.graph import Attention, Convolution
from behavior_lib.models.item_graph import ItemGraph
from tests.encoders_example import N_ITEMS, spec_of

pytestmark = pytest.mark.usefixtures("one_thread")
WIDTH, HEADS = 8, 2


@pytest.fixture(params=range(3))
def graph(request):
    """Weights at random, the same both ways; one item has its loop alone."""
    random = torch.Generator().manual_seed(request.param)
    weight = torch.rand(N_ITEMS, N_ITEMS, generator=random) * 5
    weight = weight * (torch.rand(N_ITEMS, N_ITEMS, generator=random) < 0.15)
    weight[4], weight[:, 4] = 0, 0
    weight = torch.triu(weight, 1)
    weight = weight + weight.T + torch.diag(0.5 + torch.rand(N_ITEMS, generator=random))
    edges, found = weight.nonzero().T, ItemGraph(N_ITEMS)
    found.take(edges, weight[tuple(edges)])
    assert len(found.edge_weight) > 2 * N_ITEMS
    return found


def theirs(graph):
    """Edges as they have them: from where an edge begins to where it ends."""
    return torch.stack([graph.begins, graph.ends])


def assert_same(own, other, inputs, of_own, of_other):
    """Values, and the gradients by the vectors and by each weight, of a sum that weighs every number differently."""
    torch.testing.assert_close(own, other, rtol=0, atol=1e-5)
    upstream = torch.randn(own.shape, generator=torch.Generator().manual_seed(9))
    mine = torch.autograd.grad((own * upstream).sum(), [inputs, *of_own])
    given = torch.autograd.grad((other * upstream).sum(), [inputs, *of_other])
    for one, two in zip(mine, given, strict=True):
        assert one.abs().max() > 0.1
        torch.testing.assert_close(one, two.view(one.shape), rtol=1e-5, atol=1e-5)


def vectors_and(layer, name):
    torch.manual_seed(11)
    return layer(spec_of(name)), torch.randn(N_ITEMS, WIDTH, requires_grad=True)


def test_convolution_is_gcn_conv_without_loops_of_its_own(graph):
    layer, vectors = vectors_and(Convolution, "gcn")
    other = GCNConv(WIDTH, WIDTH, add_self_loops=False, bias=False)
    other.lin.weight = torch.nn.Parameter(layer.project.weight.detach().clone())
    expected = vectors + F.relu(other(vectors, theirs(graph), graph.edge_weight))
    assert_same(layer(vectors, graph), expected, vectors, [layer.project.weight], [other.lin.weight])


def test_attention_is_gat_conv_without_loops_of_its_own(graph):
    layer, vectors = vectors_and(Attention, "gat")
    other = GATConv(WIDTH, WIDTH // HEADS, HEADS, negative_slope=0.2, add_self_loops=False, bias=False)
    # Their source is where an edge begins, the destination is the item that asks.
    other.lin.weight = torch.nn.Parameter(layer.project.weight.detach().clone())
    other.att_src = torch.nn.Parameter(layer.answer.detach().clone()[None])
    other.att_dst = torch.nn.Parameter(layer.ask.detach().clone()[None])
    expected = vectors + F.elu(other(vectors, theirs(graph)))
    own, given = (layer.project.weight, layer.ask, layer.answer), (other.lin.weight, other.att_dst, other.att_src)
    assert_same(layer(vectors, graph), expected, vectors, own, given)

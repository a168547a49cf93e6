"""Lookups in a table: the rows, and gradients that are sparse where there is one to add to."""

import torch

from behavior_lib.models.lookup import lookup
from behavior_lib.train.rowwise import clear

INDEX = torch.tensor([[4, 1], [4, 0]])
WEIGHT = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]])
OF_ROWS = torch.tensor([[7.0, 8.0], [3.0, 4.0], [0.0, 0.0], [0.0, 0.0], [6.0, 8.0]])


def test_rows_of_a_parameter_without_a_gradient_have_a_dense_one():
    table = torch.nn.Parameter(torch.arange(10.0).view(5, 2))
    rows = lookup(INDEX, table)
    assert rows.tolist() == [[[8.0, 9.0], [2.0, 3.0]], [[8.0, 9.0], [0.0, 1.0]]]
    (rows * WEIGHT).sum().backward()
    assert (table.grad.is_sparse, table.grad.tolist()) == (False, OF_ROWS.tolist())


def test_a_sparse_gradient_that_is_there_takes_their_rows_alone():
    table = torch.nn.Parameter(torch.arange(10.0).view(5, 2))
    clear(table)
    (lookup(INDEX, table) * WEIGHT).sum().backward()
    rows = table.grad.coalesce()
    assert (rows.indices()[0].tolist(), rows.values().tolist()) == ([0, 1, 4], OF_ROWS[[0, 1, 4]].tolist())


def test_a_dense_gradient_that_is_there_takes_them_all_and_stays_where_it_is():
    table = torch.nn.Parameter(torch.arange(10.0).view(5, 2))
    table.grad = there = torch.ones(5, 2)
    assert torch.autograd.grad(lookup(INDEX, table).sum(), table)[0].is_sparse
    ((lookup(INDEX, table) * WEIGHT).sum() + (lookup(INDEX[0], table) * WEIGHT[0]).sum() + table.sum()).backward()
    assert table.grad is there
    twice = torch.zeros(5, 2).index_add(0, INDEX[0], WEIGHT[0])
    assert there.tolist() == (OF_ROWS + twice + 2).tolist()


def test_what_was_computed_has_a_dense_one():
    table = torch.nn.Parameter(torch.arange(10.0).view(5, 2))
    (lookup(INDEX, 2 * table) * WEIGHT).sum().backward()
    assert not table.grad.is_sparse
    assert table.grad.tolist() == (2 * OF_ROWS).tolist()

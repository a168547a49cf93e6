"""Row-wise tables: sparse gradients are the dense ones, and steps are those of the recurrence that defines them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from behavior_lib.models.base import ModelSpec
from behavior_lib.models.batch import Batch
from behavior_lib.models.build import build_model
from behavior_lib.models.lookup import lookup
from behavior_lib.train.optimizer import Optimizer, learning_rate
from behavior_lib.train.rowwise import clear, looked_up, make_sparse, sparse_tables
from tests.sequences_example import habits, histories
from tests.train.test_fit import SETTINGS

ROWWISE = replace(SETTINGS, table_optimizer="rowwise", clip_norm=1e9)
LISTS = habits(6, 12, 30, 1)[0]


class Pair(nn.Module):
    """A table that is looked up through its module, and one of which the weight is."""

    def __init__(self):
        super().__init__()
        self.named = nn.Embedding(6, 2)
        self.tied = nn.Embedding(6, 2)
        self.layer = nn.Linear(2, 1)

    def forward(self, index):
        return self.layer(self.named(index) + lookup(index, self.tied.weight)).sum()


def new_model():
    torch.manual_seed(0)
    counts = torch.bincount(torch.tensor(LISTS).flatten(), minlength=34)
    model = build_model(
        ModelSpec("transformer_repeat", 12, 34, 4, window=8, dimension=16, dropout=0.0, negatives=32), counts
    )
    return model, model.prepare(Batch.from_histories(histories(LISTS, 12)))


def gradients(model, batch, is_sparse):
    drawn = model.draw(batch, torch.Generator().manual_seed(1))
    if is_sparse:
        make_sparse(model)
        for table in sparse_tables(model).values():
            clear(table)
    else:
        for parameter in model.parameters():  # as the optimizer has it
            parameter.grad = torch.zeros_like(parameter)
    loss = model.loss(batch, drawn)
    loss.backward()
    return float(loss.detach()), {name: parameter.grad for name, parameter in model.named_parameters()}


def test_gradients_of_the_default_model_are_sparse_and_equal_the_dense_ones():
    loss, dense = gradients(*new_model(), is_sparse=False)
    same, sparse = gradients(*new_model(), is_sparse=True)
    assert same == loss
    assert {name for name, gradient in sparse.items() if gradient.is_sparse} == {
        "items.weight",
        "repeat.propensity.weight",
        "encoder.input.event_type.weight",
        "encoder.input.gap.weight",
    }
    assert not any(gradient.is_sparse for gradient in dense.values())
    for name, gradient in dense.items():
        torch.testing.assert_close(sparse[name].to_dense(), gradient, rtol=1e-5, atol=1e-7)


def test_only_the_rows_that_were_looked_up_have_a_gradient():
    model = Pair()
    make_sparse(model)
    for table in (model.named, model.tied):
        clear(table.weight)
    model(torch.tensor([4, 1, 4])).backward()
    for table in (model.named, model.tied):
        rows, values = looked_up(table.weight)
        assert rows.tolist() == [1, 4]
        torch.testing.assert_close(values, model.layer.weight.detach() * torch.tensor([[1.0], [2.0]]))


def test_a_gradient_that_is_dense_after_all_has_its_rows_that_are_not_0():
    model = Pair()
    make_sparse(model)
    (model.tied.weight[:3] * torch.tensor([[1.0], [0.0], [2.0]])).sum().backward()
    assert looked_up(model.tied.weight)[0].tolist() == [0, 2]
    rows, values = looked_up(model.named.weight)
    assert (rows.shape, values.shape) == ((0,), (0, 2))


def test_steps_are_those_of_row_wise_adagrad_with_clipped_gradients():
    settings = replace(ROWWISE, learning_rate=0.1, warmup_share=0.5, clip_norm=2.0)
    model = Pair()
    optimizer = Optimizer(model, settings)
    expected = model.tied.weight.detach().numpy().astype(np.float64).copy()
    sums = np.zeros(6)
    for done, (rows, values) in enumerate(
        [([1, 4], [[3.0, 1.0], [0.5, 0.0]]), ([4], [[0.25, -0.5]]), ([0, 1], [[1.0, 1.0], [-1.0, 2.0]])]
    ):
        optimizer.zero()
        model.tied.weight.grad = torch.sparse_coo_tensor([rows], values, (6, 2), check_invariants=True)
        norm = optimizer.step(done, 3)
        gradient = np.array(values)
        assert norm == pytest.approx(np.linalg.norm(gradient), rel=1e-6)
        gradient = gradient * min(1.0, 2.0 / (norm + 1e-6))
        sums[rows] += (gradient**2).mean(1)
        rate = learning_rate(done, 3, settings)
        expected[rows] -= rate * gradient / (np.sqrt(sums[rows])[:, None] + 1e-8)
    np.testing.assert_allclose(model.tied.weight.detach(), expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(optimizer.tensors()["sum.tied.weight"], sums, rtol=1e-5)


def test_rows_that_no_batch_reached_stay_as_they_are():
    model = Pair()
    before = model.tied.weight.detach().clone()
    optimizer = Optimizer(model, ROWWISE)
    for done in range(2):
        optimizer.zero()
        model(torch.tensor([2, 5])).backward()
        optimizer.step(done, 2)
    moved = (model.tied.weight.detach() != before).any(1)
    assert moved.tolist() == [False, False, True, False, False, True]


def test_a_table_keeps_one_number_a_row_and_dense_parameters_keep_what_adamw_keeps():
    kept = {name: tuple(tensor.shape) for name, tensor in Optimizer(Pair(), ROWWISE).tensors().items()}
    assert kept["sum.named.weight"] == (6,)
    assert not {"exp_avg.named.weight", "exp_avg_sq.tied.weight", "step.tied.weight"} & kept.keys()
    assert {"exp_avg.layer.weight", "exp_avg_sq.layer.bias", "step.layer.bias"} <= kept.keys()


def test_the_default_makes_no_table_sparse():
    model = Pair()
    kept = Optimizer(model, SETTINGS).tensors()
    assert sparse_tables(model) == {}
    assert kept["exp_avg.named.weight"].shape == (6, 2)


def test_a_sparse_gradient_that_is_no_number_takes_no_step():
    model = Pair()
    optimizer = Optimizer(model, ROWWISE)
    before = model.tied.weight.detach().clone()
    optimizer.zero()
    model.tied.weight.grad = torch.sparse_coo_tensor([[1]], [[float("nan"), 1.0]], (6, 2), check_invariants=True)
    assert not np.isfinite(optimizer.step(0, 1))
    assert torch.equal(model.tied.weight, before)

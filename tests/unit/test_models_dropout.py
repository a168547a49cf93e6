"""Dropout: who is dropped, by what the others are divided, and that nothing is where nothing is trained."""

import math

import pytest
import torch

from behavior_lib.errors import ConfigError
from behavior_lib.models.dropout import Dropout

N = 400_001  # no multiple of the four that share random bits


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.999])
def test_numbers_are_dropped_with_the_probability_and_the_others_divided_by_theirs(probability):
    torch.manual_seed(3)
    share = round(probability * 2**16) / 2**16
    assert abs(share - probability) <= 2**-17
    x = torch.full((N, 1), 3.0, requires_grad=True)
    dropped = Dropout(probability)(x)
    assert set(dropped.unique().tolist()) == {0.0, torch.tensor(3 / (1 - share)).item()}
    is_dropped = (dropped == 0).double().flatten()
    tolerance = 5 * math.sqrt(share * (1 - share) / N)
    assert abs(is_dropped.mean() - share) < tolerance
    for apart in range(1, 5):  # in one 64 bits, and in the next
        both = (is_dropped[apart:] * is_dropped[:-apart]).mean()
        assert abs(both - share**2) < 5 * share / math.sqrt(N)
    (dropped * 2).sum().backward()
    assert torch.equal(x.grad, dropped.detach() * 2 / 3)


def test_a_seed_decides_and_another_call_draws_others():
    drops, x = Dropout(0.5), torch.ones(64)
    torch.manual_seed(1)
    first, second = drops(x), drops(x)
    torch.manual_seed(1)
    assert torch.equal(drops(x), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("shape", [(), (0, 4), (3,), (2, 5, 7)])
def test_any_shape_and_any_layout_is_taken(shape):
    x = torch.ones(shape, dtype=torch.bfloat16)
    for each in (x, x.permute(tuple(reversed(range(x.ndim))))):
        dropped = Dropout(0.25)(each)
        assert (dropped.shape, dropped.dtype) == (each.shape, torch.bfloat16)
        assert set(dropped.flatten().tolist()) <= {0.0, torch.tensor(4 / 3, dtype=torch.bfloat16).item()}


def test_nothing_is_dropped_where_nothing_is_trained_or_nothing_is_to_be():
    x = torch.ones(8)
    assert Dropout(0.9).eval()(x) is x
    assert Dropout(0.0)(x) is x


@pytest.mark.parametrize("probability", [-0.1, 1.0, 1.5, math.nan, math.inf])
def test_what_is_no_probability_is_refused(probability):
    with pytest.raises(ConfigError, match=r"dropout is no probability.*model\.dropout.*give 0 or more and less than 1"):
        Dropout(probability)

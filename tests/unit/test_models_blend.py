"""Logits of which only few numbers learn: the values and gradients of a softmax that keeps everything."""

import math
from dataclasses import replace

import pytest
import torch

from behavior_lib.models.base import ModelSpec
from behavior_lib.models.batch import Batch
from behavior_lib.models.blend import Blend, Logits
from behavior_lib.models.build import build_model
from behavior_lib.models.slots import LEAST
from tests.sequences_example import histories

pytestmark = pytest.mark.usefixtures("one_thread")
ROWS, ITEMS, VALUES = 5, 17, 6


def case(seed, attributes):
    """The parts of logits, those that learn with gradients; item 0 is no candidate, item 4 has no share."""
    generator = torch.Generator().manual_seed(seed)
    products = torch.randn(ROWS, ITEMS, generator=generator, dtype=torch.float64)
    log_share = torch.randn(ITEMS, generator=generator, dtype=torch.float64)
    log_share[4] = -torch.inf
    bias = torch.randn(ITEMS, generator=generator, dtype=torch.float64)
    bias[0] = -torch.inf
    value_index = torch.randint(0, VALUES, (ITEMS, attributes), generator=generator)
    learns = [torch.tensor(0.7), torch.tensor(-0.3), torch.randn(ROWS, VALUES, generator=generator)]
    learns = [each.double().requires_grad_() for each in learns]
    return products, log_share, bias, value_index, learns


def whole(products, log_share, bias, value_index, learns):
    factor, popularity, by_value = learns
    logits = products * factor + bias + popularity * log_share.clamp(min=LEAST)
    return logits + sum(by_value[:, index] for index in value_index.T)


@pytest.mark.parametrize("attributes", [0, 1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_values_and_gradients_are_those_of_all_logits(seed, attributes):
    products, log_share, bias, value_index, learns = case(seed, attributes)
    expected = whole(products, log_share, bias, value_index, learns)
    factor, popularity, by_value = learns
    found = Logits(expected.detach(), products, log_share, factor, popularity, by_value, value_index)
    row, item = torch.tensor([0, 0, 3, 4]), torch.tensor([4, 1, 16, 4])
    torch.testing.assert_close(found.at(row, item), expected[row, item])
    torch.testing.assert_close(found.everything(), expected.logsumexp(1))
    weight = torch.arange(1.0, 5.0).double()
    for a, b in (
        ((found.at(row, item) * weight).sum(), (expected[row, item] * weight).sum()),
        ((found.everything().square()).sum(), (expected.logsumexp(1).square()).sum()),
    ):
        ours = torch.autograd.grad(a, learns, allow_unused=True, retain_graph=True)
        theirs = torch.autograd.grad(b, learns, allow_unused=True, retain_graph=True)
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(
                torch.zeros(()).double() if one is None else one.sum(), (0 * b if other is None else other.sum())
            )
            if one is not None and other is not None:
                torch.testing.assert_close(one, other)


def test_a_new_blend_changes_nothing():
    blend = Blend()
    assert (blend.factor.item(), blend.popularity.item()) == (1.0, 0.0)


def test_a_model_weighs_vectors_and_popularity_as_it_has_learned():
    spec = ModelSpec("mean", 8, ITEMS, 4, window=8, dimension=4, layers=1, negatives=8, blend=True)
    torch.manual_seed(3)
    counts = torch.arange(ITEMS)
    model = build_model(spec, counts).eval()
    batch = Batch.from_histories(histories([[3, 4, 3], [9]], 8))
    others = torch.tensor([5, 6, 12, 16])  # of no user, so without an addend
    before = model.scores(batch)[:, others]
    products = (model.user_vectors(batch) @ model.item_vectors().T)[:, others]
    torch.testing.assert_close(before, products + model.bias[others])
    model.blend.weights.data = torch.tensor([0.5, -2.0])
    share = (counts[others] / counts[3:].sum()).log()
    expected = products * math.exp(0.5) + model.bias[others] - 2 * share
    torch.testing.assert_close(model.scores(batch)[:, others], expected)


def test_the_blend_is_taught_with_the_paths_and_is_not_there_without():
    spec = ModelSpec("mean", 8, ITEMS, 4, window=8, dimension=4, layers=1, negatives=8, blend=True)
    torch.manual_seed(3)
    model = build_model(spec, torch.arange(ITEMS))
    batch = model.prepare(Batch.from_histories(histories([[3, 4, 3, 9], [9, 5, 12]], 8)))
    model.loss(batch, model.draw(batch, torch.Generator().manual_seed(1))).backward()
    assert (model.blend.weights.grad != 0).all()
    assert build_model(replace(spec, repeat_path=False), torch.arange(ITEMS)).blend is None
    assert build_model(replace(spec, blend=False), torch.arange(ITEMS)).blend is None

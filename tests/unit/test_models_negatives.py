"""Every sampling by enumeration: all draws that can be, each as often as the sampler gives it."""

import itertools
import math

import numpy as np
import pytest
import torch

from behavior_lib.models.losses import PARTS, NegativeSampler, gbce, sampled_softmax

COUNTS = torch.tensor([0, 0, 0, 1, 2, 3, 0, 6])  # 12 events of four known items
TARGETS = torch.tensor([7, 7, 3, 5, 7, 4, 5, 7, 7, 4, 5, 7])  # a batch in which items are as frequent as in train
SHARE = np.array([0, 0, 0, 1, 2, 3, 0, 6]) / 12
EVENLY = np.array([0, 0, 0, 1, 1, 1, 0, 1]) / 4
# The middles of 12 equal parts of [0, 1): a draw by any of the samplings is the same anywhere in such a part.
CHANCES = (np.arange(12) + 0.5) / 12
EXPECTED = {"popularity": SHARE, "uniform": EVENLY, "in_batch": SHARE, "mixed": (SHARE + EVENLY) / 2}


def every_draw(sampler, n):
    """int64 [m, n]: the draws that there can be, and float64 [m], the probability of each."""
    chances = torch.tensor(list(itertools.product(CHANCES, repeat=n)), dtype=torch.float64)
    draws = torch.stack([sampler.items(chance, TARGETS) for chance in chances])
    distinct, times = draws.unique(dim=0, return_counts=True)
    return distinct, times / len(draws)


@pytest.mark.parametrize("sampling", PARTS)
def test_items_come_as_often_as_the_sampler_says(sampling):
    sampler = NegativeSampler(COUNTS, sampling, 2)
    draws, probability = every_draw(sampler, 2)
    found = torch.bincount(draws.flatten(), (probability / 2).repeat_interleave(2), minlength=8)
    np.testing.assert_allclose(found.numpy(), EXPECTED[sampling], rtol=1e-6)
    np.testing.assert_allclose(sampler.log_share.exp().numpy(), EXPECTED[sampling], rtol=1e-6)


@pytest.mark.parametrize("sampling", PARTS)
def test_the_sum_over_negatives_estimates_the_sum_over_all_items_without_bias(sampling):
    random = np.random.default_rng(3)
    state, vectors, bias = random.normal(size=(1, 4)), random.normal(size=(8, 4)), random.normal(size=8)
    logits = (state @ vectors.T + bias)[0]
    sampler = NegativeSampler(COUNTS, sampling, 2)
    tensors = [torch.from_numpy(array) for array in (vectors, bias)]
    for target in (3, 7):
        parts = torch.from_numpy(state), torch.tensor([0]), torch.tensor([target]), *tensors
        draws, probability = every_draw(sampler, 2)
        losses = [float(sampled_softmax(*parts, sampler.log_share.double(), draw)) for draw in draws]
        # loss = log(others + exp(s+)) - s+, where only the sum over the others was estimated.
        others = (np.exp(losses) - 1) @ probability.numpy() * np.exp(logits[target])
        wanted = sum(math.exp(logits[item]) for item in (3, 4, 5, 7) if item != target)
        np.testing.assert_allclose(others, wanted, rtol=1e-6)


@pytest.mark.parametrize("sampling", PARTS)
def test_calibrated_to_the_end_gbce_is_least_where_sigmoids_are_probabilities(sampling):
    probability = torch.tensor([0, 0, 0, 0.1, 0.2, 0.3, 0, 0.4], dtype=torch.float64)
    known = probability > 0
    bias = torch.where(known, torch.logit(probability, eps=1e-9), 0.0).requires_grad_()
    sampler = NegativeSampler(COUNTS, sampling, 2)
    state, one, vectors = torch.zeros(1, 1).double(), torch.tensor([0]), torch.zeros(8, 1).double()
    log_share = sampler.log_share.double()
    expected = torch.zeros(())
    for target, (draw, chance) in itertools.product(known.nonzero(), zip(*every_draw(sampler, 2), strict=True)):
        loss = gbce(state, one, target, vectors, bias, log_share, draw, calibration=1.0)
        expected = expected + probability[target].squeeze() * chance * loss
    expected.backward()
    np.testing.assert_allclose(bias.grad.numpy(), 0.0, atol=1e-7)


def test_the_default_draws_what_it_always_drew():
    counts = torch.from_numpy(np.random.default_rng(1).integers(0, 50, 1000))
    counts[:3] = 0
    share = counts.double() / counts.sum()
    for seed in range(5):
        chance = torch.rand(4096, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        before = torch.searchsorted(share.cumsum(0), chance).clamp(max=999)
        sampler = NegativeSampler(counts, "popularity", 4096)
        assert torch.equal(sampler.draw(TARGETS, torch.Generator().manual_seed(seed)), before)
    assert torch.equal(sampler.log_share, share.log().float())


@pytest.mark.parametrize("sampling", PARTS)
@pytest.mark.parametrize("chance", [0.0, 1 - 2**-53])
def test_the_ends_of_chance_are_known_items_too(sampling, chance):
    sampler = NegativeSampler(COUNTS, sampling, 4)
    assert set(sampler.items(torch.full((4,), chance, dtype=torch.float64), TARGETS).tolist()) <= {3, 4, 5, 7}


def test_without_targets_a_batch_draws_as_the_log_share_says():
    sampler = NegativeSampler(COUNTS, "in_batch", 12)
    drawn = sampler.items(torch.from_numpy(CHANCES), torch.tensor([], dtype=torch.int64))
    assert drawn.tolist() == [3, 4, 4, 5, 5, 5, 7, 7, 7, 7, 7, 7]


def test_an_odd_draw_of_a_mixture_is_uniform():
    sampler = NegativeSampler(COUNTS, "mixed", 3)
    assert sampler.items(torch.tensor([0.9, 0.1, 0.3], dtype=torch.float64), torch.tensor([5])).tolist() == [5, 3, 4]
    np.testing.assert_allclose(sampler.log_share.exp().numpy(), SHARE / 3 + EVENLY * 2 / 3, rtol=1e-6)

"""The losses against their formulas in numpy, term by term."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from behavior_lib.models.losses import (
    bce,
    bpr,
    chunked_softmax,
    full_softmax,
    gbce,
    path_softmax,
    sampled_softmax,
)
from behavior_lib.models.losses.catalogue import catalogue_logsumexp

RANDOM = np.random.default_rng(5)
ITEMS, WIDTH = 12, 4


def full_softmax_loss(logits, owner, target):
    log_sum = np.log(np.exp(logits).sum(axis=1))
    return log_sum[owner] - logits[owner, target]


def parts():
    states, vectors, bias = (
        RANDOM.normal(size=(3, WIDTH)),
        RANDOM.normal(size=(ITEMS, WIDTH)),
        RANDOM.normal(size=ITEMS),
    )
    share = RANDOM.dirichlet(np.ones(ITEMS))
    owner, target = np.array([0, 0, 1, 2, 2]), np.array([3, 5, 3, 0, 11])
    return states, vectors, bias, share, owner, target


def as_tensors(*arrays):
    return [torch.from_numpy(array) for array in arrays]


def test_the_correction_is_that_of_the_definition():
    states, vectors, bias, share, owner, target = parts()
    negatives = np.array([3, 3, 1, 7, 9, 0])
    logits = states @ vectors.T + bias
    expected = []
    for state, item in zip(owner, target, strict=True):
        drawn = [np.exp(logits[state, other]) / (len(negatives) * share[other]) for other in negatives if other != item]
        positive = np.exp(logits[state, item])
        expected.append(-np.log(positive / (positive + sum(drawn))))
    tensors = as_tensors(states, owner, target, vectors, bias, np.log(share), negatives)
    np.testing.assert_allclose(float(sampled_softmax(*tensors)), np.mean(expected), rtol=1e-12)


def test_with_many_negatives_it_is_the_full_softmax():
    states, vectors, bias, share, owner, target = parts()
    expected = full_softmax_loss(states @ vectors.T + bias, owner, target).mean()
    negatives = RANDOM.choice(ITEMS, size=400_000, p=share)
    tensors = as_tensors(states, owner, target, vectors, bias, np.log(share), negatives)
    np.testing.assert_allclose(float(sampled_softmax(*tensors)), expected, rtol=5e-3)


def test_a_target_that_is_every_negative_costs_nothing():
    states, vectors, bias, share, _, _ = parts()
    owner, target, negatives = np.array([1]), np.array([4]), np.array([4, 4])
    tensors = as_tensors(states, owner, target, vectors, bias, np.log(share), negatives)
    assert float(sampled_softmax(*tensors)) < 1e-12


@pytest.mark.parametrize("n_states", [3, 0])
def test_without_a_target_every_loss_is_zero(n_states):
    states, vectors, bias, share, _, _ = parts()
    none = np.array([], dtype=np.int64)
    scored = as_tensors(states[:n_states], none, none, vectors, bias)
    log_share, negatives, every = *as_tensors(np.log(share), np.array([1, 2])), torch.ones(ITEMS, dtype=torch.bool)
    assert float(sampled_softmax(*scored, log_share, negatives)) == 0.0
    assert float(gbce(*scored, log_share, negatives, 0.75)) == 0.0
    assert [float(loss(*scored, negatives)) for loss in (bce, bpr)] == [0.0, 0.0]
    assert [float(loss(*scored, every)) for loss in (full_softmax, chunked_softmax)] == [0.0, 0.0]
    own = torch.zeros(3, 2)
    assert float(path_softmax(torch.ones(3), own, own, own.long(), torch.empty(0), *as_tensors(none, none))) == 0.0


def test_only_candidates_count_in_the_whole_softmax():
    states, vectors, bias, _, owner, target = parts()
    candidates = np.isin(np.arange(ITEMS), [0, 3, 5, 8, 11])
    logits = np.where(candidates, states @ vectors.T + bias, -np.inf)
    expected = full_softmax_loss(logits, owner, target).mean()
    tensors = as_tensors(states, owner, target, vectors, bias, candidates)
    for loss in (full_softmax, chunked_softmax):
        np.testing.assert_allclose(float(loss(*tensors)), expected, rtol=1e-12)


# 300 and 257 items are two chunks of 256 and a rest, 256 is one, 255 less than one.
@pytest.mark.parametrize("n_items", [1500, 300, 257, 256, 255])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_chunks_give_the_value_and_the_gradients_of_the_full_softmax(n_items, scale):
    random = torch.Generator().manual_seed(n_items)

    def learned(*shape):
        return (scale * torch.randn(*shape, generator=random)).requires_grad_()

    scored = learned(40, 16), learned(n_items, 16), learned(n_items)
    owner, targets = torch.arange(120) // 3, torch.randint(100, n_items, (120,), generator=random)
    candidates = torch.rand(n_items, generator=random) < 0.7
    candidates[targets] = True
    found = []
    for loss in (full_softmax, chunked_softmax):
        states, vectors, bias = scored
        options = {"held": 1} if loss is chunked_softmax else {}
        value = loss(states, owner, targets, vectors, bias, candidates, **options)
        found.append((value.detach(), *torch.autograd.grad(3 * value, scored)))
    for whole, chunked in zip(*found, strict=True):
        torch.testing.assert_close(chunked, whole, rtol=1e-5, atol=1e-5 * max(1.0, float(whole.abs().max())))


def test_the_gradients_of_the_sum_over_the_catalogue_are_those_of_differences():
    random = torch.Generator().manual_seed(1)
    shapes = ((3, 2), (600, 2), (600,))
    scored = [torch.randn(*shape, generator=random, dtype=torch.float64).requires_grad_() for shape in shapes]
    # Projected on one direction: 1,800 differences of all numbers one by one would take a second.
    assert torch.autograd.gradcheck(lambda *each: catalogue_logsumexp(*each, held=1), scored, fast_mode=True)
    few = [tensor.detach()[:7].requires_grad_() for tensor in scored]
    assert torch.autograd.gradcheck(catalogue_logsumexp, few)


def test_a_chunk_without_a_candidate_adds_nothing():
    bias = torch.full((600,), float("-inf"))
    bias[[300, 599]] = torch.tensor([1.0, 2.0])
    states, vectors = torch.zeros(2, 3, requires_grad=True), torch.zeros(600, 3, requires_grad=True)
    bias.requires_grad_()
    found = catalogue_logsumexp(states, vectors, bias, held=1)
    np.testing.assert_allclose(found.detach().numpy(), np.log(np.exp(1) + np.exp(2)), rtol=1e-6)
    found.sum().backward()
    expected = np.zeros(600)
    expected[[300, 599]] = 2 * np.exp([1, 2]) / (np.exp(1) + np.exp(2))
    np.testing.assert_allclose(bias.grad.numpy(), expected, rtol=1e-6)
    assert torch.isfinite(vectors.grad).all()


class Widest(TorchDispatchMode):
    """The most numbers in one tensor that any operation gives back while it is entered."""

    most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = func(*args, **(kwargs or {}))
        for tensor in given if isinstance(given, tuple) else (given,):
            if isinstance(tensor, torch.Tensor):
                self.most = max(self.most, tensor.numel())
        return given


@pytest.mark.parametrize(("loss", "most"), [(full_softmax, 64 * 5000), (chunked_softmax, 64 * 256)])
def test_no_more_logits_are_held_than_are_said(loss, most):
    states, vectors = torch.randn(64, 2, requires_grad=True), torch.randn(5000, 2, requires_grad=True)
    bias, one = torch.zeros(5000, requires_grad=True), torch.arange(64)
    options = {"held": 1} if loss is chunked_softmax else {}
    with Widest() as widest:
        loss(states, one, one, vectors, bias, torch.ones(5000, dtype=torch.bool), **options).backward()
    assert widest.most == most


NEGATIVES = np.array([3, 3, 1, 7, 9, 0])


def binary_loss(logits, owner, target, weight):
    """Of each target, as the papers write it."""
    sigmoid = 1 / (1 + np.exp(-logits))
    found = []
    for state, item in zip(owner, target, strict=True):
        others = [np.log(1 - sigmoid[state, other]) for other in NEGATIVES if other != item]
        found.append(-(weight[item] * np.log(sigmoid[state, item]) + sum(others)) / (len(NEGATIVES) + 1))
    return np.mean(found)


def test_bce_is_that_of_its_definition():
    states, vectors, bias, _, owner, target = parts()
    expected = binary_loss(states @ vectors.T + bias, owner, target, np.ones(ITEMS))
    found = bce(*as_tensors(states, owner, target, vectors, bias, NEGATIVES))
    np.testing.assert_allclose(float(found), expected, rtol=1e-9)


@pytest.mark.parametrize("calibration", [0.0, 0.75, 1.0])
def test_gbce_with_uniform_negatives_has_the_weight_of_the_paper(calibration):
    states, vectors, bias, _, owner, target = parts()
    alpha = len(NEGATIVES) / ITEMS
    beta = alpha * (calibration * (1 - 1 / alpha) + 1 / alpha)
    expected = binary_loss(states @ vectors.T + bias, owner, target, np.full(ITEMS, beta))
    log_share = np.full(ITEMS, -np.log(ITEMS))
    found = gbce(*as_tensors(states, owner, target, vectors, bias, log_share, NEGATIVES), calibration)
    np.testing.assert_allclose(float(found), expected, rtol=1e-9)


def test_gbce_weighs_each_target_by_how_often_it_is_drawn_itself():
    states, vectors, bias, share, owner, target = parts()
    weight = 1 - 0.75 * (1 - len(NEGATIVES) * share)
    expected = binary_loss(states @ vectors.T + bias, owner, target, weight)
    found = gbce(*as_tensors(states, owner, target, vectors, bias, np.log(share), NEGATIVES), 0.75)
    np.testing.assert_allclose(float(found), expected, rtol=1e-9)


def test_bpr_is_that_of_its_definition():
    states, vectors, bias, _, owner, target = parts()
    logits = states @ vectors.T + bias
    expected = []
    for state, item in zip(owner, target, strict=True):
        lead = np.array([logits[state, item] - logits[state, other] for other in NEGATIVES if other != item])
        expected.append(np.mean(-np.log(1 / (1 + np.exp(-lead)))))
    found = bpr(*as_tensors(states, owner, target, vectors, bias, NEGATIVES))
    np.testing.assert_allclose(float(found), np.mean(expected), rtol=1e-9)


def test_a_target_that_every_draw_hits_has_no_pair():
    states, vectors, bias, _, _, _ = parts()
    scored = as_tensors(states, np.array([1]), np.array([4]), vectors, bias)
    scored[0].requires_grad_()
    loss = bpr(*scored, torch.tensor([4, 4]))
    loss.backward()
    np.testing.assert_allclose(loss.detach().numpy(), 0.0, atol=1e-12)
    np.testing.assert_allclose(scored[0].grad.numpy(), 0.0, atol=1e-12)


def test_addends_to_own_items_are_seen_as_the_full_softmax_sees_them():
    logits = RANDOM.normal(size=(3, ITEMS)) * 4
    own_item = np.array([[2, 5, 0], [7, 0, 0], [1, 2, 11]])
    present = own_item > 0
    addend = RANDOM.normal(size=own_item.shape) * 3 * present
    owner, target = np.array([0, 0, 2, 2, 2]), np.array([5, 8, 11, 4, 1])
    after = logits.copy()
    for row, slot in zip(*np.nonzero(present), strict=True):
        after[row, own_item[row, slot]] += addend[row, slot]
    surprise = full_softmax_loss(after, owner, target)
    expected = (surprise[:2].mean() + surprise[2:].mean()) / 2
    own = np.where(present, np.take_along_axis(logits, own_item, axis=1), -np.inf)
    everything = np.log(np.exp(logits).sum(axis=1))
    found = path_softmax(*as_tensors(everything, own, addend, own_item, logits[owner, target], owner, target))
    np.testing.assert_allclose(float(found), expected, rtol=1e-9)


def test_the_gradient_reaches_addends_and_is_finite_where_slots_are_empty():
    own = torch.tensor([[1.0, float("-inf")]])
    addend = torch.zeros(1, 2, requires_grad=True)
    one = torch.tensor([0])
    path_softmax(torch.tensor([2.0]), own, addend, torch.tensor([[3, 0]]), torch.tensor([1.0]), one, one + 3).backward()
    np.testing.assert_allclose(addend.grad.numpy(), [[np.exp(1) / np.exp(2) - 1, 0.0]], rtol=1e-5)

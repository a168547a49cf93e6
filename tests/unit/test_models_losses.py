"""The two losses against the full softmax in numpy."""

import numpy as np
import torch

from behavior_lib.models.losses import repeat_softmax, sampled_softmax

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


def test_without_a_target_both_losses_are_zero():
    states, vectors, bias, share, _, _ = parts()
    none = np.array([], dtype=np.int64)
    tensors = as_tensors(states, none, none, vectors, bias, np.log(share), np.array([1, 2]))
    assert float(sampled_softmax(*tensors)) == 0.0
    own = torch.zeros(3, 2)
    assert float(repeat_softmax(torch.ones(3), own, own, own.long(), torch.empty(0), *as_tensors(none, none))) == 0.0


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
    found = repeat_softmax(*as_tensors(everything, own, addend, own_item, logits[owner, target], owner, target))
    np.testing.assert_allclose(float(found), expected, rtol=1e-9)


def test_the_gradient_reaches_addends_and_is_finite_where_slots_are_empty():
    own = torch.tensor([[1.0, float("-inf")]])
    addend = torch.zeros(1, 2, requires_grad=True)
    one = torch.tensor([0])
    repeat_softmax(
        torch.tensor([2.0]), own, addend, torch.tensor([[3, 0]]), torch.tensor([1.0]), one, one + 3
    ).backward()
    np.testing.assert_allclose(addend.grad.numpy(), [[np.exp(1) / np.exp(2) - 1, 0.0]], rtol=1e-5)

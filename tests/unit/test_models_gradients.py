"""Gradients of what is computed by formulas of our own are those of differences, in float64."""

import math

import pytest
import torch

from behavior_lib.models.batch import Batch
from behavior_lib.models.losses import bce, bpr, gbce, path_softmax, sampled_softmax
from behavior_lib.models.mean import RunningMean
from behavior_lib.models.objectives.contrastive import MARGIN, contrastive_loss, nt_xent
from tests.encoders_example import spec_of

pytestmark = pytest.mark.usefixtures("one_thread")
ITEMS, WIDTH = 9, 3
OWNER, TARGETS = torch.tensor([0, 0, 1, 2, 2]), torch.tensor([4, 7, 4, 1, 8])
NEGATIVES = torch.tensor([4, 2, 4, 8, 0, 5])  # some of them hit targets, one twice
ROW = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3])


def normal(*shape, seed=1):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=random, dtype=torch.float64).requires_grad_()


def over_the_catalogue(loss, *further):
    """The loss of states, vectors and biases."""
    return lambda states, vectors, bias: loss(states, OWNER, TARGETS, vectors, bias, *further)


SHARES = normal(ITEMS, seed=2).detach().log_softmax(0)
CATALOGUE = {
    "sampled_softmax": over_the_catalogue(sampled_softmax, SHARES, NEGATIVES),
    "gbce": over_the_catalogue(gbce, SHARES, NEGATIVES, 0.75),
    "bce": over_the_catalogue(bce, NEGATIVES),
    "bpr": over_the_catalogue(bpr, NEGATIVES),
}


@pytest.mark.parametrize("name", CATALOGUE)
def test_of_losses_over_the_catalogue(name):
    scored = normal(3, WIDTH), normal(ITEMS, WIDTH, seed=3), normal(ITEMS, seed=4)
    assert torch.autograd.gradcheck(CATALOGUE[name], scored)


def test_of_the_softmax_of_logits_of_which_a_few_change():
    """The sum over all items, and the target's logit, are differentiated as what they are made of."""
    item = torch.tensor([[1, 4, 7, 0], [2, 4, 0, 0], [8, 0, 0, 0]])
    empty = item == 0

    def loss(logits, addend):
        own = logits.gather(1, item).masked_fill(empty, -math.inf)
        given = addend.masked_fill(empty, 0)
        return path_softmax(logits.logsumexp(1), own, given, item, logits[OWNER, TARGETS], OWNER, TARGETS)

    assert torch.autograd.gradcheck(loss, (normal(3, ITEMS), normal(3, 4, seed=5)))


def test_of_the_contrastive_loss():
    """Of vectors of which two users' are nearer than the margin here and farther there, where the loss is flat."""
    centre = normal(1, WIDTH, seed=6).detach()
    vectors = (centre + 0.6 * normal(len(ROW), WIDTH).detach()).requires_grad_()
    assert torch.autograd.gradcheck(lambda each: contrastive_loss(each, ROW), (vectors,))
    distance = torch.cdist(*[torch.nn.functional.normalize(vectors.detach(), dim=1)] * 2)[ROW[:, None] != ROW]
    assert 0.2 < (distance < MARGIN).double().mean() < 0.8


def test_of_nt_xent():
    assert torch.autograd.gradcheck(lambda *both: nt_xent(*both, 0.1), (normal(4, WIDTH), normal(4, WIDTH, seed=7)))


@pytest.mark.parametrize("discount", [0.0, 0.5, 1.0])
def test_of_means_in_which_repeats_count_less(discount):
    encoder = RunningMean(spec_of("mean", repeat_discount=discount))
    item = torch.tensor([[3, 5, 3, 3, 6], [4, 4, 4, 2, 0]])
    none = torch.zeros_like(item)
    batch = Batch(item, none, none, none, none, torch.tensor([5, 4]))
    assert torch.autograd.gradcheck(lambda x: encoder.states(x, batch), (normal(2, 5, WIDTH),))

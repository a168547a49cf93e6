"""Cross-entropy over the catalogue: by a sample of it, by all of it, and where a few logits change."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from behavior_lib.models.lookup import lookup
from behavior_lib.models.losses.catalogue import HELD, catalogue_logsumexp

TINY = 1e-9  # what rounding may leave of a difference that is not below 0


def sampled_softmax(
    states: Tensor,
    owner: Tensor,
    targets: Tensor,
    vectors: Tensor,
    bias: Tensor,
    log_share: Tensor,
    negatives: Tensor,
) -> Tensor:
    """Cross-entropy of every target among itself and negatives that all states share: a scalar, the mean over targets.

    states: [m, d]. owner, targets: int64 [t], the state that predicts each target, and the target. vectors: [items, d].
    bias: [items]. negatives: int64 [k], drawn with replacement; exp(log_share): [items], their expected shares of the
    draws.

    Every negative's logit is lowered by the logarithm of its expected number of draws ("logQ"), so that the sum over
    the negatives estimates without bias the sum over all items but the target (Bengio and Senécal 2008). The target
    itself is not drawn by chance and stays as it is; draws that hit it are taken out of the sum.
    """
    times = math.log(len(negatives))
    corrected = bias[negatives] - (log_share[negatives] + times)
    everything = catalogue_logsumexp(states, lookup(negatives, vectors), corrected)[owner]
    positive = (states[owner] * lookup(targets, vectors)).sum(1) + bias[targets]
    draws = torch.bincount(negatives, minlength=len(vectors))[targets]
    highest = torch.maximum(everything, positive).detach()
    hits = draws * torch.exp(positive - (log_share[targets] + times) - highest)
    others = (torch.exp(everything - highest) - hits).clamp(min=0)
    surprise = torch.log(others + torch.exp(positive - highest)) + highest - positive
    return surprise.sum() / max(1, len(targets))


def full_softmax(
    states: Tensor, owner: Tensor, targets: Tensor, vectors: Tensor, bias: Tensor, candidates: Tensor
) -> Tensor:
    """Cross-entropy of every target among all candidates: a scalar, the mean over targets. Holds [m, items].

    As in `sampled_softmax`, but candidates: bool [items], those that the sum is over; targets are among them.
    """
    everything = torch.addmm(bias.masked_fill(~candidates, -math.inf), states, vectors.T).logsumexp(1)
    return _surprise(everything, states, owner, targets, vectors, bias)


def chunked_softmax(
    states: Tensor,
    owner: Tensor,
    targets: Tensor,
    vectors: Tensor,
    bias: Tensor,
    candidates: Tensor,
    held: int = HELD,
) -> Tensor:
    """`full_softmax` with a chunk of the logits at a time, forward and backward: see `catalogue_logsumexp`."""
    everything = catalogue_logsumexp(states, vectors, bias.masked_fill(~candidates, -math.inf), held)
    return _surprise(everything, states, owner, targets, vectors, bias)


def _surprise(
    everything: Tensor, states: Tensor, owner: Tensor, targets: Tensor, vectors: Tensor, bias: Tensor
) -> Tensor:
    positive = (states[owner] * lookup(targets, vectors)).sum(1) + bias[targets]
    return (everything[owner] - positive).sum() / max(1, len(targets))


def path_softmax(
    everything: Tensor,
    logit: Tensor,
    addend: Tensor,
    item: Tensor,
    target_logit: Tensor,
    owner: Tensor,
    target: Tensor,
) -> Tensor:
    """Cross-entropy of sets of targets under the full softmax of logits of which a few in each row get an addend.

    everything: [m], log of the sum of exp over all logits before the addends. logit, addend: [m, S], logit before and
    addend of each item that gets one, -inf and 0 in empty slots. item: int64 [m, S]. target: int64 [t], target_logit:
    [t], its logit before the addend, owner: int64 [t], its row. Returns the mean over rows of each set's mean; rows
    without a target do not count. No other logits are needed: only these change, so the sum is mended for them.
    """
    highest = torch.maximum(everything, (logit + addend).amax(1)).detach()
    others = (torch.exp(everything - highest) - torch.exp(logit - highest[:, None]).sum(1)).clamp(min=TINY)
    total = torch.log(others + torch.exp(logit + addend - highest[:, None]).sum(1)) + highest
    gain = (addend[owner] * (item[owner] == target[:, None])).sum(1)
    size = torch.bincount(owner, minlength=len(everything))
    surprise = total[owner] - target_logit - gain
    return (surprise / size[owner]).sum() / (size > 0).sum().clamp(min=1)

"""Losses that set each target against negatives one by one. All states share the negatives, and none is corrected for
how it was drawn: bce and bpr rank items by how much likelier they are than their share of the draws, so that negatives
drawn by popularity push popular items down.

In all of them, states: [m, d]. owner, targets: int64 [t], the state that predicts each target, and the target.
vectors: [items, d]. bias: [items]. negatives: int64 [k], drawn with replacement. s+ is a target's logit, s- that of a
negative. Draws that hit a target are no negatives of it. Each returns a scalar, the mean over targets.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from behavior_lib.models.lookup import lookup


def bce(states: Tensor, owner: Tensor, targets: Tensor, vectors: Tensor, bias: Tensor, negatives: Tensor) -> Tensor:
    """Binary cross-entropy, -(log σ(s+) + Σ log(1 - σ(s-))) / (k + 1), as SASRec has it with one negative a position
    (Kang and McAuley 2018, "Self-attentive sequential recommendation").
    """
    return _binary(states, owner, targets, vectors, bias, negatives, torch.ones_like(bias))


def gbce(
    states: Tensor,
    owner: Tensor,
    targets: Tensor,
    vectors: Tensor,
    bias: Tensor,
    log_share: Tensor,
    negatives: Tensor,
    calibration: float,
) -> Tensor:
    """Generalised binary cross-entropy, -(β log σ(s+) + Σ log(1 - σ(s-))) / (k + 1) (Petrov and Macdonald 2023,
    "gSASRec: reducing overconfidence in sequential recommendation trained with negative sampling").

    log_share: [items], logarithm of the probability of one draw to be each item. calibration: their t, from 0 to 1.
    β = α (t (1 - 1 / α) + 1 / α) = 1 - t (1 - α) lowers the positives' weight as sampling lowers the negatives': α is
    how often an item is drawn among k negatives, k / items where they are uniform. Here it is taken for each item, k
    times its share, so that with t = 1 the best σ(s) is the item's probability whatever the sampling. t = 0 is bce.
    """
    rate = torch.exp(log_share + math.log(len(negatives)))
    return _binary(states, owner, targets, vectors, bias, negatives, 1 - calibration * (1 - rate))


def bpr(states: Tensor, owner: Tensor, targets: Tensor, vectors: Tensor, bias: Tensor, negatives: Tensor) -> Tensor:
    """Bayesian personalised ranking, the mean over the negatives of -log σ(s+ - s-) (Rendle et al. 2009, "BPR: Bayesian
    personalized ranking from implicit feedback"). Holds [t, k]. A target that every draw hits costs nothing.
    """
    sampled, positive, draws = _logits(states, owner, targets, vectors, bias, negatives)
    cost = F.softplus(sampled[owner] - positive[:, None]).sum(1) - draws.to(sampled) * math.log(2)
    return (cost / (len(negatives) - draws).clamp(min=1)).sum() / max(1, len(targets))


def _binary(
    states: Tensor,
    owner: Tensor,
    targets: Tensor,
    vectors: Tensor,
    bias: Tensor,
    negatives: Tensor,
    weight: Tensor,
) -> Tensor:
    """weight: [items], of each item's own term where it is the target."""
    sampled, positive, draws = _logits(states, owner, targets, vectors, bias, negatives)
    others = F.softplus(sampled).sum(1)[owner] - draws * F.softplus(positive)
    surprise = weight[targets] * F.softplus(-positive) + others
    return surprise.sum() / ((len(negatives) + 1) * max(1, len(targets)))


def _logits(
    states: Tensor, owner: Tensor, targets: Tensor, vectors: Tensor, bias: Tensor, negatives: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """[m, k] of the negatives, [t] of the targets, and int64 [t], how many draws hit each target."""
    sampled = torch.addmm(bias[negatives], states, lookup(negatives, vectors).T)
    positive = (states[owner] * lookup(targets, vectors)).sum(1) + bias[targets]
    return sampled, positive, torch.bincount(negatives, minlength=len(vectors))[targets]

"""The loss that a model's spec names, with the negatives that it needs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from behavior_lib.errors import ConfigError
from behavior_lib.models.base import ModelSpec
from behavior_lib.models.losses.negatives import PARTS, NegativeSampler
from behavior_lib.models.losses.pairs import bce, bpr, gbce
from behavior_lib.models.losses.softmax import chunked_softmax, full_softmax, sampled_softmax

# Loss → the sampling that its paper has, None where the whole catalogue is scored.
OWN_SAMPLING = {
    "sampled_softmax": "popularity",
    "softmax": None,
    "chunked_softmax": None,
    "gbce": "uniform",
    "bce": "uniform",
    "bpr": "uniform",
}


def sampling_of(loss: str, sampling: str | None) -> str | None:
    """How the negatives of a loss are drawn, None where it has none. sampling: None for the loss's own.

    Raises ConfigError for an unknown name, and for a sampling where there is nothing to sample.
    """
    if loss not in OWN_SAMPLING:
        raise ConfigError("unknown loss", where="model.loss", value=loss, mend=f"known: {', '.join(OWN_SAMPLING)}")
    where = "model.negative_sampling"
    if sampling is not None and sampling not in PARTS:
        raise ConfigError("unknown sampling", where=where, value=sampling, mend=f"known: {', '.join(PARTS)}")
    if sampling is not None and OWN_SAMPLING[loss] is None:
        mend = f"--set {where}=null, or another model.loss"
        raise ConfigError(
            f"the loss {loss} scores all items and has no negatives", where=where, value=sampling, mend=mend
        )
    return sampling or OWN_SAMPLING[loss]


class CatalogueLoss(nn.Module):
    """How far states are from the items that came next, by state · vector + bias. Has no parameters of its own."""

    candidates: Tensor

    def __init__(self, spec: ModelSpec, item_counts: Tensor) -> None:
        """item_counts: int64 [n_items], counts in train, 0 for items that are not known and no candidates.

        Raises ConfigError where the spec's loss and sampling do not go together.
        """
        super().__init__()
        sampling = sampling_of(spec.loss, spec.negative_sampling)
        self.name, self.calibration = spec.loss, spec.calibration
        self.sampler = NegativeSampler(item_counts, sampling, spec.negatives) if sampling else None
        self.register_buffer("candidates", item_counts > 0, persistent=False)

    def draw(self, targets: Tensor, generator: torch.Generator) -> Tensor:
        """int64 [spec.negatives], empty where the loss has none. targets: int64 [t], those of the batch."""
        return self.sampler.draw(targets, generator) if self.sampler is not None else targets[:0]

    def forward(
        self, states: Tensor, owner: Tensor, targets: Tensor, vectors: Tensor, bias: Tensor, negatives: Tensor
    ) -> Tensor:
        """A scalar, the mean over targets; 0 without any.

        states: [m, d]. owner, targets: int64 [t], the state that predicts each target, and the target, a known item.
        vectors: [n_items, d]. bias: [n_items]. negatives: what `draw` gave.
        """
        scored = states, owner, targets, vectors, bias
        if self.sampler is None:
            whole = full_softmax if self.name == "softmax" else chunked_softmax
            return whole(*scored, self.candidates)
        if self.name == "sampled_softmax":
            return sampled_softmax(*scored, self.sampler.log_share, negatives)
        if self.name == "gbce":
            return gbce(*scored, self.sampler.log_share, negatives, self.calibration)
        return (bce if self.name == "bce" else bpr)(*scored, negatives)

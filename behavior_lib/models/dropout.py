"""Dropout (Srivastava et al. 2014) whose draws are cheap on a CPU."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from behavior_lib.errors import ConfigError

_LEVELS = 1 << 16


class Dropout(nn.Module):
    """In training each number is 0 with the given probability, and divided by that of the others where it is not.

    On a CPU torch asks its generator once a number, which is 6 % of a step of a small transformer; here four numbers
    share 64 random bits, so that the probability is a multiple of 2 ** -16: .1 is .100006. What is left is divided by
    its own probability, so the expectation is exact.
    """

    def __init__(self, probability: float) -> None:
        """Raises ConfigError where the probability is below 0, or all would be dropped."""
        super().__init__()
        self.probability = probability
        self._dropped = round(probability * _LEVELS) if math.isfinite(probability) else _LEVELS
        if not 0 <= self._dropped < _LEVELS:
            mend = "give 0 or more and less than 1"
            raise ConfigError("dropout is no probability", where="model.dropout", value=probability, mend=mend)

    def forward(self, x: Tensor) -> Tensor:
        """As x, of any shape."""
        if not self.training or not self._dropped:
            return x
        if x.device.type != "cpu" or torch.compiler.is_compiling():  # the compiler knows torch's own alone
            return F.dropout(x, self.probability)
        bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(torch.iinfo(torch.int64).min, None)
        level = bits.view(torch.int16)[: x.numel()].view(x.shape)
        kept = torch.ge(level, torch.iinfo(torch.int16).min + self._dropped, out=torch.empty_like(x))
        return x * kept.mul_(_LEVELS / (_LEVELS - self._dropped))

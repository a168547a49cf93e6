"""The mean of the events' vectors so far: what every other encoder has to beat (as in Covington et al. 2016)."""

from __future__ import annotations

import torch
from torch import Tensor

from behavior_lib.models.batch import Batch
from behavior_lib.models.causal import CausalEncoder


class RunningMean(CausalEncoder):
    """The mean over the window up to each event. It knows no order and has no weights but those of the input."""

    def states(self, x: Tensor, batch: Batch) -> Tensor:
        """Sums so far, by their number of events."""
        seen = torch.arange(1, batch.columns + 1, device=x.device)
        return x.cumsum(1) / seen[:, None]

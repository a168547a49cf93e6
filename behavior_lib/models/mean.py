"""The mean of the events' vectors so far: what every other encoder has to beat (as in Covington et al. 2016)."""

from __future__ import annotations

from torch import Tensor

from behavior_lib.models.batch import Batch
from behavior_lib.models.causal import CausalEncoder
from behavior_lib.models.pooling import running_mean


class RunningMean(CausalEncoder):
    """The mean over the window up to each event. It knows no order and has no weights but those of the input."""

    def states(self, x: Tensor, batch: Batch) -> Tensor:
        """Sums so far, by their number of events."""
        return running_mean(x)

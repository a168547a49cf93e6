"""A user's vector from which the history can be told again."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from behavior_lib.models.base import DONE, Drawn, ModelSpec
from behavior_lib.models.batch import Batch
from behavior_lib.models.lookup import lookup
from behavior_lib.models.objectives.base import Objective, Task
from behavior_lib.tables.items import FIRST_INDEX

TOLD = 32  # newest events that are told again
DIVERGENCE = 0.2  # its weight
ANNEALED = 0.2  # share of a run's steps in which the weight grows to it


class Reconstruction(Objective):
    """Sequence autoencoder (Srivastava, Mansimov and Salakhutdinov 2015, "Unsupervised learning of video
    representations using LSTMs"): an LSTM tells the newest items, the newest first.

    It begins in the user's vector and reads the items that it has told. Told backwards, what it needs first is what
    the encoder saw last.
    """

    def __init__(self, spec: ModelSpec, item_counts: Tensor) -> None:
        """See Objective."""
        super().__init__(spec, item_counts)
        self.begin = nn.Linear(spec.dimension, 2 * spec.dimension)
        self.decoder = nn.LSTM(spec.dimension, spec.dimension, batch_first=True)

    def vectors(self, task: Task) -> Tensor:
        """float32 [n, d]: what is told of each user."""
        return task.model.newest_states(task.batch)

    def forward(self, task: Task) -> Tensor:
        """The model's loss over the catalogue, the mean over the told events of known items."""
        return self.told(self.vectors(task), task)

    def told(self, vectors: Tensor, task: Task) -> Tensor:
        """The same from any vectors [n, d]."""
        batch = task.batch.newest(TOLD)
        position = (batch.length[:, None] - 1 - torch.arange(batch.columns, device=batch.length.device)).clamp(min=0)
        item = batch.item_index.gather(1, position) * batch.present
        read = lookup(F.pad(item, (1, 0))[:, :-1], task.model.item_vectors())
        hidden, cell = self.begin(vectors).tanh()[None].chunk(2, dim=2)
        states, _ = self.decoder(read, (hidden.contiguous(), cell.contiguous()))
        known = item >= FIRST_INDEX
        targets = item[known]
        return task.model.item_loss(states[known], torch.arange(len(targets), device=item.device), targets, task.drawn)


class Variational(Reconstruction):
    """Variational autoencoder (Kingma and Welling 2014; for sequences Bowman et al. 2016): the vector is drawn.

    The loss is the reconstruction and DIVERGENCE times the divergence from a standard normal distribution, per told
    event of a known item. The weight stays below 1, as in Liang et al. 2018, where 0.2 ranked best, and grows to it
    evenly from 0 over the first ANNEALED of the steps, as theirs does: else nothing is told by a vector that is drawn
    at random (Bowman et al. 2016, "KL cost annealing"). The user is served before `spread`, as by all objectives.
    """

    def __init__(self, spec: ModelSpec, item_counts: Tensor) -> None:
        """See Objective."""
        super().__init__(spec, item_counts)
        self.spread = nn.Linear(spec.dimension, 2 * spec.dimension)

    def draw(self, batch: Batch, generator: torch.Generator) -> Drawn:
        """noise: float32 [n, d]."""
        return {"noise": torch.randn((len(batch), self.spread.in_features), generator=generator)}

    def forward(self, task: Task) -> Tensor:
        """Reconstruction and divergence."""
        mean, log_variance = self.spread(self.vectors(task)).chunk(2, dim=1)
        drawn = mean + task.drawn["noise"] * (0.5 * log_variance).exp()
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
        n_told = (task.batch.newest(TOLD).item_index >= FIRST_INDEX).sum().clamp(min=1)
        weight = DIVERGENCE * (task.drawn[DONE] / ANNEALED).clamp(max=1.0) if DONE in task.drawn else DIVERGENCE
        loss: Tensor = self.told(drawn, task) + weight * divergence / n_told
        return loss

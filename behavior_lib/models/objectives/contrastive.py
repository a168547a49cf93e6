"""Two looks at one history lie close together, looks at different histories apart."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from behavior_lib.models.base import Drawn
from behavior_lib.models.batch import Batch
from behavior_lib.models.objectives.base import Objective, Task, uniform, whole_up_to
from behavior_lib.tables.items import MASK_INDEX

SHORTEST, LONGEST = 0.25, 0.75  # shares of a history that one of its pieces has
MARGIN, HARD_NEGATIVES = 0.5, 5
KEPT, MASKED, REORDERED = 0.6, 0.3, 0.6  # shares of a history: left by a crop, masked, reordered
TEMPERATURE = 0.1
TINY = 1e-12


class SubSequences(Objective):
    """CoLES (Babaev et al. 2022): random pieces of one user's history are alike, those of two users are not.

    Each row with two events or more gives two pieces of consecutive events. The loss is the contrastive one of Hadsell
    et al. 2006 on vectors of length 1: the mean squared distance of the pairs of one user, plus the mean over each
    piece's HARD_NEGATIVES nearest pieces of other users of max(0, MARGIN - distance)². A row does not say whose it is:
    where a history is longer than a row, two rows of one user count as two users.
    """

    compares_users = True

    def draw(self, batch: Batch, generator: torch.Generator) -> Drawn:
        """row, start, length: int64 [2 m], the pieces; the two of one row stand m apart."""
        row = (batch.length >= 2).nonzero().squeeze(1).repeat(2)
        events = batch.length[row]
        shortest = (events * SHORTEST).ceil().long()
        longest = torch.maximum((events * LONGEST).long(), shortest)
        length = shortest + whole_up_to(longest - shortest, generator)
        return {"row": row, "start": whole_up_to(events - length, generator), "length": length}

    def forward(self, task: Task) -> Tensor:
        """0 where fewer than two users have two events."""
        row, start, length = (task.drawn[name] for name in ("row", "start", "length"))
        if len(row) < 4:
            return task.nothing()
        column = start[:, None] + torch.arange(int(length.max()), device=start.device)
        pieces = task.batch.arrange(row, column, length)
        return contrastive_loss(task.model.newest_states(pieces), row)


def contrastive_loss(vectors: Tensor, owner: Tensor) -> Tensor:
    """See SubSequences. vectors: [m, d]. owner: int64 [m]; each owner has two vectors or more, and there are two."""
    unit = F.normalize(vectors, dim=1)
    squared = (2 - 2 * unit @ unit.T).clamp(min=TINY)
    same = owner[:, None] == owner
    pairs = same & ~torch.eye(len(owner), dtype=torch.bool, device=owner.device)
    apart = (MARGIN - squared.masked_fill(same, torch.inf).sqrt()).clamp(min=0).square()
    hardest = apart.topk(min(HARD_NEGATIVES, len(owner) - 1), dim=1).values
    n_others = (~same).sum(1).clamp(max=hardest.shape[1]).sum()
    return squared[pairs].mean() + hardest.sum() / n_others


class Augmentations(Objective):
    """CL4SRec (Xie et al. 2022): two random changes of one history are alike.

    A change is a crop (consecutive events stay), a mask (events lose their item) or a reordering of consecutive
    events. The loss is NT-Xent (Chen et al. 2020, SimCLR) with the other users' changes as negatives, users being rows
    as in SubSequences.
    """

    compares_users = True

    def draw(self, batch: Batch, generator: torch.Generator) -> Drawn:
        """Two changes of each row with an event, m apart: row, length: int64 [2 m]; column: int64 [2 m, L];
        masked: bool [2 m, L].
        """
        row = (batch.length > 0).nonzero().squeeze(1).repeat(2)
        events = batch.length[row]
        which = whole_up_to(torch.full_like(events, 2), generator)[:, None]
        position = torch.arange(batch.columns).expand(len(row), -1)
        kept = (events * KEPT).ceil().long()
        first = whole_up_to(events - kept, generator)[:, None]
        moved = (events * REORDERED).ceil().long()[:, None]
        begin = whole_up_to(events - moved[:, 0], generator)[:, None]
        inside = (position >= begin) & (position < begin + moved)
        # Sorting keys: outside the reordered stretch its own place, inside a random place of the stretch.
        key = torch.where(inside, begin + moved * uniform((len(row), batch.columns), generator), position.float())
        column = torch.where(which == 0, first + position, position)
        column = torch.where(which == 2, key.argsort(dim=1, stable=True), column)
        masked = (which == 1) & (uniform((len(row), batch.columns), generator) < MASKED)
        length = torch.where(which[:, 0] == 0, kept, events)
        return {"row": row, "column": column, "length": length, "masked": masked}

    def forward(self, task: Task) -> Tensor:
        """0 where fewer than two users have an event."""
        row, column, length, masked = (task.drawn[name] for name in ("row", "column", "length", "masked"))
        if len(row) < 4:
            return task.nothing()
        changed = task.batch.arrange(row, column.clamp(max=task.batch.columns - 1), length)
        item = changed.item_index.masked_fill(masked & changed.present, MASK_INDEX)
        first, second = task.model.newest_states(replace(changed, item_index=item)).chunk(2)
        return nt_xent(first, second, TEMPERATURE)


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of each vector's partner among all other vectors of both, by cosine. first, second: [m, d]."""
    unit = F.normalize(torch.cat([first, second]), dim=1)
    similar = (unit @ unit.T / temperature).fill_diagonal_(-torch.inf)
    partner = torch.arange(len(unit), device=unit.device).roll(len(first))
    return F.cross_entropy(similar, partner)

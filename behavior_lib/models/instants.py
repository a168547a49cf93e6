"""Events of one instant are a set, and so are those of one session: where they end, and what the next one holds.

A basket's events share one time, and their order in the table is a hash's. So a target is always an item of the *next*
instant, never a neighbour inside the same one, and it is predicted from an instant's end, when all of it was seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from behavior_lib.models.batch import Batch
from behavior_lib.tables.items import FIRST_INDEX


@dataclass(frozen=True)
class InstantEnds:
    """The last events of all instants that have a next instant in the same row; m of them, row by row.

    row, column: int64 [m], where the end is. start, end: int64 [m], the columns of the next instant, end excluded.
    Sessions are instants in which events lie further apart.
    """

    row: Tensor
    column: Tensor
    start: Tensor
    end: Tensor

    def __len__(self) -> int:
        return len(self.row)

    def select(self, selection: Tensor) -> InstantEnds:
        """The selected ends, in the selection's order."""
        return InstantEnds(self.row[selection], self.column[selection], self.start[selection], self.end[selection])

    def targets(self, item_index: Tensor) -> tuple[Tensor, Tensor]:
        """Every item of every next instant: int64 [t], which end it belongs to, and int64 [t], the item.

        item_index: int64 [n, L] of the batch in which the ends were found.
        """
        size = self.end - self.start
        owner = torch.arange(len(self), device=size.device).repeat_interleave(size)
        within = torch.arange(len(owner), device=size.device) - (size.cumsum(0) - size)[owner]
        return owner, item_index[self.row[owner], self.start[owner] + within]

    def known_targets(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """As targets, without events that name no known item, or no known type. index: int64 [n, L] of the batch."""
        owner, targets = self.targets(index)
        known = targets >= FIRST_INDEX
        return owner[known], targets[known]


def instant_numbers(batch: Batch, longest_gap: int = 0) -> Tensor:
    """int64 [n, L]: 0 for a row's first instant, rising by one with every gap above longest_gap; the padding has L."""
    later = batch.gap_seconds > longest_gap
    later[:, 0] = False
    return later.cumsum(1).masked_fill(~batch.present, batch.columns)


def instant_ends(batch: Batch, longest_gap: int = 0) -> InstantEnds:
    """Find them. longest_gap: seconds between two events of one instant, or of one session."""
    number = instant_numbers(batch, longest_gap)
    is_end = torch.zeros_like(batch.present)
    is_end[:, :-1] = (number[:, 1:] != number[:, :-1]) & batch.present[:, 1:]
    row, column = is_end.nonzero(as_tuple=True)
    # The next instant goes up to the next end, the last one of a row to the row's.
    end = batch.length[row]
    end[:-1] = torch.where(row[1:] == row[:-1], column[1:] + 1, end[:-1])
    return InstantEnds(row, column, column + 1, end)

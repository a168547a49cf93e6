"""What every encoder reads: histories as tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from behavior_lib.data.histories import Histories
from behavior_lib.tables.items import MASK_INDEX


@dataclass(frozen=True)
class Batch:
    """n histories of at most L events, oldest event first, right-padded with 0.

    item_index, event_type, gap_seconds: int64 [n, L]. value: float32 [n, L]. length: int64 [n], events of each row.
    gap_seconds is the time since the user's event before, 0 for a row's first event and within one instant.
    """

    item_index: Tensor
    event_type: Tensor
    gap_seconds: Tensor
    value: Tensor
    length: Tensor

    @classmethod
    def from_histories(cls, histories: Histories) -> Batch:
        """The same rows as tensors on the CPU."""
        return cls(
            torch.from_numpy(histories.item_index).long(),
            torch.from_numpy(histories.event_type).long(),
            torch.from_numpy(histories.gap_seconds).long(),
            torch.from_numpy(histories.value).float(),
            torch.from_numpy(histories.length).long(),
        )

    def __len__(self) -> int:
        return len(self.length)

    @property
    def columns(self) -> int:
        """L, the width of the arrays."""
        return self.item_index.shape[1]

    @property
    def present(self) -> Tensor:
        """bool [n, L]: True where there is an event, False in the padding."""
        return torch.arange(self.columns, device=self.length.device) < self.length[:, None]

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return Batch(
            self.item_index.to(device),
            self.event_type.to(device),
            self.gap_seconds.to(device),
            self.value.to(device),
            self.length.to(device),
        )

    def newest(self, columns: int) -> Batch:
        """Only the newest `columns` events of each row, and no column that is padding in every row.

        The gap before the oldest event that stays is 0, as it is for every first event.
        """
        columns = min(columns, max(int(self.length.max()) if len(self) else 0, 1))
        kept = self.length.clamp(max=columns)
        position = torch.arange(columns, device=self.length.device)
        present = position < kept[:, None]
        source = ((self.length - kept)[:, None] + position).clamp(max=self.columns - 1)

        def take(tensor: Tensor) -> Tensor:
            return tensor.gather(1, source) * present

        gap = take(self.gap_seconds) * (position > 0)
        return Batch(take(self.item_index), take(self.event_type), gap, take(self.value), kept)

    def rows(self, selection: Tensor) -> Batch:
        """The selected rows, in the selection's order; a row may be selected more than once."""
        return Batch(
            self.item_index[selection],
            self.event_type[selection],
            self.gap_seconds[selection],
            self.value[selection],
            self.length[selection],
        )

    def arrange(self, row: Tensor, column: Tensor, length: Tensor) -> Batch:
        """New rows of events of this batch: m rows of the events at `column` [m, C] of the rows `row` [m].

        length: int64 [m], how many of the columns count. Each event takes its gap along; a row's first has none.
        """
        position = torch.arange(column.shape[1], device=length.device)
        present = position < length[:, None]
        source = column.masked_fill(~present, 0)

        def take(tensor: Tensor) -> Tensor:
            return tensor[row[:, None], source] * present

        gap = take(self.gap_seconds) * (position > 0)
        return Batch(take(self.item_index), take(self.event_type), gap, take(self.value), length)

    def cut(self, length: Tensor) -> Batch:
        """The oldest `length` [n] events of each row."""
        present = torch.arange(self.columns, device=length.device) < length[:, None]
        item, kind, gap = self.item_index * present, self.event_type * present, self.gap_seconds * present
        return Batch(item, kind, gap, self.value * present, length)

    def with_hidden_next(self) -> Batch:
        """Each row with one event more: hidden, with MASK_INDEX for item and type, in an instant after the newest."""
        end = self.length[:, None]

        def add(tensor: Tensor, value: int) -> Tensor:
            return F.pad(tensor, (0, 1)).scatter(1, end, value)

        gap = F.pad(self.gap_seconds, (0, 1)).scatter(1, end, (end > 0).long())
        item, kind = add(self.item_index, MASK_INDEX), add(self.event_type, MASK_INDEX)
        return Batch(item, kind, gap, add(self.value, 0), self.length + 1)

    def windows(self, columns: int) -> tuple[Batch, Tensor]:
        """Every row cut into pieces of `columns` events, oldest first, without the pieces that are padding alone.

        Where the rows are shorter than that they are pieces as they are: nothing is padded that need not be.
        Returns the pieces, and int64 [pieces], where each stands: row * pieces a row + piece.
        """
        columns = min(columns, self.columns)
        pieces = -(-self.columns // columns)

        def fold(tensor: Tensor) -> Tensor:
            return F.pad(tensor, (0, pieces * columns - self.columns)).view(-1, columns)

        first = torch.arange(pieces, device=self.length.device) * columns
        length = (self.length[:, None] - first).clamp(0, columns).flatten()
        gap = fold(self.gap_seconds).clone()
        gap[:, 0] = 0
        kept = length.nonzero().squeeze(1)
        whole = Batch(fold(self.item_index), fold(self.event_type), gap, fold(self.value), length)
        return whole.rows(kept), kept

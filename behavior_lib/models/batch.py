"""What every encoder reads: histories as tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from behavior_lib.data.histories import Histories
from behavior_lib.tables.items import MASK_INDEX

HOURS_OF_WEEK = 168
_HOUR = 3600  # seconds
_FIRST_HOUR = 72  # of 1970, a Thursday, counted from Monday's first


@dataclass(frozen=True)
class Batch:
    """n histories of at most L events, oldest event first, right-padded with 0.

    item_index, event_type, gap_seconds, hour_of_week: int64 [n, L]. value: float32 [n, L]. length: int64 [n], events of
    each row. gap_seconds is the time since the user's event before, 0 for a row's first event and within one instant.
    hour_of_week is 1 for Monday's first hour to 168 for Sunday's last, in UTC, and 0 where the time is not known.
    """

    item_index: Tensor
    event_type: Tensor
    gap_seconds: Tensor
    value: Tensor
    hour_of_week: Tensor
    length: Tensor

    @classmethod
    def from_histories(cls, histories: Histories) -> Batch:
        """The same rows as tensors on the CPU."""
        gap, length = torch.from_numpy(histories.gap_seconds).long(), torch.from_numpy(histories.length).long()
        return cls(
            torch.from_numpy(histories.item_index).long(),
            torch.from_numpy(histories.event_type).long(),
            gap,
            torch.from_numpy(histories.value).float().contiguous(),
            _hours_of_week(histories.first_event_time, gap) * _present(gap.shape[1], length),
            length,
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
        return _present(self.columns, self.length)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return self._map(lambda events: events.to(device), self.length.to(device))

    def newest(self, columns: int) -> Batch:
        """Only the newest `columns` events of each row, and no column that is padding in every row.

        The gap before the oldest event that stays is 0, as it is for every first event.
        """
        columns = min(columns, max(int(self.length.max()) if len(self) else 0, 1))
        kept = self.length.clamp(max=columns)
        present = _present(columns, kept)
        position = torch.arange(columns, device=self.length.device)
        source = ((self.length - kept)[:, None] + position).clamp(max=self.columns - 1)
        return self._map(lambda events: events.gather(1, source) * present, kept)._as_first()

    def rows(self, selection: Tensor) -> Batch:
        """The selected rows, in the selection's order; a row may be selected more than once."""
        return self._map(lambda events: events[selection], self.length[selection])

    def arrange(self, row: Tensor, column: Tensor, length: Tensor) -> Batch:
        """New rows of events of this batch: m rows of the events at `column` [m, C] of the rows `row` [m].

        length: int64 [m], how many of the columns count. Each event takes its gap and its hour along; a row's first has
        no gap.
        """
        present = _present(column.shape[1], length)
        source = column.masked_fill(~present, 0)
        return self._map(lambda events: events[row[:, None], source] * present, length)._as_first()

    def cut(self, length: Tensor) -> Batch:
        """The oldest `length` [n] events of each row."""
        present = _present(self.columns, length)
        return self._map(lambda events: events * present, length)

    def with_hidden_next(self) -> Batch:
        """Each row with one event more: hidden, with MASK_INDEX for item and type, in an instant after the newest.

        Nothing else is known of it, its hour neither.
        """
        end = self.length[:, None]
        longer = self._map(lambda events: F.pad(events, (0, 1)).scatter(1, end, 0), self.length + 1)
        return replace(
            longer,
            item_index=longer.item_index.scatter(1, end, MASK_INDEX),
            event_type=longer.event_type.scatter(1, end, MASK_INDEX),
            gap_seconds=longer.gap_seconds.scatter(1, end, (end > 0).long()),
        )

    def windows(self, columns: int) -> tuple[Batch, Tensor]:
        """Every row cut into pieces of `columns` events, oldest first, without the pieces that are padding alone.

        Where the rows are shorter than that they are pieces as they are: nothing is padded that need not be.
        Returns the pieces, and int64 [pieces], where each stands: row * pieces a row + piece.
        """
        if self.columns <= columns and bool((self.length > 0).all()):
            return self._as_first(), torch.arange(len(self), device=self.length.device)
        columns = min(columns, self.columns)
        pieces = -(-self.columns // columns)

        def fold(events: Tensor) -> Tensor:
            return F.pad(events, (0, pieces * columns - self.columns)).view(-1, columns)

        first = torch.arange(pieces, device=self.length.device) * columns
        length = (self.length[:, None] - first).clamp(0, columns).flatten()
        kept = length.nonzero().squeeze(1)
        return self._map(fold, length).rows(kept)._as_first(), kept

    def _map(self, change: Callable[[Tensor], Tensor], length: Tensor) -> Batch:
        """Every array of events [n, L] changed in one way. length: int64, events of each row afterwards."""
        arrays = {name: change(events) for name, events in vars(self).items() if name != "length"}
        return Batch(**arrays, length=length)

    def _as_first(self) -> Batch:
        """The same without a gap before the first event of each row."""
        first = torch.arange(self.columns, device=self.length.device) == 0
        return replace(self, gap_seconds=self.gap_seconds.masked_fill(first, 0))


def _present(columns: int, length: Tensor) -> Tensor:
    """bool [n, columns]: True for the first `length` [n] of each row."""
    return torch.arange(columns, device=length.device) < length[:, None]


def _hours_of_week(first: NDArray[np.datetime64], gap: Tensor) -> Tensor:
    """int64 [n, L]: of the events whose first was then, and which have these gaps [n, L] between them."""
    second = torch.from_numpy(first.astype(np.int64))[:, None] + gap.cumsum(1) - gap[:, :1]
    is_known = torch.from_numpy(~np.isnat(first))[:, None]
    return ((second // _HOUR + _FIRST_HOUR) % HOURS_OF_WEEK + 1) * is_known

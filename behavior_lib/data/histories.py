"""Users' histories as arrays: what every encoder reads, in training and in serving alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Histories:
    """n histories, oldest event first, right-padded with 0 to L.

    item_index, event_type, gap_seconds: int32 [n, L]. value: float32 [n, L]. length: int32 [n], events of each row.
    gap_seconds is the time since the user's event before, 0 for a chunk's first event and within one instant.
    """

    item_index: NDArray[np.int32]
    event_type: NDArray[np.int32]
    gap_seconds: NDArray[np.int32]
    value: NDArray[np.float32]
    length: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.length)

    def rows(self, selection: slice | NDArray[np.int64], columns: slice = slice(None)) -> Histories:
        """The selected rows, in the selection's order. columns: must hold all that is not padding."""
        return Histories(
            self.item_index[selection, columns],
            self.event_type[selection, columns],
            self.gap_seconds[selection, columns],
            self.value[selection, columns],
            self.length[selection],
        )

    def without_padding(self, selection: NDArray[np.int64]) -> Histories:
        """The selected rows, as wide as the longest of them; width 1 where all are empty."""
        return self.rows(selection, slice(max(int(self.length[selection].max(initial=0)), 1)))

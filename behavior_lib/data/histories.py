"""Users' histories as arrays: what every encoder reads, in training and in serving alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


def unknown_times(n: int) -> NDArray[np.datetime64]:
    """first_event_time of n histories without times."""
    return np.full(n, "NaT", "datetime64[s]")


@dataclass(frozen=True)
class Histories:
    """n histories, oldest event first, right-padded with 0 to L.

    item_index, event_type, gap_seconds: int32 [n, L]. value: float32 [n, L]. length: int32 [n], events of each row.
    gap_seconds is the time since the user's event before, of times rounded down to whole seconds: 0 within one second,
    which is an instant to a model, and where times are not known. first_event_time: datetime64[s] [n], UTC, when each
    row's first event was, so that with the gaps behind it every event's time is known; NaT where it is not.
    """

    item_index: NDArray[np.int32]
    event_type: NDArray[np.int32]
    gap_seconds: NDArray[np.int32]
    value: NDArray[np.float32]
    length: NDArray[np.int32]
    first_event_time: NDArray[np.datetime64]

    @classmethod
    def concatenate(cls, parts: Sequence[Histories]) -> Histories:
        """All rows, part after part; at least one part, and all equally wide."""
        return cls(**{name: np.concatenate([vars(part)[name] for part in parts]) for name in vars(parts[0])})

    def __len__(self) -> int:
        return len(self.length)

    def rows(self, selection: slice | NDArray[np.int64], columns: slice = slice(None)) -> Histories:
        """The selected rows, in the selection's order. columns: from the first on, all that is not padding."""
        return Histories(
            self.item_index[selection, columns],
            self.event_type[selection, columns],
            self.gap_seconds[selection, columns],
            self.value[selection, columns],
            self.length[selection],
            self.first_event_time[selection],
        )

    def without_padding(self, selection: NDArray[np.int64]) -> Histories:
        """The selected rows, as wide as the longest of them; width 1 where all are empty."""
        return self.rows(selection, slice(max(int(self.length[selection].max(initial=0)), 1)))

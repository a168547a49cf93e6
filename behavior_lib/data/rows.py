"""Rows of the sequences table as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from behavior_lib.data.histories import Histories, unknown_times
from behavior_lib.errors import DataRefused
from behavior_lib.tables import SEQUENCES

HISTORY = (
    SEQUENCES.item_index,
    SEQUENCES.event_type,
    SEQUENCES.gap_seconds,
    SEQUENCES.value,
    SEQUENCES.length,
    SEQUENCES.first_event_time,
)


@dataclass(frozen=True)
class Rows:
    """Histories and, beside each, the distinct items of the user's next session: int32 [n, T], right-padded with 0.

    T is 0 where no target was read.
    """

    histories: Histories
    target_index: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.histories)

    def select(self, selection: slice | NDArray[np.int64]) -> Rows:
        """The selected rows, in the selection's order."""
        return Rows(self.histories.rows(selection), self.target_index[selection])

    @staticmethod
    def concatenate(parts: Sequence[Rows]) -> Rows:
        """All rows, part after part; at least one part."""
        if len(parts) == 1:
            return parts[0]
        return Rows(
            Histories.concatenate([part.histories for part in parts]),
            np.concatenate([part.target_index for part in parts]),
        )

    @classmethod
    def of(cls, table: pa.Table, where: str) -> Rows:
        """The rows of an Arrow table of SEQUENCES columns; where: what an error names.

        Raises DataRefused for null or ragged arrays. No array of whole width is copied.
        """
        length = np.asarray(table.column(SEQUENCES.length).to_numpy(), np.int32)
        targets = np.zeros((len(length), 0), np.int32)
        if SEQUENCES.target_index in table.column_names:
            targets = _matrix(table, SEQUENCES.target_index, np.int32, where)
        histories = Histories(
            _matrix(table, SEQUENCES.item_index, np.int32, where),
            _matrix(table, SEQUENCES.event_type, np.int32, where),
            _matrix(table, SEQUENCES.gap_seconds, np.int32, where),
            _matrix(table, SEQUENCES.value, np.float32, where),
            length,
            first_times(table),
        )
        return cls(histories, targets)


def first_times(table: pa.Table) -> NDArray[np.datetime64]:
    """datetime64[s], UTC: first_event_time of an Arrow table's rows; NaT where it is null, or the table without it."""
    if SEQUENCES.first_event_time not in table.column_names:
        return unknown_times(len(table))
    return np.asarray(table.column(SEQUENCES.first_event_time).to_numpy(), "datetime64[s]")


def _matrix(table: pa.Table, name: str, kind: type[np.generic], where: str) -> NDArray[Any]:
    column = table.column(name)
    lists = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    width = np.diff(lists.offsets.to_numpy())
    if lists.null_count or (len(width) and (width != width[0]).any()):
        mend = "run build_sequences again"
        raise DataRefused(f"arrays of {name} are null or of unequal length", where=where, mend=mend)
    flat = lists.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, kind).reshape(len(lists), width[0] if len(width) else 0)

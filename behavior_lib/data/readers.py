"""Two readers behind one door: petastorm, and plain pyarrow for runtimes where petastorm cannot run.

Both yield the row groups of a list of files in the list's order, with equal arrays.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from behavior_lib.data.histories import Histories
from behavior_lib.data.snapshot import DataFile
from behavior_lib.errors import DataRefused, EnvironmentProblem
from behavior_lib.tables import SEQUENCES

_ARRAYS = (SEQUENCES.item_index, SEQUENCES.event_type, SEQUENCES.gap_seconds, SEQUENCES.value, SEQUENCES.target_index)
_COLUMNS = (*_ARRAYS, SEQUENCES.length)


@dataclass(frozen=True)
class Rows:
    """Histories and, beside each, the distinct items of the user's next session: int32 [n, T], right-padded with 0."""

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

        def joined(pick: Callable[[Rows], Any]) -> Any:
            return np.concatenate([pick(part) for part in parts])

        return Rows(
            Histories(
                joined(lambda part: part.histories.item_index),
                joined(lambda part: part.histories.event_type),
                joined(lambda part: part.histories.gap_seconds),
                joined(lambda part: part.histories.value),
                joined(lambda part: part.histories.length),
            ),
            joined(lambda part: part.target_index),
        )


Reader = Callable[[Sequence[DataFile]], Iterator[Rows]]


def read_with_pyarrow(files: Sequence[DataFile]) -> Iterator[Rows]:
    """Row groups by pyarrow alone. Raises DataRefused for null or ragged arrays."""
    for file in files:
        parquet = pq.ParquetFile(file.path)
        for number in range(parquet.num_row_groups):
            table = parquet.read_row_group(number, columns=list(_COLUMNS))
            arrays = {name: _matrix(table.column(name).combine_chunks(), name, file.path) for name in _ARRAYS}
            yield _rows({**arrays, SEQUENCES.length: table.column(SEQUENCES.length).to_numpy()})


def read_with_petastorm(files: Sequence[DataFile]) -> Iterator[Rows]:
    """Row groups by petastorm: one reader an epoch, on the calling thread, which is what keeps the order and the rows.

    Raises EnvironmentProblem where petastorm is not installed, DataRefused where rows went missing.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from petastorm import make_batch_reader
        except ImportError:
            mend = "pip install petastorm==0.12.1, or --set train.reader=pyarrow"
            raise EnvironmentProblem("petastorm is not installed", mend=mend) from None
        # petastorm takes a percent sign as it stands, so a path is not quoted on its way into a URL.
        urls = [file.path if "://" in file.path else f"file://{Path(file.path).absolute()}" for file in files]
        read = 0
        with make_batch_reader(
            urls, schema_fields=list(_COLUMNS), reader_pool_type="dummy", shuffle_row_groups=False, num_epochs=1
        ) as reader:
            for group in reader:
                read += len(group.length)
                yield _rows(group._asdict())
    expected = sum(file.rows for file in files)
    if read != expected:
        raise DataRefused(f"petastorm read {read} rows", where="sequences", mend=f"the log says {expected}")


READERS: dict[str, Reader] = {"petastorm": read_with_petastorm, "pyarrow": read_with_pyarrow}


def _matrix(column: pa.ListArray, name: str, path: str) -> NDArray[Any]:
    flat = column.flatten().to_numpy()
    offsets = column.offsets.to_numpy()
    widths = np.diff(offsets)
    if column.null_count or len(np.unique(widths)) > 1:
        mend = "run build_sequences again"
        raise DataRefused(f"arrays of {name} are null or of unequal length", where=path, mend=mend)
    matrix: NDArray[Any] = flat.reshape(len(column), -1)
    return matrix


def _rows(arrays: dict[str, Any]) -> Rows:
    def of(name: str, kind: type[np.generic]) -> Any:
        return np.ascontiguousarray(arrays[name], dtype=kind)

    return Rows(
        Histories(
            of(SEQUENCES.item_index, np.int32),
            of(SEQUENCES.event_type, np.int32),
            of(SEQUENCES.gap_seconds, np.int32),
            of(SEQUENCES.value, np.float32),
            of(SEQUENCES.length, np.int32),
        ),
        of(SEQUENCES.target_index, np.int32),
    )

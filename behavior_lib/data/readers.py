"""Two readers behind one door: petastorm, and plain pyarrow for runtimes where petastorm cannot run.

Both yield the rows of the given row groups, one group after the other in the given order, with equal arrays. The groups
of a file must follow one another, in the order in which they lie in it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import pyarrow as pa

from behavior_lib.data.files import open_parquet
from behavior_lib.data.order import RowGroup
from behavior_lib.data.rows import Rows
from behavior_lib.errors import DataRefused, EnvironmentProblem

Reader = Callable[[Sequence[RowGroup], Sequence[str]], Iterator[Rows]]


def read_with_pyarrow(groups: Sequence[RowGroup], columns: Sequence[str]) -> Iterator[Rows]:
    """Row groups by pyarrow alone. Raises DataRefused for null or ragged arrays."""
    for path, own in groupby(groups, key=lambda group: group.file.path):
        parquet = open_parquet(path)
        for group in own:
            yield _rows(group, parquet.read_row_group(group.number, columns=list(columns)))


def read_with_petastorm(groups: Sequence[RowGroup], columns: Sequence[str]) -> Iterator[Rows]:
    """Row groups by petastorm: one reader for all, on the calling thread, which is what keeps the order and the rows.

    Raises EnvironmentProblem where petastorm is not installed, DataRefused where rows went missing and for null or
    ragged arrays.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from behavior_lib.data.petastorm_tables import tables_of
        except ImportError:
            mend = "pip install petastorm==0.12.1, or --set train.reader=pyarrow"
            raise EnvironmentProblem("petastorm is not installed", mend=mend) from None
        with tables_of(groups, columns) as reader:
            tables = iter(reader)
            for group in groups:
                yield _rows(group, next(tables, None))


def _rows(group: RowGroup, table: pa.Table | None) -> Rows:
    where, found = f"row group {group.number} of {group.file.path}", 0 if table is None else table.num_rows
    if table is None or found != group.rows:
        raise DataRefused("rows went missing", where=where, value=found, mend=f"its file says {group.rows}")
    return Rows.of(table, group.file.path)


READERS: dict[str, Reader] = {"petastorm": read_with_petastorm, "pyarrow": read_with_pyarrow}

"""Two readers behind one door: petastorm, and plain pyarrow for runtimes where petastorm cannot run.

Both yield the rows of the given row groups, one group after the other in the given order, with equal arrays. The groups
of a file must follow one another, in the order in which they lie in it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from fsspec import AbstractFileSystem

from behavior_lib.data.files import open_parquet
from behavior_lib.data.order import RowGroup
from behavior_lib.data.rows import Rows
from behavior_lib.errors import DataRefused, EnvironmentProblem

Reader = Callable[[Sequence[RowGroup], Sequence[str]], Iterator[Rows]]


def read_with_pyarrow(groups: Sequence[RowGroup], columns: Sequence[str]) -> Iterator[Rows]:
    """Row groups by pyarrow alone. Raises DataRefused for null or ragged arrays."""
    opened: tuple[str, pq.ParquetFile] | None = None
    for group in groups:
        path = group.file.path
        if opened is None or opened[0] != path:
            opened = (path, open_parquet(path))
        yield Rows.of(opened[1].read_row_group(group.number, columns=list(columns)), path)


def read_with_petastorm(groups: Sequence[RowGroup], columns: Sequence[str]) -> Iterator[Rows]:
    """Row groups by petastorm: one reader for all, on the calling thread, which is what keeps the order and the rows.

    Raises EnvironmentProblem where petastorm is not installed, DataRefused where rows went missing and for null or
    ragged arrays.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with _petastorm_reader(groups, columns) as reader:
            read = 0
            for group, table in zip(groups, reader, strict=False):
                read += table.num_rows
                yield Rows.of(table, group.file.path)
    expected = sum(group.rows for group in groups)
    if read != expected:
        raise DataRefused(f"petastorm read {read} rows", where="sequences", mend=f"the log says {expected}")


def _petastorm_reader(groups: Sequence[RowGroup], columns: Sequence[str]) -> Any:
    """petastorm's reader of these row groups, which hands on Arrow tables.

    Its own hands on arrays and makes a Python object of each row on the way, which takes longer than the reading
    (docs/benchmarks.md); and it reads all row groups of a file.
    """
    try:
        from petastorm.arrow_reader_worker import ArrowReaderWorker
        from petastorm.fs_utils import get_filesystem_and_path_or_paths
        from petastorm.reader import Reader as PetastormReader
        from petastorm.workers_pool import EmptyResultError
        from petastorm.workers_pool.dummy_pool import DummyPool
        from pyarrow.filesystem import S3FSWrapper
    except ImportError:
        mend = "pip install petastorm==0.12.1, or --set train.reader=pyarrow"
        raise EnvironmentProblem("petastorm is not installed", mend=mend) from None
    paths = list(dict.fromkeys(group.file.path for group in groups))
    # petastorm takes a percent sign as it stands, so a path is not quoted on its way into a URL.
    urls = [path if "://" in path else f"file://{Path(path).absolute()}" for path in paths]
    filesystem, names = get_filesystem_and_path_or_paths(urls)
    if isinstance(filesystem, AbstractFileSystem):
        # petastorm needs pyarrow's old datasets, which take no fsspec file system as it is; the wrapper's name
        # notwithstanding, it asks for nothing that is S3's alone.
        filesystem = S3FSWrapper(filesystem)
    name_of = dict(zip(paths, names, strict=True))
    wanted = {(name_of[group.file.path], group.number) for group in groups}

    class Tables:
        batched_output = True

        def read_next(self, pool: Any, schema: object, ngram: object) -> Any:
            try:
                return pool.get_results()
            except EmptyResultError:
                raise StopIteration from None

    class Worker(ArrowReaderWorker):  # type: ignore[misc]
        @staticmethod
        def new_results_queue_reader() -> Tables:
            return Tables()

        def process(self, piece_index: int, *others: Any, **named: Any) -> None:
            piece = self._split_pieces[piece_index]
            if (piece.path, piece.row_group) in wanted:
                super().process(piece_index, *others, **named)

    pool = DummyPool()
    # So many row groups are handed to the pool ahead. With its own three it often finds none, and sleeps 0.1 s.
    pool.workers_count = sum(len(file.groups) for file in {group.file for group in groups})
    return PetastormReader(
        filesystem,
        names,
        schema_fields=[f"^{column}$" for column in columns],
        worker_class=Worker,
        reader_pool=pool,
        shuffle_row_groups=False,
        is_batched_reader=True,
    )


READERS: dict[str, Reader] = {"petastorm": read_with_petastorm, "pyarrow": read_with_pyarrow}

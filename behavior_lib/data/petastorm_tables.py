"""petastorm, taught to read the row groups that it is told and to hand on their Arrow tables.

Its own reader hands on arrays and makes a Python object of each row on the way (a quarter more CPU seconds than here:
docs/benchmarks.md), and reads all row groups of a file. Imported only where petastorm is to read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from fsspec import AbstractFileSystem
from petastorm.arrow_reader_worker import ArrowReaderWorker
from petastorm.fs_utils import get_filesystem_and_path_or_paths
from petastorm.reader import Reader
from petastorm.workers_pool import EmptyResultError
from petastorm.workers_pool.dummy_pool import DummyPool
from pyarrow.filesystem import S3FSWrapper

from behavior_lib.data.order import RowGroup


class _Tables:
    """The reader's end of the pool."""

    batched_output = True

    def read_next(self, pool: Any, schema: object, ngram: object) -> Any:
        try:
            return pool.get_results()
        except EmptyResultError:
            raise StopIteration from None


class _Worker(ArrowReaderWorker):  # type: ignore[misc]
    """wanted: path, as petastorm names it, and number of the row groups to read; others are passed over."""

    wanted: ClassVar[frozenset[tuple[str, int]]] = frozenset()

    @staticmethod
    def new_results_queue_reader() -> _Tables:
        return _Tables()

    def process(self, piece_index: int, *others: Any, **named: Any) -> None:
        piece = self._split_pieces[piece_index]
        if (piece.path, piece.row_group) in self.wanted:
            super().process(piece_index, *others, **named)


def tables_of(groups: Sequence[RowGroup], columns: Sequence[str]) -> Reader:
    """A reader of these row groups, in their order, on the thread that iterates. The groups of a file lie together."""
    paths = list(dict.fromkeys(group.file.path for group in groups))
    # petastorm takes a percent sign as it stands, so a path is not quoted on its way into a URL.
    urls = [path if "://" in path else f"file://{Path(path).absolute()}" for path in paths]
    filesystem, names = get_filesystem_and_path_or_paths(urls)
    if isinstance(filesystem, AbstractFileSystem):
        # petastorm needs pyarrow's old datasets, which take no fsspec file system as it is; the wrapper's name
        # notwithstanding, it asks for nothing that is S3's alone.
        filesystem = S3FSWrapper(filesystem)
    name_of = dict(zip(paths, names, strict=True))
    wanted = frozenset((name_of[group.file.path], group.number) for group in groups)
    pool = DummyPool()
    # So many row groups are handed to the pool ahead. With its own three it often finds none, and sleeps 0.1 s.
    pool.workers_count = sum(len(file.groups) for file in {group.file for group in groups})
    return Reader(
        filesystem,
        names,
        schema_fields=[f"^{column}$" for column in columns],
        worker_class=type("Worker", (_Worker,), {"wanted": wanted}),
        reader_pool=pool,
        shuffle_row_groups=False,
        is_batched_reader=True,
    )

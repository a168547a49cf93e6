"""Batches in an order that (seed, epoch, rank) decide, whichever reader is behind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from behavior_lib.data.readers import READERS, Rows
from behavior_lib.data.snapshot import DataFile, Snapshot, shard


@dataclass(frozen=True)
class Loader:
    """The rows of one split as batches, for one rank of `size`.

    Each epoch the ranks together see every row exactly once: files are ordered by (seed, epoch) and dealt out, rows are
    permuted inside their row group by (seed, epoch, rank, group), and the rows that a row group leaves over begin the
    next batch. At most one row group and one batch are held. `reader`: petastorm or pyarrow; both give equal batches.
    """

    snapshot: Snapshot
    split: str
    batch_size: int
    reader: str
    seed: int = 0
    rank: int = 0
    size: int = 1

    def epoch(self, number: int) -> Iterator[Rows]:
        """Shuffled batches of one epoch; only the last may be short. Raises ConfigError for fewer files than ranks."""
        return self._batches(self._files(number), number)

    def batches_in(self, number: int) -> int:
        """How many batches `epoch` yields on this rank: ranks may differ by some."""
        return -(-sum(file.rows for file in self._files(number)) // self.batch_size)

    def in_order(self) -> Iterator[Rows]:
        """Batches in the order of the files, never shuffled; every size-th of them, beginning with this rank's own."""
        files = self.snapshot.files.get(self.split, ())
        for number, rows in enumerate(self._batches(files, None)):
            if number % self.size == self.rank:
                yield rows

    def _files(self, epoch: int) -> tuple[DataFile, ...]:
        files = self.snapshot.files.get(self.split, ())
        order = np.random.default_rng((self.seed, epoch)).permutation(len(files))
        return shard(tuple(files[number] for number in order), self.rank, self.size)

    def _batches(self, files: tuple[DataFile, ...], epoch: int | None) -> Iterator[Rows]:
        left_over: list[Rows] = []
        for group, rows in enumerate(READERS[self.reader](files)):
            if epoch is not None:
                rows = rows.select(np.random.default_rng((self.seed, epoch, self.rank, group)).permutation(len(rows)))
            rows = Rows.concatenate([*left_over, rows])
            whole = len(rows) // self.batch_size * self.batch_size
            for start in range(0, whole, self.batch_size):
                yield rows.select(slice(start, start + self.batch_size))
            left_over = [rows.select(slice(whole, None))] if whole < len(rows) else []
        yield from left_over

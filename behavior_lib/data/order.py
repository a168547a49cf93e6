"""Which rows make which batch of an epoch: decided by (seed, epoch), whatever reads them and on how many ranks.

An epoch is one list of batches. A rank reads a stretch of the list, so that every row comes exactly once an epoch at
any number of ranks, and a place in the list is all that has to be known to go on from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from behavior_lib.data.snapshot import DataFile

MIXED_BATCHES = 64  # so many batches' rows lie in memory and are mixed


@dataclass(frozen=True)
class RowGroup:
    """One row group of a file: what is read at once."""

    file: DataFile
    number: int

    @property
    def rows(self) -> int:
        """As its file's footer says."""
        return self.file.groups[self.number]


@dataclass(frozen=True)
class Pool:
    """Neighbouring row groups whose rows are mixed. number: its place among the epoch's; first: its first batch."""

    number: int
    groups: tuple[RowGroup, ...]
    first: int
    batches: int

    @property
    def rows(self) -> int:
        """Of all its groups."""
        return sum(group.rows for group in self.groups)


def pools(files: Sequence[DataFile], batch_size: int, at_least: int = 1) -> tuple[Pool, ...]:
    """The row groups of the files in their order, gathered until a pool has rows for `at_least` batches.

    The last batch of a pool may be short. No pool is without rows.
    """
    made: list[Pool] = []
    gathered: list[RowGroup] = []
    groups = [RowGroup(file, number) for file in files for number, rows in enumerate(file.groups) if rows]
    for place, group in enumerate(groups, 1):
        gathered.append(group)
        rows = sum(each.rows for each in gathered)
        if rows >= at_least * batch_size or place == len(groups):
            first = made[-1].first + made[-1].batches if made else 0
            made.append(Pool(len(made), tuple(gathered), first, -(-rows // batch_size)))
            gathered = []
    return tuple(made)


def shuffled(files: Sequence[DataFile], seed: int, epoch: int) -> tuple[DataFile, ...]:
    """The files in the order of (seed, epoch)."""
    return tuple(files[place] for place in np.random.default_rng((seed, epoch)).permutation(len(files)))


@dataclass(frozen=True)
class Reading:
    """How far `size` ranks together read a list of batches: `each` of them from the head of every rank's stretch."""

    size: int
    each: int


def stretch(batches: int, rank: int, size: int) -> slice:
    """The batches of one rank: the list cut into `size` stretches that differ by one batch at most."""
    return slice(batches * rank // size, batches * (rank + 1) // size)


def unread(batches: int, readings: Sequence[Reading]) -> NDArray[np.int64]:
    """The batches, ascending, that are left of the list 0 … batches - 1 after groups of ranks read it, one by one.

    Each group cut what was left for it into stretches of its own: ranks that are lost leave no batch out.
    """
    left = np.arange(batches)
    for reading in readings:
        parts = [left[stretch(len(left), rank, reading.size)][reading.each :] for rank in range(reading.size)]
        left = np.concatenate(parts)
    return left


def in_order(rows: int, batch_size: int) -> list[NDArray[np.int64]]:
    """The rows of a pool as batches in the order in which they lie."""
    return np.split(np.arange(rows), range(batch_size, rows, batch_size))

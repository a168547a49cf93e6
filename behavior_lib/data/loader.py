"""Batches in an order that (seed, epoch) decide, whichever reader is behind and however many ranks read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from behavior_lib.data.histories import Histories
from behavior_lib.data.mixing import mixed
from behavior_lib.data.order import (
    MIXED_BATCHES,
    Pool,
    Reading,
    in_order,
    pools,
    shuffled,
    stretch,
    unread,
)
from behavior_lib.data.prefetch import Prefetch
from behavior_lib.data.readers import READERS
from behavior_lib.data.rows import HISTORY, Rows
from behavior_lib.data.snapshot import Snapshot
from behavior_lib.tables import SEQUENCES

GROUPS_AHEAD = 1


@dataclass(frozen=True)
class NumberedHistories:
    """A batch of histories, as wide as the longest of them, and its place in the epoch's list of batches."""

    number: int
    histories: Histories


@dataclass(frozen=True)
class Loader:
    """The rows of one split as batches, for one rank of `size`.

    Each epoch the ranks together see every row exactly once: the epoch is one list of batches, and a rank reads its
    stretch of it. Rows are mixed within pools of neighbouring row groups and share a batch with rows of like length;
    a pool's last batch may be short. The next row groups are read while batches are taken. Held at once: one pool
    (MIXED_BATCHES batches and less than a row group), while it is put together two, and GROUPS_AHEAD + 1 row groups.
    `reader`: petastorm or pyarrow; both give equal batches.
    """

    snapshot: Snapshot
    split: str
    batch_size: int
    reader: str
    seed: int = 0
    rank: int = 0
    size: int = 1

    def epoch(self, number: int, start: int = 0, earlier: Sequence[Reading] = ()) -> Iterator[NumberedHistories]:
        """The rank's batches of one epoch, without the first `start` of them.

        earlier: what groups of other sizes read of the epoch before; the ranks share what they left.
        """
        epoch = self._pools(number)
        own = self._own(unread(_batches(epoch), earlier))[start:]
        wanted = frozenset(own.tolist())

        for pool, rows in self._read(epoch, own, HISTORY):
            random = np.random.default_rng((self.seed, number, pool.number))
            batches = mixed(rows.histories, self.batch_size, random)
            del rows  # the batches hold what is not padding
            for place, batch in enumerate(batches, pool.first):
                if place in wanted:
                    yield NumberedHistories(place, batch)
            del batches  # before the next pool is put together

    def steps_in(self, number: int, earlier: Sequence[Reading] = ()) -> int:
        """How many batches the rank with most of them has in an epoch; the others have so many or one fewer."""
        return -(-len(unread(_batches(self._pools(number)), earlier)) // self.size)

    def in_order(self) -> Iterator[Rows]:
        """The rank's share of the rows, targets with them, in the order of the files; never mixed."""
        everything = pools(self.snapshot.files.get(self.split, ()), self.batch_size)
        own = self._own(unread(_batches(everything), ()))
        wanted = frozenset(own.tolist())
        for pool, rows in self._read(everything, own, (*HISTORY, SEQUENCES.target_index)):
            for place, selection in enumerate(in_order(len(rows), self.batch_size), pool.first):
                if place in wanted:
                    yield rows.select(selection)

    def _own(self, batches: NDArray[np.int64]) -> NDArray[np.int64]:
        return batches[stretch(len(batches), self.rank, self.size)]

    def _pools(self, epoch: int) -> tuple[Pool, ...]:
        files = shuffled(self.snapshot.files.get(self.split, ()), self.seed, epoch)
        return pools(files, self.batch_size, MIXED_BATCHES)

    def _read(
        self, epoch: tuple[Pool, ...], own: NDArray[np.int64], columns: tuple[str, ...]
    ) -> Iterator[tuple[Pool, Rows]]:
        """The pools that have some of the batches, with their rows. own: ascending."""
        if not len(own):
            return
        # How many of the own batches come before each pool, and before the one after it.
        before = np.searchsorted(own, [pool.first for pool in epoch] + [_batches(epoch)])
        needed = [pool for pool, low, high in zip(epoch, before, before[1:], strict=False) if low < high]
        groups = READERS[self.reader]([group for pool in needed for group in pool.groups], columns)
        with Prefetch(groups, GROUPS_AHEAD) as ready:
            for pool in needed:
                yield pool, Rows.concatenate(list(islice(ready, len(pool.groups))))


def _batches(epoch: tuple[Pool, ...]) -> int:
    return epoch[-1].first + epoch[-1].batches if epoch else 0

"""Which items follow which in the train split, counted before the first step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from behavior_lib.data.snapshot import Snapshot
from behavior_lib.models.base import SequenceModel
from behavior_lib.models.batch import Batch
from behavior_lib.models.instants import instant_numbers
from behavior_lib.models.successors import FOLDS, SuccessorCounts, fold_of
from behavior_lib.tables.items import FIRST_INDEX
from behavior_lib.train.communicator import Communicator
from behavior_lib.train.settings import FitSettings
from behavior_lib.train.start import batches_of_train

REACH = 10  # instants from an item to its furthest successor
ROWS_AT_ONCE = 256
MOST_PAIRS = 100_000_000  # that are held, 8 bytes each, before the rarest are dropped


def start_successors(
    model: SequenceModel, snapshot: Snapshot, settings: FitSettings, communicator: Communicator
) -> None:
    """Give the model's successor path, where it has one without counts, its counts, on all ranks alike.

    Rank 0 reads the train split once. The model is on the CPU.
    """
    if (path := model.successors) is None or path.is_counted:
        return
    buffers = path.prepare_for_counts()
    if communicator.rank == 0:
        path.take(count_successors(model, snapshot, settings, communicator.alive))
    communicator.broadcast(buffers)


def count_successors(
    model: SequenceModel, snapshot: Snapshot, settings: FitSettings, alive: Callable[[], None] = lambda: None
) -> SuccessorCounts:
    """Those of the train split, as the model reads its rows. Reads it once; alive: called at every batch."""
    counter = SuccessorCounter(model.spec.n_items)
    for batch in batches_of_train(model, snapshot, settings, alive, ROWS_AT_ONCE):
        counter.add(batch)
    return counter.best(model.spec.successors)


class SuccessorCounter:
    """Weighted numbers of how often an item of one instant is followed by an item of a later one, by fold of the row.

    An item that comes d <= REACH instants after another in one row adds 1 / d to that pair. An item counts once an
    instant, and is no successor of itself. Where more than
    `most` distinct pairs come together, those below a weight that doubles until enough are gone are forgotten, as in
    lossy counting (Manku and Motwani 2002): memory stays bounded, and what is forgotten is rare.
    """

    def __init__(self, n_items: int, most: int = MOST_PAIRS) -> None:
        self._n_items, self._most = n_items, most
        self._folds = [sparse.csr_matrix((n_items, n_items), dtype=np.float32) for _ in range(FOLDS)]

    def add(self, batch: Batch) -> None:
        """Count the rows of a prepared batch."""
        row, column = (batch.item_index >= FIRST_INDEX).nonzero(as_tuple=True)
        number = row * (batch.columns + REACH) + instant_numbers(batch)[row, column]
        instants, place = np.unique(number.numpy(), return_inverse=True)
        item = batch.item_index[row, column].numpy()
        shape = (len(instants), self._n_items)
        has = sparse.csr_matrix((np.ones(len(item), np.float32), (place, item)), shape)
        has.sum_duplicates()
        has.data[:] = 1
        fold = fold_of(batch).numpy()[instants // (batch.columns + REACH)]
        for each in range(FOLDS):
            mine = np.flatnonzero(fold == each)
            own = has[mine]
            pairs = (own.T @ _nearness(instants[mine]) @ own).tocsr()
            pairs.setdiag(0)
            pairs.eliminate_zeros()
            self._folds[each] = self._folds[each] + pairs
        self._forget()

    def best(self, kept: int) -> SuccessorCounts:
        """Of each item the `kept` successors with the highest counts, lower item indexes first among equals."""
        total = sum(self._folds[1:], self._folds[0]).tocsr()
        total.sort_indices()
        item = np.zeros((self._n_items, kept), np.int64)
        for source in np.flatnonzero(np.diff(total.indptr)):
            own = slice(total.indptr[source], total.indptr[source + 1])
            followers, weight = total.indices[own], total.data[own]
            first = np.argsort(-weight, kind="stable")[:kept]
            item[source, : len(first)] = followers[first]
        counts = [_at(counted, item) for counted in (total, *self._folds)]
        return SuccessorCounts(torch.from_numpy(item), counts[0], torch.stack(counts[1:]))

    def _forget(self) -> None:
        least = 1.0
        while sum(counted.nnz for counted in self._folds) > self._most:
            for counted in self._folds:
                counted.data[counted.data < least] = 0
                counted.eliminate_zeros()
            least *= 2


def _nearness(instants: NDArray[np.int64]) -> sparse.csr_matrix:
    """What a pair of instants adds, [m, m].

    instants: numbers in ascending order, more than REACH apart where they are of different rows.
    """
    n = len(instants)
    forwards = sparse.csr_matrix((n, n), dtype=np.float32)
    for step in range(1, min(REACH, n - 1) + 1):
        apart = instants[step:] - instants[:-step]
        first = np.flatnonzero(apart <= REACH)
        weight = (1 / apart[first]).astype(np.float32)
        forwards = forwards + sparse.csr_matrix((weight, (first, first + step)), (n, n))
    return forwards


def _at(counted: sparse.csr_matrix, item: NDArray[np.int64]) -> torch.Tensor:
    """The entries [n, kept] in the columns `item` of each row; 0 in column 0."""
    row = np.repeat(np.arange(len(item)), item.shape[1])
    found = np.asarray(counted[row, item.ravel()], dtype=np.float32).reshape(item.shape)
    return torch.from_numpy(found)

"""Validation: the whole catalogue ranked for the next session of each user of the validation split."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from behavior_lib.data.loader import Loader
from behavior_lib.data.rows import Rows
from behavior_lib.evaluation.ranking import RankingMeter
from behavior_lib.models.base import SequenceModel
from behavior_lib.models.batch import Batch
from behavior_lib.train.communicator import Communicator

SCORES_HELD = 2**23  # at once, 32 MB
TOGETHER = 16  # batches of the loader whose rows are put in order of their length


def rows_at_once(n_items: int) -> int:
    """Users that are scored together, so that their scores stay below SCORES_HELD."""
    return max(1, min(128, SCORES_HELD // n_items))


def validation_ndcg(model: SequenceModel, loader: Loader, communicator: Communicator, k: int) -> float:
    """Mean NDCG@k over the users of all ranks; each rank scores its own share. 0 where there is no user."""
    own = ndcg_by_user(model, loader, k, communicator.alive)
    total, everyone = communicator.sum("validation", [float(own.sum()), float(len(own))])
    return total / everyone if everyone else 0.0


def ndcg_by_user(
    model: SequenceModel, loader: Loader, k: int, alive: Callable[[], None] = lambda: None
) -> NDArray[np.float64]:
    """float64 [n]: NDCG@k of the loader's users who have a target, in its order. alive: called at every batch."""
    device = model.known_items.device
    meter = RankingMeter(k, np.asarray(model.known_items.cpu().numpy()), has_lists=False)
    places: list[NDArray[np.int64]] = []
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for place, rows in _of_like_length(loader):
            alive()
            scores = model.scores(Batch.from_histories(rows.histories).to(device))
            meter.add(scores.cpu().numpy(), rows.target_index)
            places.append(place)
    model.train(was_training)
    if not places:
        return np.zeros(0)
    return meter.result().ndcg[np.argsort(np.concatenate(places))]


def _of_like_length(loader: Loader) -> Iterator[tuple[NDArray[np.int64], Rows]]:
    """The loader's rows that have a target, a batch at a time, and where each row stands among all of them.

    Rows of like length go together, without the padding that none of them needs: padding is work too.
    """
    before, batches = 0, map(_judged, loader.in_order())
    while parts := list(islice(batches, TOGETHER)):
        rows = Rows.concatenate(parts)
        del parts
        order = np.argsort(rows.histories.length, kind="stable")
        for start in range(0, len(order), loader.batch_size):
            chosen = order[start : start + loader.batch_size]
            yield before + chosen, Rows(rows.histories.without_padding(chosen), rows.target_index[chosen])
        before += len(rows)


def _judged(rows: Rows) -> Rows:
    return rows.select(np.flatnonzero((rows.target_index != 0).any(axis=1)))

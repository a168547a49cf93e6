"""Validation: the whole catalogue ranked for the next session of each user of the validation split."""

from __future__ import annotations

import numpy as np
import torch

from behavior_lib.data.loader import Loader
from behavior_lib.evaluation.ranking import RankingMeter
from behavior_lib.models.base import SequenceModel
from behavior_lib.models.batch import Batch
from behavior_lib.train.communicator import Communicator

SCORES_HELD = 2**23  # at once, 32 MB


def rows_at_once(n_items: int) -> int:
    """Users that are scored together, so that their scores stay below SCORES_HELD."""
    return max(1, min(128, SCORES_HELD // n_items))


def validation_ndcg(model: SequenceModel, loader: Loader, communicator: Communicator, k: int) -> float:
    """Mean NDCG@k over the users of all ranks; each rank scores its own share. 0 where there is no user."""
    device = model.known_items.device
    meter = RankingMeter(k, np.asarray(model.known_items.cpu().numpy()))
    users = 0
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for rows in loader.in_order():
            communicator.alive()
            some = (rows.target_index != 0).any(axis=1)
            rows = rows.select(np.flatnonzero(some))
            if len(rows):
                scores = model.scores(Batch.from_histories(rows.histories).to(device))
                meter.add(scores.cpu().numpy(), rows.target_index)
                users += len(rows)
    model.train(was_training)
    own = float(meter.result().ndcg.sum()) if users else 0.0
    total, everyone = communicator.sum("validation", [own, float(users)])
    return total / everyone if everyone else 0.0

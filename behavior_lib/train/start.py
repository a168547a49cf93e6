"""What a model starts from, beside random weights."""

from __future__ import annotations

from collections.abc import Callable

import torch

from behavior_lib.data.loader import Loader
from behavior_lib.data.snapshot import Snapshot
from behavior_lib.models.base import SequenceModel
from behavior_lib.models.batch import Batch
from behavior_lib.models.cooccurrence import cooccurrence_vectors
from behavior_lib.models.instants import instant_numbers
from behavior_lib.tables.items import FIRST_INDEX
from behavior_lib.tables.sequences import TRAIN
from behavior_lib.train.settings import FitSettings

ROWS_AT_ONCE = 512
MOST_EVENTS = 20_000_000  # that are counted; 1 GB while they are


def start_from_cooccurrence(
    model: SequenceModel, snapshot: Snapshot, settings: FitSettings, alive: Callable[[], None] = lambda: None
) -> None:
    """Give the model item vectors that know what train has in one instant. Reads the train split once.

    alive: called at every batch.
    """
    items, instants, rows_before, events = [], [], 0, 0
    for rows in Loader(snapshot, TRAIN, ROWS_AT_ONCE, settings.reader, settings.seed).in_order():
        alive()
        batch = model.prepare(Batch.from_histories(rows.histories))
        row, column = (batch.item_index >= FIRST_INDEX).nonzero(as_tuple=True)
        items.append(batch.item_index[row, column])
        instants.append((rows_before + row) * batch.columns + instant_numbers(batch)[row, column])
        rows_before, events = rows_before + len(batch), events + len(row)
        if events >= MOST_EVENTS:
            break
    spec = model.spec
    if events:
        item, instant = torch.cat(items), torch.cat(instants)
        model.start_item_vectors(cooccurrence_vectors(item, instant, spec.n_items, spec.dimension, settings.seed))

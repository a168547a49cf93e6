"""Users of like length are scored together, and each one's figure stands where the user stood."""

from math import log2

import torch
from torch import nn

from behavior_lib.data.loader import Loader
from behavior_lib.data.snapshot import Snapshot
from behavior_lib.train import validation
from tests.sequences_example import frame, histories, write

N_ITEMS, LENGTH = 9, 8


class OwnCounts(nn.Module):
    """Scores items 3 and up by how often a history has them, lower indexes first among equals."""

    def __init__(self):
        super().__init__()
        self.register_buffer("known_items", torch.arange(N_ITEMS) >= 3)
        self.widths = []

    def scores(self, batch):
        assert not self.training
        self.widths.append(batch.columns)
        counts = torch.zeros(len(batch), N_ITEMS).scatter_add(1, batch.item_index, batch.present.float())
        return (counts - torch.arange(N_ITEMS) / 100).masked_fill(~self.known_items, -torch.inf)


LISTS = [[5] * 8, [], [6, 7], [3, 4, 3], [8, 8, 3, 3, 3], [7, 7, 6], [4], [5, 3, 3, 5, 5, 5]]
TARGETS = [[5, 8], [3], [7], [4, 8], [], [8], [3], [3, 5]]
# k = 2: the places of the targets among the items by count, then by index.
PLACES = [[1], [1], [2], [2], None, [], [2], [2, 1]]


def gain(places):
    return sum(1 / log2(1 + place) for place in places)


def test_each_figure_is_of_the_user_who_stood_there(tmp_path, monkeypatch):
    """Two pools of two batches; the user without a target is left out."""
    version = write(tmp_path / "sequences", frame(histories(LISTS, LENGTH), "validation", TARGETS))
    snapshot = Snapshot.resolve(str(tmp_path / "sequences"), version)
    monkeypatch.setattr(validation, "TOGETHER", 2)
    model, beats = OwnCounts().train(), []
    found = validation.ndcg_by_user(model, Loader(snapshot, "validation", 2, "pyarrow"), 2, lambda: beats.append(1))
    judged = [(places, wanted) for places, wanted in zip(PLACES, TARGETS, strict=True) if wanted]
    assert found.tolist() == [gain(places) / gain(range(1, len(wanted) + 1)) for places, wanted in judged]
    # Of lengths 8, 0, 2, 3 and, without the user of length 5, of 3, 1, 6.
    assert model.widths == [2, 8, 3, 6]
    assert (len(beats), model.training) == (4, True)


def test_nobody_with_a_target_has_no_figure(tmp_path):
    version = write(tmp_path / "sequences", frame(histories(LISTS, LENGTH), "validation", [[]] * len(LISTS)))
    loader = Loader(Snapshot.resolve(str(tmp_path / "sequences"), version), "validation", 2, "pyarrow")
    assert validation.ndcg_by_user(OwnCounts(), loader, 2).tolist() == []

"""Training is a function of the seed: of every encoder, bit for bit, whatever was drawn before it began."""

from dataclasses import replace

import pytest
import torch

from behavior_lib.data.snapshot import Snapshot, count_train
from behavior_lib.models.base import ModelSpec
from behavior_lib.models.build import build_model
from behavior_lib.models.encoders import ENCODERS
from behavior_lib.train.communicator import SingleProcess
from behavior_lib.train.loop import fit
from behavior_lib.train.store import FolderStore
from tests.encoders_example import objectives_of
from tests.sequences_example import frame, habits, histories, with_graph, write
from tests.train.test_fit import SETTINGS, Watcher

LENGTH, EPOCHS, BATCHES = 8, 2, 5


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    """Users with two events up to all, and the graph of what follows what."""
    path = tmp_path_factory.mktemp("tables") / "sequences"
    found, own = habits(8 * BATCHES, LENGTH, 20, 4)
    lists = [items[: 2 + row % (LENGTH - 1)] for row, items in enumerate(found)]
    rows = histories(lists, LENGTH)
    version = write(path, frame(rows, "train"), frame(rows, "validation", [sorted(items) for items in own]))
    return with_graph(Snapshot.resolve(str(path), version), path.parent / "item_graph", lists)


def trained(snapshot, folder, name, seed, drawn=0):
    """The weights after two epochs, from the same ones whatever the seed. drawn: numbers that others drew before."""
    counts = count_train(snapshot)
    sizes = {"window": 6, "dimension": 8, "layers": 1, "heads": 2, "negatives": 16, "neighbours": 2, "dropout": 0.2}
    objectives = {**objectives_of(name), "sub_sequences": 0.1}
    spec = ModelSpec(name, counts.length, len(counts.items), counts.n_event_types, objectives=objectives, **sizes)
    torch.manual_seed(0)
    model = build_model(spec, torch.from_numpy(counts.items))
    torch.rand(drawn)
    settings = replace(SETTINGS, epochs=EPOCHS, seed=seed)
    result = fit(model, snapshot, settings, SingleProcess(), Watcher(), FolderStore(str(folder)))
    assert result.steps == EPOCHS * BATCHES
    return model.state_dict()


@pytest.mark.parametrize("name", ENCODERS)
def test_one_seed_gives_one_model_and_another_seed_another(snapshot, tmp_path, name):
    first = trained(snapshot, tmp_path / "first", name, seed=3)
    second = trained(snapshot, tmp_path / "second", name, seed=3, drawn=7)
    other = trained(snapshot, tmp_path / "other", name, seed=4)
    assert first.keys() == second.keys()
    assert [key for key in first if not torch.equal(first[key], second[key])] == []
    moved = {key for key in first if not torch.equal(first[key], other[key])}
    assert "items.weight" in moved
    assert any(key.startswith("encoder.") for key in moved)

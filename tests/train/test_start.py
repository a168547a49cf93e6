"""What a model begins with is counted in train row by row, the same on all ranks and where a run goes on."""

from dataclasses import replace

import pytest
import torch

from behavior_lib.data.snapshot import Snapshot, count_train
from behavior_lib.errors import ConfigError, DataRefused
from behavior_lib.models.base import ModelSpec
from behavior_lib.models.build import build_model
from behavior_lib.train import start, trial
from behavior_lib.train.communicator import SingleProcess
from behavior_lib.train.loop import fit
from behavior_lib.train.settings import RunSettings
from behavior_lib.train.start import start_from_cooccurrence, start_item_graph
from behavior_lib.train.store import FolderStore
from tests.sequences_example import frame, habits, histories, with_graph, write
from tests.train.test_fit import SETTINGS, Watcher, best_model
from tests.transitions_oracle import Transitions

LENGTH = 8


@pytest.fixture(scope="module")
def lists():
    """Rows of different lengths, the long ones first."""
    found, _ = habits(40, LENGTH, 20, 4)
    return [items[: LENGTH - row // 6] for row, items in enumerate(found)]


@pytest.fixture(scope="module")
def snapshot(lists, tmp_path_factory):
    path = tmp_path_factory.mktemp("tables") / "sequences"
    rows = histories(lists, LENGTH)
    version = write(path, frame(rows, "train"), frame(rows, "validation", [items[:2] for items in lists]))
    return with_graph(Snapshot.resolve(str(path), version), path.parent / "item_graph", lists)


def new_model(snapshot, name="gat", **changes):
    counts = count_train(snapshot)
    torch.manual_seed(0)
    sizes = {"window": 8, "dimension": 8, "layers": 1, "heads": 2, "negatives": 16, "neighbours": 2}
    spec = ModelSpec(name, counts.length, len(counts.items), counts.n_event_types, **{**sizes, **changes})
    return build_model(spec, torch.from_numpy(counts.items))


def expected(lists, n_items, neighbours=2):
    found = Transitions(n_items)
    for items in lists:
        found.add(torch.tensor(items), torch.arange(len(items)))
    return found.edges(neighbours)


def test_the_graph_is_that_of_train(snapshot, lists):
    model = new_model(snapshot)
    start_item_graph(model, snapshot, SingleProcess())
    index, weight = expected(lists, model.spec.n_items)
    assert torch.equal(model.item_graph().edge_index, index)
    assert torch.equal(model.item_graph().edge_weight, weight)
    assert len(weight) > model.spec.n_items
    plain = new_model(snapshot, "gru")
    assert plain.item_graph() is None
    start_item_graph(plain, replace(snapshot, graph=None), SingleProcess())


def test_a_graph_that_is_not_there_or_too_small_is_refused_with_the_mend(snapshot, lists, tmp_path):
    without = replace(snapshot, graph=None)
    with pytest.raises(
        DataRefused,
        match="gat needs the item graph of these sequences in item_graph; --set sequences.neighbours=50 and run build_",
    ):
        start_item_graph(new_model(snapshot), without, SingleProcess())
    small = with_graph(snapshot, tmp_path / "graph", lists, 1)
    sentence = "model.neighbours is more than item_graph keeps: 2; --set model.neighbours=1, or more sequences.neigh"
    with pytest.raises(ConfigError, match=sentence):
        start_item_graph(new_model(snapshot), small, SingleProcess())
    start_item_graph(new_model(snapshot, neighbours=1), small, SingleProcess())


class Other(SingleProcess):
    """A rank that is given what rank 0 said."""

    rank, size = 1, 2

    def __init__(self, text, tensors):
        self.text, self.tensors = text, tensors

    def share(self, name, text):
        return self.text

    def broadcast(self, tensors):
        for own, given in zip(tensors, self.tensors, strict=True):
            own.copy_(given)


def test_other_ranks_get_the_graph_of_rank_0(snapshot):
    first, second = new_model(snapshot), new_model(snapshot)
    start_item_graph(first, snapshot, SingleProcess())
    graph = first.item_graph()
    other = Other(str(len(graph.edge_weight)), [graph.edge_index, graph.edge_weight])
    start_item_graph(second, replace(snapshot, graph=None), other)  # it reads nothing
    assert torch.equal(second.item_graph().edge_index, graph.edge_index)
    assert torch.equal(second.item_graph().mirror, graph.mirror)


@pytest.mark.parametrize("name", ["gcn", "gat"])
def test_a_stopped_run_goes_on_bit_for_bit(snapshot, tmp_path, name):
    settings = replace(SETTINGS, checkpoint_steps=3)

    def train(folder, stop_after=None):
        model, calls = new_model(snapshot, name, dropout=0.2), iter(range(10**9))
        store = FolderStore(str(tmp_path / folder))
        told = snapshot, settings, SingleProcess(), Watcher(), store, lambda: next(calls) + 1 == stop_after
        return fit(model, *told), model

    result, whole = train("whole")
    assert train("halves", 7)[0].is_stopped
    _, resumed = train("halves")
    assert all(torch.equal(resumed.state_dict()[key], value) for key, value in whole.state_dict().items())
    best = best_model(tmp_path / "whole", result)
    assert torch.equal(best.item_graph().edge_index, whole.item_graph().edge_index)
    assert len(best.item_graph().edge_weight) > best.spec.n_items


def test_a_trial_has_the_graph_too(snapshot, tmp_path, monkeypatch):
    run = RunSettings(new_model(snapshot).spec, SETTINGS, "single", 1, 1.0, str(tmp_path), str(tmp_path))
    built = []
    monkeypatch.setattr(
        trial, "build_model", lambda *told, **named: built.append(build_model(*told, **named)) or built[0]
    )
    trial.overfit(run, snapshot, count_train(snapshot), 1)
    assert len(built[0].item_graph().edge_weight) > built[0].spec.n_items


def test_rows_of_batches_of_other_widths_share_no_instant_and_no_row(snapshot, lists, monkeypatch):
    """All rows at once and a few at a time count the same."""
    seen = []

    def vectors(item, instant, history, n_items, dimension, seed):
        seen.append((item, instant, history))
        return torch.zeros(n_items, dimension)

    monkeypatch.setattr(start, "starting_vectors", vectors)
    for at_once in (100, 7):
        monkeypatch.setattr(start, "ROWS_AT_ONCE", at_once)
        start_from_cooccurrence(new_model(snapshot), snapshot, SETTINGS)
    (item, instant, history), (other, other_instant, other_history) = seen
    assert torch.equal(item, other)
    assert len(instant.unique()) == sum(map(len, lists))
    assert torch.equal(instant.unique(return_inverse=True)[1], other_instant.unique(return_inverse=True)[1])
    assert torch.equal(history, other_history)
    assert history.bincount().tolist() == list(map(len, lists))

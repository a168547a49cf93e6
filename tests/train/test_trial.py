"""What is told of a run before it starts is what it then takes."""

from dataclasses import asdict, replace

import pytest
import torch

from behavior_lib.config import load
from behavior_lib.data.snapshot import Snapshot, count_train
from behavior_lib.errors import ConfigError
from behavior_lib.models.build import FAMILIES
from behavior_lib.models.successors import FOLDS
from behavior_lib.train.communicator import SingleProcess
from behavior_lib.train.loop import fit
from behavior_lib.train.plan import plan
from behavior_lib.train.store import FolderStore
from behavior_lib.train.trial import estimate, overfit
from tests.sequences_example import VECTORS, frame, habits, histories, with_graph, with_values, write
from tests.train.test_fit import Watcher, new_model


@pytest.fixture
def snapshot(tmp_path):
    lists, own = habits(75, 12, 30, 1)
    version = write(
        tmp_path / "t",
        frame(histories(lists, 12), "train"),
        frame(histories(lists, 12), "validation", [sorted(items) for items in own]),
    )
    return with_graph(Snapshot.resolve(str(tmp_path / "t"), version), tmp_path / "item_graph", lists)


def planned(tmp_path, counts, *changes):
    paths = [f"paths.{name}={tmp_path / name}" for name in ("raw", "warehouse", "var")]
    changes = ["train.epochs=2", "train.batch_size=8", "train.communicator=single", *changes]
    more = ["model.dimension=16", "model.window=8", "train.negatives=32", "train.average=0.9", "train.patience=9"]
    return plan(load("test", "train", [*paths, *changes, *more]).config, counts, tmp_path / "run")


def test_steps_and_sizes_are_those_of_the_run(snapshot, tmp_path):
    counts = count_train(snapshot)
    run = planned(tmp_path, counts, "train.accumulate=3", "model.name=transformer_repeat")
    before = torch.get_num_threads()
    found = estimate(run, snapshot, counts)
    assert torch.get_num_threads() == before
    model = new_model(snapshot, successors=64, blend=True)
    result = fit(model, snapshot, run.fit, SingleProcess(), Watcher(), FolderStore(str(tmp_path / "states")))
    assert found.steps == result.steps == 2 * 4  # ten batches, three a step
    numbers = sum(parameter.numel() for parameter in model.parameters())
    assert found.parameters == numbers
    scalars = len(list(model.parameters()))
    counted = 64 * len(counts.items) * 4 * (2 + FOLDS)  # a successor, its count, and that by fold
    # Beside them weight, gradient, two moments, average; and a step.
    assert found.state_mb == (4 * 5 * numbers + 4 * scalars + counted) / 2**20
    assert found.loader_mb == (2 * (64 * 8 + 75) + 2 * 75) * 12 * 4 * 4 / 2**20
    assert found.seconds == found.steps * found.step_seconds > 0
    assert found.cpu_seconds > 0
    assert set(asdict(found)) == set(found.as_metrics())


def test_given_vectors_count_as_memory_and_their_projections_as_parameters(snapshot, tmp_path):
    counts = count_train(snapshot)
    given = with_values(counts).vectors
    plain = estimate(planned(tmp_path, counts), snapshot, counts)
    counts = replace(counts, vectors=given)
    found = estimate(planned(tmp_path, counts, VECTORS), snapshot, counts)
    projection = 16 * 3
    assert found.parameters - plain.parameters == projection
    assert (found.state_mb - plain.state_mb) * 2**20 == pytest.approx(4 * (5 * projection + 1 + given["text"].size))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_model_learns_one_batch_by_heart(snapshot, tmp_path, name):
    counts = count_train(snapshot)
    # The paths alone would learn it: one model has one here.
    architecture = [f"model.name={name}", f"model.repeat_path={name == 'transformer_repeat'}", "model.successors=0"]
    run = planned(tmp_path, counts, *architecture, "train.learning_rate=0.03", "train.threads=1")
    assert run.spec.name == name
    losses = overfit(run, snapshot, counts, 60)
    assert len(losses) == 60
    assert losses[-1] < 0.6 * losses[0]
    assert overfit(run, snapshot, counts, 60) == losses


def test_the_configuration_decides_the_architecture(snapshot, tmp_path):
    counts = count_train(snapshot)
    usual = planned(tmp_path, counts).spec
    assert (usual.name, usual.layers, usual.positions, usual.fusion) == ("mean", 1, "rotary", "sum")
    assert planned(tmp_path, counts, "model.name=cnn").spec.layers == 3
    assert planned(tmp_path, counts, "model.name=cnn", "model.layers=2").spec.layers == 2
    changed = planned(tmp_path, counts, "model.positions=time", "model.fusion=concat").spec
    assert (changed.positions, changed.fusion) == ("time", "concat")
    with pytest.raises(ConfigError, match="model.positions has a value of the wrong type"):
        planned(tmp_path, counts, "model.positions=sideways")
    with pytest.raises(ConfigError, match="unknown model: 'gruu'; did you mean gru?"):
        planned(tmp_path, counts, "model.name=gruu")

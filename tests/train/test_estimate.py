"""What is told of a run before it starts is what it then takes."""

from dataclasses import asdict

import torch

from behavior_lib.config import load
from behavior_lib.data.snapshot import Snapshot, count_train
from behavior_lib.train.communicator import SingleProcess
from behavior_lib.train.estimate import estimate
from behavior_lib.train.loop import fit
from behavior_lib.train.plan import plan
from behavior_lib.train.store import FolderStore
from tests.sequences_example import frame, habits, histories, write
from tests.train.test_fit import Watcher, new_model


def test_steps_and_sizes_are_those_of_the_run(tmp_path):
    lists, own = habits(75, 12, 30, 1)
    version = write(
        tmp_path / "t",
        frame(histories(lists, 12), "train"),
        frame(histories(lists, 12), "validation", [sorted(items) for items in own]),
    )
    snapshot = Snapshot.resolve(str(tmp_path / "t"), version)
    paths = [f"paths.{name}={tmp_path / name}" for name in ("raw", "warehouse", "var")]
    changes = ["train.epochs=2", "train.batch_size=8", "train.accumulate=3", "train.communicator=single"]
    more = ["model.dimension=16", "model.window=8", "train.negatives=32", "train.average=0.9", "train.patience=9"]
    counts = count_train(snapshot)
    run = plan(load("test", "train", [*paths, *changes, *more]).config, counts, tmp_path / "run")
    before = torch.get_num_threads()
    found = estimate(run, snapshot, counts)
    assert torch.get_num_threads() == before
    model = new_model(snapshot)
    result = fit(model, snapshot, run.fit, SingleProcess(), Watcher(), FolderStore(str(tmp_path / "states")))
    assert found.steps == result.steps == 2 * 4  # ten batches, three a step
    numbers = sum(parameter.numel() for parameter in model.parameters())
    assert found.parameters == numbers
    scalars = len(list(model.parameters()))
    assert found.state_mb == (4 * 5 * numbers + 4 * scalars) / 2**20  # weight, gradient, two moments, average; a step
    assert found.loader_mb == (2 * (64 * 8 + 75) + 2 * 75) * 12 * 4 * 4 / 2**20
    assert found.seconds == found.steps * found.step_seconds > 0
    assert set(asdict(found)) == set(found.as_metrics())

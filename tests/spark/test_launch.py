"""horovod.spark.run: two Spark tasks train what two processes of this machine train."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from behavior_lib.config import load
from behavior_lib.data.snapshot import Snapshot, count_train
from behavior_lib.errors import ConfigError, DataRefused
from behavior_lib.models.build import load_model
from behavior_lib.spark.launch import launch_in_tasks
from behavior_lib.train.launch import launch
from behavior_lib.train.plan import plan
from tests.sequences_example import ATTRIBUTES, VECTORS, frame, habits, histories, with_values, write

pytestmark = [pytest.mark.spark, pytest.mark.distributed]
SETTINGS = (
    "train.epochs=2",
    "train.batch_size=8",
    "train.threads=1",
    "train.negatives=32",
    "model.dimension=16",
    "model.window=8",
    ATTRIBUTES,
    VECTORS,
)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    path = tmp_path_factory.mktemp("tables") / "sequences"
    lists, own = habits(44, 12, 30, 1)
    version = write(
        path,
        frame(histories(lists, 12), "train"),
        frame(histories(lists, 12), "validation", [sorted(items) for items in own]),
    )
    return Snapshot.resolve(str(path), version)


def planned(snapshot, tmp_path, *more):
    paths = [f"paths.{name}={tmp_path / name}" for name in ("raw", "warehouse", "var")]
    return plan(load("test", "train", [*paths, *SETTINGS, *more]).config, counts_of(snapshot), tmp_path / "run")


def counts_of(snapshot):
    return with_values(count_train(snapshot))


def weights(result):
    return load_model(Path(result.checkpoint)).state_dict()


def test_tasks_train_what_processes_train(spark, snapshot, tmp_path):
    heard, counts = [], counts_of(snapshot)
    result = launch_in_tasks(spark, planned(snapshot, tmp_path / "tasks"), snapshot, counts, heard.append)
    assert tuple(heard) == result.epochs
    local = launch(planned(snapshot, tmp_path / "here"), snapshot, counts, lambda message: None)
    assert [epoch.validation_ndcg for epoch in result.epochs] == [epoch.validation_ndcg for epoch in local.epochs]
    first, second = weights(result), weights(local)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(first["attributes.value_index"], torch.from_numpy(counts.attributes))
    assert (first["attributes.vectors.weight"][3:].abs().sum(1) > 0).all()
    assert torch.equal(first["given.given"], torch.from_numpy(counts.vectors["text"]))
    assert (first["given.projections.of_text"] != 0).all()


# Horovod's own thread ends with an error when the Spark job that it waits for is cancelled.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_a_task_refuses_is_refused_in_its_words(spark, snapshot, tmp_path):
    empty = replace(snapshot, files={"train": snapshot.files["train"]})
    with pytest.raises(DataRefused, match=r"^there is no validation row in .*; move the cuts: split\.days$"):
        launch_in_tasks(spark, planned(snapshot, tmp_path), empty, count_train(snapshot), lambda message: None)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("train.communicator=torch", "needs Horovod: 'torch'"),
        ("train.workers=3", r"fewer cores than train\.workers .*: 2"),
    ],
)
def test_what_cannot_run_in_tasks_is_refused(spark, snapshot, tmp_path, change, sentence):
    wanted = planned(snapshot, tmp_path, change)
    with pytest.raises(ConfigError, match=sentence):
        launch_in_tasks(spark, wanted, snapshot, count_train(snapshot), lambda message: None)

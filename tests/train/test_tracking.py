"""A run in MLflow: what stands there afterwards."""

import json

import pytest
from mlflow.tracking import MlflowClient

import behavior_lib
from behavior_lib.models.base import ModelSpec
from behavior_lib.registry import Registry
from behavior_lib.train.code import code_version
from behavior_lib.train.settings import EpochResult, FitResult, FitSettings, RunSettings
from behavior_lib.train.tracking import Tracker

SETTINGS = RunSettings(
    ModelSpec("transformer_repeat", 8, 10, 4),
    FitSettings(2, 1, 4, 0.1, 0.0, 0.1, 1.0, "pyarrow", 7, 1, 5.0),
    "single",
    1,
    1.0,
    "x",
    "y",
)
EPOCHS = (EpochResult(0, 5.0, 0.1, 2.0, 100.0, 3), EpochResult(1, 4.0, 0.25, 2.5, 110.0, 3))


@pytest.fixture
def store(tmp_path):
    uri = f"sqlite:///{tmp_path / 'var' / 'mlflow.db'}"
    return uri, Registry(uri, "encoder").experiment("behavior", str(tmp_path / "artifacts"))


def test_parameters_metrics_by_epoch_versions_and_artifacts(store, tmp_path):
    uri, experiment = store
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "model.json").write_text("{}")
    tracker = Tracker(uri, experiment, {"sequences_version": 12})
    tracker.parameters(SETTINGS)
    for epoch in EPOCHS:
        tracker.epoch(epoch, 10)
    tracker.finish(FitResult(str(checkpoint), 1, 6, 4.5, 321.0, EPOCHS), 10)
    client = MlflowClient(uri)
    run = client.get_run(tracker.run_id)
    history = client.get_metric_history(tracker.run_id, "validation_ndcg_at_10")
    assert [(metric.step, metric.value) for metric in history] == [(0, 0.1), (1, 0.25)]
    assert [metric.value for metric in client.get_metric_history(tracker.run_id, "loss")] == [5.0, 4.0]
    assert run.data.metrics["best_validation_ndcg_at_10"] == 0.25
    assert (run.data.params["model.dimension"], run.data.params["train.learning_rate"]) == ("64", "0.1")
    assert (run.data.tags["sequences_version"], run.data.tags["code_version"]) == ("12", code_version())
    assert run.info.status == "FINISHED"
    artifacts = tmp_path / "artifacts" / tracker.run_id / "artifacts"
    assert [epoch["loss"] for epoch in json.loads((artifacts / "epochs.json").read_text())["epochs"]] == [5.0, 4.0]
    assert (artifacts / "checkpoint" / "model.json").exists()


def test_a_failed_run_is_marked(store):
    uri, experiment = store
    tracker = Tracker(uri, experiment, {})
    tracker.fail()
    assert MlflowClient(uri).get_run(tracker.run_id).info.status == "FAILED"


def test_a_run_without_a_loop_of_its_own_ends_with_its_figures_or_fails(store):
    uri, experiment = store
    tracker, other, client = Tracker(uri, experiment, {}), Tracker(uri, experiment, {}), MlflowClient(uri)
    with tracker.failing():
        tracker.end({"auc": 0.75}, {"train_loss": [2.0, 1.0]})
    run = client.get_run(tracker.run_id)
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"auc": 0.75, "train_loss": 1.0})
    history = client.get_metric_history(tracker.run_id, "train_loss")
    assert [(metric.step, metric.value) for metric in history] == [(0, 2.0), (1, 1.0)]
    with pytest.raises(KeyboardInterrupt), other.failing():
        raise KeyboardInterrupt
    assert client.get_run(other.run_id).info.status == "FAILED"


def test_the_code_version_changes_with_the_code(tmp_path):
    before = code_version()
    assert before.startswith(f"{behavior_lib.__version__}+")
    (tmp_path / "module.py").write_text("x = 1")
    changed = code_version(tmp_path)
    (tmp_path / "module.py").write_text("x = 2")
    assert len({before, changed, code_version(tmp_path)}) == 3

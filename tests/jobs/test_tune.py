"""behavior tune on a small sequences table, as the command line runs it."""

import pytest
from mlflow.tracking import MlflowClient

from tests.jobs.small_source import failure
from tests.sequences_example import frame, habits, histories, write

pytestmark = [pytest.mark.spark, pytest.mark.distributed]
SETTINGS = (
    "train.communicator=single",
    "train.epochs=2",
    "train.batch_size=8",
    "train.threads=1",
    "model.dimension=16",
    "model.window=8",
    "train.negatives=32",
    "evaluate.k=3",
)
SPACE = "train.learning_rate: {low: 0.001, high: 0.1, log: true}\nmodel.layers: {choices: [1, 2]}\n"


@pytest.fixture
def settings(shop, source):
    """A table of habits, a source and a space of this test's own."""
    lists, own = habits(40, 12, 30, 1)
    write(
        shop.root / "warehouse" / "sequences",
        frame(histories(lists, 12), "train"),
        frame(histories(lists, 12), "validation", [sorted(items) for items in own]),
    )
    (shop.root / "space.yaml").write_text(SPACE)
    return [source(), f"tune.space={shop.root / 'space.yaml'}", *SETTINGS]


def test_a_search_tells_its_best_goes_on_when_more_is_asked_for_and_is_then_unchanged(shop, settings):
    told = shop.run("tune", *settings, "tune.trials=1")
    assert (told["exit_code"], told["status"]) == (0, "succeeded"), told["stderr"]
    assert told["trials"] == {"complete": 1, "pruned": 0, "failed": 0}
    # The configuration as it stands comes first.
    assert (told["best"]["trial"], told["best"]["parameters"]) == (0, {"model.layers": 1, "train.learning_rate": 0.005})
    more = shop.run("tune", *settings, "tune.trials=2")
    assert (more["status"], more["study"], more["mlflow_run_id"]) == ("succeeded", told["study"], told["mlflow_run_id"])
    assert more["trials"] == {"complete": 2, "pruned": 0, "failed": 0}
    best = more["best"]
    assert best["value"] == more["metrics"]["best_validation_ndcg_at_3"] >= told["best"]["value"] > 0
    rate, layers = best["parameters"]["train.learning_rate"], best["parameters"]["model.layers"]
    assert f"--set model.layers={layers} --set train.learning_rate={rate}" in more["stderr"]
    again = shop.run("tune", *settings, "tune.trials=2")
    assert (again["status"], again["best"], again["trials"]) == ("unchanged", best, more["trials"])
    client = MlflowClient(f"sqlite:///{shop.root / 'var' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("behavior").experiment_id
    below = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{told['mlflow_run_id']}'")
    assert sorted(run.info.run_name for run in below) == ["trial 0", "trial 1"]
    assert len(list((shop.root / "var" / "checkpoints").iterdir())) == 1


def test_a_wrong_space_and_trials_that_all_fail_are_one_sentence(shop, settings):
    assert failure(shop.run("tune", *settings, "tune.space=defalt")) == (
        2,
        "unknown space: 'defalt'; did you mean default?",
    )
    assert failure(shop.run("tune", *settings, "tune.trials=0")) == (
        2,
        "tune.trials must be at least 1: 0; --set tune.trials=…",
    )
    assert failure(shop.run("tune", *settings, "train.launcher=spark")) == (
        2,
        "tune does not train in Spark tasks; --set train.launcher=local",
    )
    code, sentence = failure(shop.run("tune", *settings, "train.highest_loss=0.001", "tune.trials=1"))
    assert code == 1
    assert sentence.startswith("no trial came to a model in study shop-")
    assert sentence.endswith("choose another tune.space")
    assert "the loss is not a number or too high" in sentence

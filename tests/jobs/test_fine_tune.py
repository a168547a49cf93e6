"""behavior fine_tune on a small shop: planted labels are learned from what came before the cut, and served by name."""

from datetime import datetime, timezone
from types import SimpleNamespace

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient

from behavior_lib.config import load
from behavior_lib.errors import ConfigError
from behavior_lib.evaluation.probes import Label
from behavior_lib.inference.encoder import Encoder
from behavior_lib.inference.labels import LABEL_BUNDLE_FILES
from behavior_lib.inference.vocabulary import Vocabulary
from behavior_lib.models.base import ModelSpec
from behavior_lib.models.build import build_model, save_model
from behavior_lib.registry import (
    CHALLENGER,
    SOURCE,
    START_MODEL,
    TAUGHT_BY,
    TAUGHT_LABELS,
    TRAIN_CUT,
    Registered,
    Registry,
)
from behavior_lib.spark.schema import rows_frame
from behavior_lib.tables import EVENT_TYPES, ITEMS
from jobs.fine_tune import learned
from tests.jobs.small_source import YAML, failure, line

pytestmark = pytest.mark.spark

USERS, N_ITEMS, LENGTH = 150, 10, 4
TIME, CUT = datetime(2017, 4, 1, tzinfo=timezone.utc), datetime(2017, 5, 1)
LABELS = """
users:
  format: csv
  path: ${paths.raw}/../users.csv
  options: {header: "true"}
  user_id: id
  labels:
    fond: cast(fond as boolean)
    threes: cast(threes as int)
    constant: cast(id is not null as boolean)
  classes:
    taste: case when fond is null then null when fond = 'True' then 'high' when threes = '0' then 'low' else 'mid' end
split: {test: "2017-05-01"}
"""


@pytest.fixture
def shop_of_labels(spark, shop, source):
    """A log, and a file of users: who had item 7 or above last before the cut, and how often item 3.

    After the cut all have the same item. Returns the setting of the source, histories before the cut, and labels.
    """
    random = np.random.default_rng(1)
    items = random.integers(3, 3 + N_ITEMS, (USERS, LENGTH))
    events = [
        line(user=f"u{user}", item=f"i{item}", time=f"2017-04-0{1 + day} 12:00:00")
        for user, row in enumerate(items)
        for day, item in enumerate(row)
    ]
    events += [line(user=f"u{user}", item="i3", time="2017-05-03 12:00:00") for user in range(USERS)]
    fond, threes = items[:, -1] >= 7, (items == 3).sum(1)
    told = [f"u{user},{'' if user % 10 == 0 else fond[user]},{threes[user]}" for user in range(USERS)]
    (shop.root / "users.csv").write_text("\n".join(["id,fond,threes", *told, "nobody,true,1"]))
    setting = source(YAML + LABELS, log_json=b"".join(events))
    assert shop.run("ingest", setting)["exit_code"] == 0
    known = {ITEMS.n_events: 1, ITEMS.known_from: TIME, ITEMS.first_seen: TIME, ITEMS.last_seen: TIME}
    named = [
        {ITEMS.item_id: f"i{number}", ITEMS.item_index: number, ITEMS.attributes: None, **known}
        for number in range(3, 3 + N_ITEMS)
    ]
    shop.tables.insert(ITEMS, rows_frame(spark, ITEMS, named))
    shop.tables.insert(EVENT_TYPES, rows_frame(spark, EVENT_TYPES, [{"event_type": "view", "type_index": 3}]))
    days = [int(datetime(2017, 4, 1 + day, 12, tzinfo=timezone.utc).timestamp() * 1e6) for day in range(LENGTH)]
    histories = pd.DataFrame(
        {
            "user_id": [f"u{user}" for user in range(USERS)],
            "item_id": [[f"i{item}" for item in row] for row in items],
            "event_type": [["view"] * LENGTH] * USERS,
            "event_time": [days] * USERS,
            "value": [[1.0] * LENGTH] * USERS,
        }
    )
    return setting, histories, fond, threes


@pytest.fixture
def registry(shop, tmp_path):
    """With an untrained encoder as challenger."""
    registry = Registry(f"sqlite:///{shop.root / 'var' / 'mlflow.db'}", "encoder")
    torch.manual_seed(1)
    spec = ModelSpec("gru", length=LENGTH, window=LENGTH, n_items=3 + N_ITEMS, n_event_types=4, dimension=16, layers=1)
    save_model(build_model(spec, torch.arange(3 + N_ITEMS)), tmp_path / "checkpoint")
    vocabulary = Vocabulary.from_pairs([(f"i{number}", number) for number in range(3, 3 + N_ITEMS)], [("view", 3)])
    experiment = registry.experiment("behavior", str(shop.root / "var" / "artifacts"))
    run_id = MlflowClient(f"sqlite:///{shop.root / 'var' / 'mlflow.db'}").create_run(experiment).info.run_id
    registry.register(run_id, tmp_path / "checkpoint", vocabulary, {})
    return registry


LEARNED = {SOURCE: "shop", TAUGHT_BY: "refit", TRAIN_CUT: "2017-04-20T00:00:00"}


def tagged(shop, tags):
    """Give the encoder tags. Returns where MLflow is."""
    uri = f"sqlite:///{shop.root / 'var' / 'mlflow.db'}"
    for key, value in tags.items():
        MlflowClient(uri).set_model_version_tag("encoder", "1", key, value)
    return uri


def test_labels_arelearned_judged_and_served(shop, shop_of_labels, registry):
    setting, histories, fond, threes = shop_of_labels
    words = (setting, "mlflow.model_name=encoder", "fine_tune.model=challenger", "fine_tune.learning_rate=0.03")
    uri = tagged(shop, LEARNED)
    told = shop.run("fine_tune", *words)
    assert told["exit_code"] == 0, told["stderr"]
    assert told["left_out"].keys() == {"constant"}
    assert "constant is not learned: all" in told["stderr"]
    assert (told["cut"], told["model_name"], told["model_version"]) == ("2017-05-01T00:00:00", "encoder-labels", 1)
    figures = told["labels"]["fond"]["figures"]
    assert figures["fine_tuned"]["auc"] > 0.85
    assert (figures["majority"]["auc"], figures["linear"]["auc"] > 0.8) == (0.5, True)
    assert told["metrics"]["fond.fine_tuned.auc"] == figures["fine_tuned"]["auc"]
    assert told["labels"]["threes"]["headline"] == "r2"

    labels = Registry(uri, "encoder-labels")
    version = labels.find(CHALLENGER)
    # What the encoder has learned from, so has this version.
    tags = {**LEARNED, START_MODEL: "encoder/1", "cut": "2017-05-01T00:00:00"}
    assert {key: version.tags[key] for key in tags} == tags
    assert TAUGHT_LABELS not in version.tags
    run = MlflowClient(uri).get_run(told["mlflow_run_id"])
    assert (run.info.status, run.data.metrics["fond.linear.auc"]) == ("FINISHED", figures["linear"]["auc"])
    assert {key.split(".")[0] for key in run.data.params} == {"fine_tune"}
    with registry.bundle(registry.find("1")) as before, labels.bundle(version) as folder:
        assert {path.name for path in folder.iterdir()} == set(LABEL_BUNDLE_FILES)
        old, new = (Encoder.load(place).model.state_dict() for place in (before, folder))
    assert all(torch.equal(new[name], weight) for name, weight in old.items())

    mlflow.set_tracking_uri(uri)
    try:
        loaded = mlflow.pyfunc.load_model(f"models:/encoder-labels@{CHALLENGER}")
    finally:
        mlflow.set_tracking_uri(None)
    answers = loaded.predict(histories)
    tastes = ["taste_is_high", "taste_is_low", "taste_is_mid"]
    assert list(answers.columns) == ["user_id", "fond", "threes", *tastes]
    np.testing.assert_allclose(answers[tastes].sum(axis=1), 1, rtol=1e-5)
    assert ((answers[tastes].to_numpy().argmax(1) == 0) == fond).mean() > 0.85
    assert ((answers["fond"] > 0.5) == fond).mean() > 0.85
    assert np.corrcoef(answers["threes"], threes)[0, 1] > 0.5
    nobody = loaded.predict(pd.DataFrame({"user_id": ["new"], "item_id": [[]]}))
    assert nobody[["fond", "threes"]].isna().all(axis=None)


def test_a_trained_encoder_knows_the_labels_and_what_came_before_the_cut(shop, shop_of_labels, registry):
    setting, words = shop_of_labels[0], (shop_of_labels[0], "mlflow.model_name=encoder", "fine_tune.model=challenger")
    labels = Registry(tagged(shop, LEARNED), "encoder-labels")
    trained = shop.run("fine_tune", *words, "fine_tune.encoder=trained", "fine_tune.labels=[fond]")
    assert (trained["exit_code"], trained["model_version"]) == (0, 1), trained["stderr"]
    assert trained["labels"].keys() == {"fond"}
    with registry.bundle(registry.find("1")) as before, labels.bundle(labels.find("1")) as folder:
        old, new = (Encoder.load(place).model.state_dict()["items.weight"] for place in (before, folder))
    assert not torch.equal(new, old)
    tags = labels.find("1").tags
    assert (tags[TRAIN_CUT], tags[TAUGHT_LABELS]) == ("2017-05-01T00:00:00", '["fond"]')
    quick = ("probe.folds=2", "probe.inner_folds=2", "probe.repeats=1", "probe.clusters=0", "probe.leave_out=[taste]")
    probed = shop.run("probe", setting, "mlflow.model_name=encoder-labels", "probe.model=1", *quick)
    assert probed["exit_code"] == 0, probed["stderr"]
    assert probed["left_out"]["fond"] == "the model was taught it (fine_tune.encoder=trained)"
    assert "threes" in probed["probes"]
    again = shop.run("fine_tune", *words, "fine_tune.model=encoder-labels@1", "fine_tune.labels=[fond,taste]")
    assert "version 1 was taught fond before: its test users are new to it only where seed" in again["stderr"]
    assert labels.find("2").taught_labels == ("fond",)


def fine_tuning(encoder):
    """What a run of the shop is asked."""
    config = load("local", None, [f"fine_tune.encoder={encoder}"]).config
    return SimpleNamespace(source=SimpleNamespace(name="shop"), config=config)


MALL = {SOURCE: "mall", TRAIN_CUT: "2017-08-01", TAUGHT_LABELS: '["b"]'}


@pytest.mark.parametrize(
    ("tags", "taught", "expected"),
    [
        ({SOURCE: "shop", TRAIN_CUT: "2017-04-01"}, "trained", {TRAIN_CUT: "2017-05-01T00:00:00"}),
        ({SOURCE: "shop", TRAIN_CUT: "2017-04-01"}, "frozen", {TRAIN_CUT: "2017-04-01"}),
        # Where nobody knows how much the old one knows, nobody knows it of the new one.
        ({SOURCE: "shop", TRAIN_CUT: "leave_one_out"}, "trained", {}),
        ({SOURCE: "shop"}, "trained", {}),
        (
            {SOURCE: "mall", TRAIN_CUT: "2017-08-01", TAUGHT_LABELS: '["b"]'},
            "trained",
            {TRAIN_CUT: "2017-05-01T00:00:00"},
        ),
        (MALL, "frozen", {}),
    ],
)
def test_a_new_version_says_what_is_known_of_what_it_learned(tags, taught, expected):
    job = SimpleNamespace(
        source=SimpleNamespace(name="shop"), config=load("local", None, [f"fine_tune.encoder={taught}"]).config
    )
    labels = [Label("a_is_x", np.zeros(1), True, "a"), Label("c", np.zeros(1), False)]
    found = {key: str(value) for key, value in learned(job, Registered("m", 1, "r", tags), labels, CUT).items()}
    names = {TAUGHT_LABELS: '["a", "a_is_x", "c"]'} if taught == "trained" else {}
    assert found == {**expected, **names}


def test_labels_taught_before_are_taught_still():
    job = SimpleNamespace(
        source=SimpleNamespace(name="shop"), config=load("local", None, ["fine_tune.encoder=trained"]).config
    )
    model = Registered("m", 1, "r", {SOURCE: "shop", TAUGHT_LABELS: '["b"]'})
    assert learned(job, model, [Label("c", np.zeros(1), False)], CUT) == {TAUGHT_LABELS: '["b", "c"]'}
    for broken in ("fond", '"fond"'):
        sentence = r"^no list of labels in tag taught_labels of version 1 of m: .*fond.*; write \[\"age\"\], say$"
        with pytest.raises(ConfigError, match=sentence):
            _ = Registered("m", 1, "r", {TAUGHT_LABELS: broken}).taught_labels


def test_what_cannot_be_is_one_sentence(shop, shop_of_labels, registry):
    setting = shop_of_labels[0]
    words = (setting, "mlflow.model_name=encoder", "fine_tune.model=challenger")
    refused = {
        "fine_tune.labels=[fon]": (2, "no such label in fine_tune.labels: 'fon'; did you mean fond?"),
        "fine_tune.split=train": (2, "no such split in fine_tune.split: 'train'; give test or validation"),
        "fine_tune.patience=0": (2, "fine_tune.patience must be at least 1: 0; --set fine_tune.patience=…"),
        "fine_tune.test_share=0.9": (
            2,
            "fine_tune.validation_share and test_share leave nobody to learn from: [0.15, 0.9]; their sum is below 1",
        ),
        "fine_tune.labels=[constant]": (
            3,
            "no label can be learned in source shop: ['constant']; the warnings say why; see users.labels, or raise "
            "fine_tune.test_share and validation_share",
        ),
    }
    for change, expected in refused.items():
        assert failure(shop.run("fine_tune", *words, change)) == expected
    assert not list((shop.root / "var").rglob("labels.safetensors"))
    MlflowClient(f"sqlite:///{shop.root / 'var' / 'mlflow.db'}").set_model_version_tag(
        "encoder", "1", TAUGHT_BY, "refit"
    )
    code, sentence = failure(shop.run("fine_tune", *words, "fine_tune.split=validation"))
    assert (code, sentence) == (
        2,
        "a refit has learned from what follows the cut in fine_tune.model: 1; ask on test: fine_tune.split=test",
    )
    client = MlflowClient(f"sqlite:///{shop.root / 'var' / 'mlflow.db'}")
    client.set_model_version_tag("encoder", "1", TRAIN_CUT, "2017-05-02T00:00:00")
    assert failure(shop.run("fine_tune", *words)) == (
        2,
        "a version has learned from what follows the cut in fine_tune.model: 'version 1 up to 2017-05-02T00:00:00,"
        " asked as of 2017-05-01T00:00:00'; ask as of a later cut: split.test=…",
    )

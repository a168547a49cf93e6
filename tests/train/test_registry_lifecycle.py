"""The registry on a real sqlite store: one version a run, the gate, the champion, and what a version carries."""

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient

from behavior_lib.errors import ConfigError, DataRefused, GateNotPassed
from behavior_lib.evaluation.baselines import Popularity
from behavior_lib.evaluation.judge import CHAMPION, MODEL, Verdict, rank_methods
from behavior_lib.inference.encoder import BUNDLE_FILES, Encoder
from behavior_lib.inference.explain import Occlusion, Reason
from behavior_lib.inference.raw import to_histories
from behavior_lib.inference.vocabulary import Vocabulary
from behavior_lib.models.base import ModelSpec
from behavior_lib.models.build import FAMILIES, build_model, save_model
from behavior_lib.registry import CHALLENGER, Registry, may_hold_a_secret
from tests.encoders_example import objectives_of

VOCABULARY = Vocabulary.from_pairs([(f"item {index}", index) for index in range(3, 12)], [("buy", 3)])
FRAME = pd.DataFrame(
    {
        "user_id": ["a", "b", "c", "😀"],
        "item_id": [["item 4", "item 9", "nowhere"], ["item 3"] * 20, None, []],
        "event_type": [["buy", "buy", "look"], ["buy"] * 20, None, []],
        "event_time": [[0, 5_000_000, 90_000_000_000], list(range(0, 20_000_000, 1_000_000)), None, []],
        "value": [[1.0, 2.5, 0.0], [1.0] * 20, None, []],
    }
)


@pytest.fixture(scope="module")
def tracking_uri(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('a store')}/var/mlflow.db"


def new_checkpoint(name, folder):
    torch.manual_seed(0)
    sizes = {"length": 12, "window": 12, "n_items": 12, "n_event_types": 4, "dimension": 8, "layers": 1, "heads": 1}
    spec = ModelSpec(name, **sizes, objectives=objectives_of(name))
    save_model(build_model(spec, torch.arange(12)), folder)
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return new_checkpoint("transformer_repeat", tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def experiment(tracking_uri, tmp_path_factory):
    return Registry(tracking_uri, "any").experiment("behavior", str(tmp_path_factory.mktemp("files of models")))


@pytest.fixture
def registry(tracking_uri, request):
    return Registry(tracking_uri, request.node.name)


@pytest.fixture
def register(registry, tracking_uri, experiment, checkpoint):
    def new_version(run_id=None, checkpoint=checkpoint):
        run_id = run_id or MlflowClient(tracking_uri).create_run(experiment).info.run_id
        return registry.register(run_id, checkpoint, VOCABULARY, {"sequences_version": 7, "events_version": 3})

    return new_version


def verdict(model, **others):
    """NDCG@2 of 1 for a scorer that puts item 5 first, less for the others."""
    popularity = np.array([0, 0, 0, 5, 4, 3])
    scorers = {"first": np.array([0, 0, 0, 0, 0, 1]), "second": np.array([0, 0, 0, 1, 0, 0.5]), "none": popularity}
    methods = {name: Popularity(scorers[choice]) for name, choice in {MODEL: model, **others}.items()}
    targets = np.array([[5, 0], [5, 0]])
    methods["popularity"] = Popularity(popularity)
    return Verdict("validation", rank_methods("validation", methods, targets, popularity > 0, 2, 8))


def test_experiment_is_made_once_where_the_configuration_says(tracking_uri, tmp_path):
    registry = Registry(tracking_uri, "any")
    made = registry.experiment("elsewhere", str(tmp_path / "my files"))
    assert registry.experiment("elsewhere", "/another/place") == made
    run = MlflowClient(tracking_uri).create_run(made)
    MlflowClient(tracking_uri).log_text(run.info.run_id, "hello", "note.txt")
    assert [path.read_text() for path in (tmp_path / "my files").rglob("note.txt")] == ["hello"]


def test_an_address_that_mlflow_does_not_take_is_told_without_its_password():
    with pytest.raises(
        ConfigError, match=r"^MLflow does not take the address in mlflow\.tracking_uri; \w+: give "
    ) as error:
        Registry("postgres://mlflow:secret@host/mlflow", "any")
    assert "secret" not in str(error.value)


def test_addresses_with_a_place_for_a_password_are_not_shown():
    hidden = ["postgresql://me:secret@host/x", "postgresql:///x?password=secret"]
    assert [may_hold_a_secret(address) for address in [*hidden, "sqlite:///var/mlflow.db", "http://host:5000"]] == [
        *(True, True),
        *(False, False),
    ]


def test_a_run_has_one_version(registry, register):
    first = register()
    again = register(first.run_id)
    assert again == first
    assert registry.resolve(CHALLENGER) == first
    assert first.tags["sequences_version"] == "7"
    assert register().version == first.version + 1


def test_an_older_run_does_not_take_the_alias_back(registry, register):
    older, newer = register(), register()
    assert register(older.run_id).version == older.version
    assert registry.resolve(CHALLENGER) == newer


def test_figures_are_named_as_mlflow_takes_it(registry, register, tracking_uri):
    version = register()
    registry.log_metrics(version, {"test.a+b.ndcg@10": 0.5, "test.miscalibration_size (ml)@10": 1.5})
    found = MlflowClient(tracking_uri).get_run(version.run_id).data.metrics
    assert found == {"test.a_and_b.ndcg_at_10": 0.5, "test.miscalibration_size _ml__at_10": 1.5}


def test_a_version_of_another_model_is_named_with_it(registry, register):
    version = register()
    assert registry.find_any(f"{registry.model_name}@1", "train.start_model") == version
    with pytest.raises(ConfigError, match=r"^a version has no model in train.start_model: '@1'; give NAME@VERSION$"):
        registry.find_any("@1", "train.start_model")


def test_nobody_is_champion_before_the_gate(registry, register):
    register()
    with pytest.raises(DataRefused, match=r"no version has passed the gate in model .*; run train and evaluate first"):
        registry.champion()


def test_an_unknown_model_has_no_alias(registry):
    assert registry.resolve(CHAMPION) is None


def test_the_gate_lets_the_better_one_through(registry, register, tracking_uri):
    version = register()
    registry.promote(version, verdict("first"))
    champion = registry.champion()
    assert champion.version == version.version
    assert registry.resolve(CHALLENGER) is None
    assert champion.tags["validation.ndcg_at_2"] == "1.0"
    assert champion.tags["winner"] == MODEL
    assert register(version.run_id).version == version.version
    assert registry.resolve(CHALLENGER) is None


def test_the_gate_keeps_out_what_a_baseline_beats(registry, register):
    version = register()
    with pytest.raises(
        GateNotPassed, match=r"0\.0000 does not beat popularity 0\.0000 .* it stays challenger"
    ) as refused:
        registry.promote(version, verdict("none"))
    assert refused.value.exit_code == 3
    assert registry.resolve(CHALLENGER).version == version.version
    assert registry.resolve(CHAMPION) is None
    assert registry.resolve(CHALLENGER).tags["winner"] == "popularity"


def test_the_gate_keeps_out_what_the_champion_beats(registry, register):
    champion = register()
    registry.promote(champion, verdict("first"))
    challenger = register()
    with pytest.raises(GateNotPassed, match=r"0\.6309 does not beat champion 1\.0000"):
        registry.promote(challenger, verdict("second", champion="first"))
    assert registry.champion().version == champion.version
    registry.promote(challenger, verdict("first", champion="first"))
    assert registry.champion().version == challenger.version


def test_a_version_gives_its_bundle_back(registry, register, checkpoint):
    with registry.bundle(register()) as folder:
        assert {path.name for path in folder.iterdir()} == set(BUNDLE_FILES)
        assert Encoder.load(folder).vocabulary == VOCABULARY


def test_a_checkpoint_that_is_not_whole_makes_no_version(registry, tracking_uri, experiment, tmp_path):
    run_id = MlflowClient(tracking_uri).create_run(experiment).info.run_id
    with pytest.raises(DataRefused, match="no whole model"):
        registry.register(run_id, tmp_path, VOCABULARY, {})
    assert not MlflowClient(tracking_uri).search_model_versions(f"run_id = '{run_id}'")


def test_the_address_that_mlflow_had_is_kept(registry, register):
    assert not mlflow.is_tracking_uri_set()
    version = register()
    assert not mlflow.is_tracking_uri_set()
    mlflow.set_tracking_uri("sqlite:///somewhere.db")
    with registry.bundle(version):
        assert mlflow.get_tracking_uri() != "sqlite:///somewhere.db"
    assert mlflow.get_tracking_uri() == "sqlite:///somewhere.db"
    mlflow.set_tracking_uri(None)


@pytest.fixture
def as_mlflows_store(tracking_uri):
    mlflow.set_tracking_uri(tracking_uri)
    yield
    mlflow.set_tracking_uri(None)


@pytest.mark.usefixtures("as_mlflows_store")
@pytest.mark.parametrize("name", FAMILIES)
def test_the_loaded_model_answers_as_the_encoder_does(name, registry, register, monkeypatch, tmp_path):
    version = register(checkpoint=new_checkpoint(name, tmp_path))
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    loaded = mlflow.pyfunc.load_model(f"models:/{version.name}@{CHALLENGER}")
    with registry.bundle(version) as folder:
        encoder = Encoder.load(folder)
    histories = to_histories({name: FRAME[name].tolist() for name in FRAME}, VOCABULARY, encoder.length)

    vectors = loaded.predict(FRAME)
    assert list(vectors.columns) == ["user_id", "embedding"]
    assert vectors["user_id"].tolist() == FRAME["user_id"].tolist()
    np.testing.assert_allclose(np.stack(vectors["embedding"]), encoder.encode(histories), rtol=0, atol=1e-6)
    assert not np.stack(vectors["embedding"])[2:].any()

    items = loaded.predict(FRAME, params={"output": "items", "k": 3})
    assert list(items.columns) == ["user_id", "item_id", "score"]
    assert items["item_id"].tolist() == encoder.next_items(histories, 3)[0]
    assert [len(row) for row in items["item_id"]] == [3, 3, 0, 0]
    least = loaded.predict(FRAME[["user_id", "item_id"]])
    assert np.stack(least["embedding"]).shape == (4, 8)
    assert loaded.predict(FRAME[:0]).empty

    with pytest.raises(
        DataRefused, match="unknown output in params: 'both'; known: embedding, items, reasons, influences"
    ):
        loaded.predict(FRAME, params={"output": "both"})
    with pytest.raises(DataRefused, match="column item_id is missing"):
        loaded.predict(FRAME[["user_id"]])


@pytest.mark.usefixtures("as_mlflows_store")
def test_the_loaded_model_says_why(registry, register):
    version = register()
    loaded = mlflow.pyfunc.load_model(f"models:/{version.name}@{CHALLENGER}")
    with registry.bundle(version) as folder:
        encoder = Encoder.load(folder)
    histories = to_histories({name: FRAME[name].tolist() for name in FRAME}, VOCABULARY, encoder.length)

    items = loaded.predict(FRAME, params={"output": "items", "k": 3})
    why = loaded.predict(FRAME, params={"output": "reasons", "k": 3})
    assert list(why.columns) == ["user_id", "item_id", "score", "path", "reasons"]
    pd.testing.assert_frame_equal(why[["user_id", "item_id", "score"]], items)
    explained = Occlusion(encoder, 256).next_items(histories, 3, 5)
    assert why["path"].tolist() == [[each.path for each in row] for row in explained]
    told = [[[Reason(**one) for one in each] for each in row] for row in why["reasons"]]
    assert told == [[list(each.reasons) for each in row] for row in explained]
    assert {one.item_id for each in told[1] for one in each} == {"item 3"}
    assert {one.n_events for each in told[1] for one in each} == {encoder.length}
    assert why["reasons"].tolist()[2:] == [[], []]

    moved = loaded.predict(FRAME, params={"output": "influences", "explain_events": 2})
    assert list(moved.columns) == ["user_id", "influence"]
    assert [len(row) for row in moved["influence"]] == [2, 2, 0, 0]
    for row, expected in zip(moved["influence"], Occlusion(encoder, 2).influences(histories), strict=True):
        assert np.array_equal(row, expected)
    with pytest.raises(DataRefused, match="newest must be at least 1 in occlusion: 0"):
        loaded.predict(FRAME, params={"output": "influences", "explain_events": 0})

"""evaluate, compare and embed on real purchases: figures against SQL over the raw files, vectors against the model."""

import shutil

import duckdb
import numpy as np
import pytest
from mlflow import MlflowClient
from pyspark.sql import functions as F

from behavior_lib.config.loader import load
from behavior_lib.errors import ConfigError, DataRefused, GateNotPassed
from behavior_lib.evaluation.judge import CHAMPION
from behavior_lib.inference.encoder import Encoder
from behavior_lib.models.repeat import N_FEATURES
from behavior_lib.registry import CHALLENGER, TAUGHT_BY, Registry
from behavior_lib.spark.job import Job
from behavior_lib.tables import EVALUATIONS, EVENTS, ITEM_EMBEDDINGS, ITEMS, SEQUENCES, USER_EMBEDDINGS
from tests.conftest import DATA
from tests.jobs.judged import LENGTH, make_champion, predict, run
from tests.jobs.ranking_oracle import SQL

pytestmark = pytest.mark.spark

COMPARED = {"popularity", "recent_popularity", "own_frequency", "decayed_own_frequency"}  # with SQL
VALIDATION, TEST = "2017-11-01", "2017-12-01"


def evaluations(job, version=1):
    name = F.col(EVALUATIONS.model_name) == job.config.mlflow.model_name
    rows = job.tables.read(EVALUATIONS).where(name & (F.col(EVALUATIONS.model_version) == version)).collect()
    return {(row.split, row.method, row.metric): row for row in rows}


def test_baselines_are_those_of_the_raw_files(job, new_version):
    registry, version = new_version()
    with pytest.raises(
        GateNotPassed,
        match=r"does not beat popularity 0\.\d{4} and .* and own_frequency 0\.\d{4} in split validation with \d+ users",
    ):
        run(job("evaluate"))
    assert registry.resolve(CHALLENGER).version == version.version
    assert registry.resolve("champion") is None
    found = evaluations(job("evaluate"))
    expected = oracle(VALIDATION, TEST, "validation") | oracle(TEST, "2018-02-01", "test")
    guesses = {"typical", "own_typical", "previous"}  # of when the next basket comes
    assert {key[1] for key in found} == {"model", *guesses, *job("evaluate").config.evaluate.baselines}
    assert len(expected) == 2 * len(COMPARED) * 32
    assert_equal(found, expected)
    logged = MlflowClient(job("evaluate").config.mlflow.tracking_uri).get_run(version.run_id).data.metrics
    assert logged["validation.own_frequency.ndcg_at_10"] == found["validation", "own_frequency", "ndcg@10"].value


def test_those_without_a_past_are_judged_as_those_of_the_raw_files(warehouse, new_version, job, tmp_path, capsys):
    """In the first days of the data most households are new, and most products."""
    registry, version = new_version()
    make_champion(registry, version, job)
    shutil.copytree(job("evaluate").config.paths.warehouse, tmp_path / "warehouse")
    early = [*warehouse, f"paths.warehouse={tmp_path / 'warehouse'}", "split.validation=2017-01-08"]
    early += ["split.test=2017-02-01", f"mlflow.model_name={registry.model_name}"]
    early.append(f"evaluate.baselines=[{','.join(sorted(COMPARED))}]")
    for name in ("build_sequences", "evaluate"):
        told = run(Job(name, load("test", name, early)))
    assert told["status"] == "succeeded"
    found = evaluations(Job("evaluate", load("test", "evaluate", early)))
    expected = oracle("2017-01-08", "2017-02-01", "validation") | oracle("2017-02-01", "2018-02-01", "test")
    assert len(expected) == 2 * len(COMPARED) * 34
    assert_equal(found, expected)
    new, all_users = (found["validation", "popularity", f"ndcg@10{part}"].n_users for part in ("|cold_users", ""))
    cold = found["validation", "popularity", "recall@10|cold_items"]
    assert 10 < new < all_users >= cold.n_users > 10
    assert cold.value == found["validation", "model", "recall@10|cold_items"].value == 0
    assert f"nothing before the cut: {new} of {all_users} users; " in capsys.readouterr().err


def assert_equal(found, expected):
    for key, (mean, error, n_users) in expected.items():
        assert found[key].value == pytest.approx(mean, abs=1e-9), key
        assert found[key].n_users == n_users
        assert found[key].standard_error == (None if error is None else pytest.approx(error, abs=1e-9))


def oracle(cut, until, split):
    files = str(DATA / "complete_journey" / "transactions" / "*" / "*.json.gz")
    with duckdb.connect() as connection:
        rows = connection.execute(SQL, {"files": files, "cut": cut, "until": until}).fetchall()
    return {(split, method, metric): (mean, error, n_users) for method, metric, mean, error, n_users in rows}


def test_a_refit_is_judged_on_test_alone_and_the_gate_is_there(job, new_version):
    """It has learned from what validation asks for."""
    new_version(tags={TAUGHT_BY: "refit"})
    with pytest.raises(GateNotPassed, match=r"own_frequency 0\.\d{4} in split test with \d+ users"):
        run(job("evaluate"))
    assert {split for split, *_ in evaluations(job("evaluate"))} == {"test"}


def test_a_judged_champion_is_left_alone_until_a_challenger_comes(job, new_version, capsys):
    registry, version = new_version()
    make_champion(registry, version, job)
    told = run(job("evaluate"))
    methods = ("model", *job("evaluate").config.evaluate.baselines)
    best = max(methods, key=lambda name: told["metrics"][f"test.{name}.ndcg@10"])
    assert (told["status"], told["winner"], told["model_version"]) == ("succeeded", best, version.version)
    assert told["metrics"]["test.model.ndcg@10"] < told["metrics"]["test.own_frequency.ndcg@10"]
    assert told["metrics"]["test.own_typical.next_time_mae"] < told["metrics"]["test.model.next_time_mae"]
    before = evaluations(job("evaluate"))
    lines = capsys.readouterr().err.splitlines()
    assert run(job("evaluate"))["status"] == "unchanged"
    again = capsys.readouterr().err.splitlines()
    assert sum("hit_rate@10" in line for line in again) == 2
    assert len(told_of(again)) == 2 * len(methods)
    assert told_of(again) <= told_of(lines)
    assert evaluations(job("evaluate")) == before

    _, challenger = new_version()
    with pytest.raises(GateNotPassed):
        run(job("evaluate"))
    after = {
        key[1:]: row for key, row in evaluations(job("evaluate"), challenger.version).items() if key[0] == "validation"
    }
    assert after["model", "mrr"].value == after["champion", "mrr"].value > 0
    assert evaluations(job("evaluate"), version.version) == before

    # An alias that somebody moves: the last good run was of another version, whatever figures this one has.
    client = MlflowClient(job("evaluate").config.mlflow.tracking_uri)
    client.set_registered_model_alias(registry.model_name, CHAMPION, str(challenger.version))
    client.delete_registered_model_alias(registry.model_name, CHALLENGER)
    moved = run(job("evaluate"))
    assert (moved["status"], moved["model_version"]) == ("succeeded", challenger.version)


def told_of(lines):
    """What a run told of methods, without the splits' and methods' order."""
    return {line for line in lines if line.count("±") == 4}


def test_versions_are_compared_with_the_first_on_the_same_users(warehouse, job, new_version):
    registry, version = new_version()
    make_champion(registry, version, job)
    told = run(job("evaluate"))
    new_version(seed=6)
    names = [f"mlflow.model_name={registry.model_name}", "compare.models=[champion,2]"]
    compared = run(Job("compare", load("test", "compare", [*warehouse, *names])))
    assert compared["versions"] == {"champion": 1, "2": 2}
    assert (compared["compared_with"], compared["split"]) == ("champion", "test")
    for name in ("ndcg@10", "coverage@10", "novelty@10", "miscalibration@10"):
        assert compared["metrics"][f"test.champion.{name}"] == told["metrics"][f"test.model.{name}"]
    difference = compared["differences"]["2"]["mrr"]
    figures = compared["metrics"]
    assert difference["value"] == pytest.approx(figures["test.2.mrr"] - figures["test.champion.mrr"])
    assert difference["value"] != 0 < difference["standard_error"]
    assert "ndcg@10|novel" in compared["differences"]["2"]

    refused = {"[champion,9]": r"no such version in model .*: '9'", "[1,champion]": "there is nothing to compare"}
    for models, sentence in refused.items():
        with pytest.raises(ConfigError, match=sentence):
            run(Job("compare", load("test", "compare", [*warehouse, names[0], f"compare.models={models}"])))


def test_vectors_that_are_kept_in_fewer_bytes_rank_beside_the_whole_ones(warehouse, new_version):
    registry, _ = new_version()
    names = [f"mlflow.model_name={registry.model_name}", "compare.models=[1]"]

    def kept(codecs):
        return run(Job("compare", load("test", "compare", [*warehouse, *names, f"compare.vectors=[{codecs}]"])))

    told = kept("int8,first_4,first_8")
    assert (told["versions"], "differences" in told) == ({"1": 1}, False)
    found = told["vectors"]
    assert found["bytes"] == {"float32": 32, "int8": 12, "first_4": 16, "first_8": 32}
    figures = found["metrics"]
    assert {name.split(".")[1] for name in figures} == {*found["bytes"], "model", "popularity"}
    assert figures["test.first_8.mrr"] == figures["test.float32.mrr"] != figures["test.first_4.mrr"]
    assert found["differences"]["first_8"]["mrr"] == {"value": 0, "standard_error": 0}
    with pytest.raises(ConfigError, match=r"vectors cannot be kept so in compare.vectors: 'int9'; did you mean int8\?"):
        kept("int9")


def test_without_a_model_both_jobs_say_what_to_run(job, warehouse):
    with pytest.raises(ConfigError, match=r"unknown baseline in evaluate.baselines: 'eas'; did you mean ease\?"):
        run(Job("evaluate", load("test", "evaluate", [*warehouse, "evaluate.baselines=[eas]"])))
    with pytest.raises(DataRefused, match=r"there is no model to judge in model .*; run train first"):
        run(job("evaluate"))
    with pytest.raises(DataRefused, match=r"no version has passed the gate in model .*; run train and evaluate first"):
        run(job("embed"))


def test_vectors_are_those_of_the_loaded_model(job, new_version):
    registry, version = new_version()
    make_champion(registry, version, job)
    told = run(job("embed"))
    tables = job("embed").tables
    own = F.col(USER_EMBEDDINGS.model_name) == registry.model_name
    rows = {row.user_id: row for row in tables.read(USER_EMBEDDINGS).where(own).collect()}

    predicted, histories = predict(job("embed"), registry)
    assert len(rows) == len(histories) == told["metrics"]["user_embeddings"]
    assert max(len(times) for times in histories["event_time"]) > LENGTH
    for user, vector in zip(predicted["user_id"], predicted["embedding"], strict=True):
        np.testing.assert_allclose(rows[user].embedding, vector, rtol=0, atol=1e-5)

    newest = tables.read(EVENTS).agg(F.max(EVENTS.event_time)).first()[0]
    for user, times in zip(histories["user_id"], histories["event_time"], strict=True):
        row = rows[user]
        assert (row.n_events, row.last_event_time.timestamp()) == (len(times), times[-1] / 1e6)
        assert (row.as_of, row.run_id, row.model_version) == (newest, told["run_id"], version.version)
        assert row.events_version == tables.version(EVENTS)

    with registry.bundle(version) as folder:
        encoder = Encoder.load(folder)
    items = tables.read(ITEM_EMBEDDINGS).where(own).orderBy(ITEM_EMBEDDINGS.item_index).collect()
    assert [row.item_index for row in items] == encoder.known_items.tolist()
    assert [row.item_id for row in items] == [encoder.vocabulary.item_ids[index] for index in encoder.known_items]
    np.testing.assert_array_equal([row.embedding for row in items], encoder.item_vectors())

    assert run(job("embed"))["status"] == "unchanged"
    assert {row.user_id: row for row in tables.read(USER_EMBEDDINGS).where(own).collect()} == rows


def test_training_tells_what_it_would_take_and_leaves_nothing(warehouse):
    job = Job("train", load("test", "train", [*warehouse, "train.dry_run=true", "mlflow.model_name=never"]))
    told = run(job)
    assert told["status"] == "tried"
    parameters, steps = told["metrics"]["parameters"], told["metrics"]["steps"]
    n_items = job.tables.read(ITEMS).count()
    # Vectors of 64 and a bias for each item, and an encoder that is small beside them.
    assert parameters > 65 * n_items * 0.8
    assert steps > 0
    values = ["train.dry_run=true", "model.item_attributes=[department, brand]"]
    read = run(Job("train", load("test", "train", [*warehouse, *values])))["metrics"]["parameters"]
    known = job.tables.read(ITEMS).select(ITEMS.item_index, ITEMS.attributes)
    train = job.tables.read(SEQUENCES).where(F.col(SEQUENCES.split) == "train")
    learnt = known.join(
        train.select(F.explode(SEQUENCES.item_index).alias(ITEMS.item_index)).distinct(), ITEMS.item_index
    )
    pairs = learnt.select(F.explode(F.map_filter(ITEMS.attributes, lambda key, _: key.isin("department", "brand"))))
    shared = pairs.groupBy("key", "value").count().where("count > 1 and value <> ''").count()
    assert shared > 4
    networks = 2 * (32 * (N_FEATURES + 1) + 32 + 32 + 1)
    assert read - parameters == 64 * (3 + shared) + networks  # numbers begin at 3
    assert Registry(job.config.mlflow.tracking_uri, "never").resolve(CHALLENGER) is None
    assert job.ledger.last_success("train", job.source.name) is None

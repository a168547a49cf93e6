"""evaluate, embed and probe on real purchases: figures against SQL over the raw files, vectors against the model."""

from datetime import datetime

import duckdb
import mlflow
import numpy as np
import pytest
import torch
import yaml
from mlflow import MlflowClient
from pyspark.sql import functions as F

from behavior_lib.cli import load_job
from behavior_lib.config.loader import load
from behavior_lib.errors import ConfigError, DataRefused, GateNotPassed
from behavior_lib.inference.encoder import Encoder, read_bundle
from behavior_lib.layout import conf_root
from behavior_lib.models.base import ModelSpec
from behavior_lib.models.build import build_model, save_model
from behavior_lib.models.repeat import N_FEATURES
from behavior_lib.registry import CHALLENGER, TAUGHT_BY, Registry
from behavior_lib.spark.embed import Serving
from behavior_lib.spark.evaluation import read_vocabulary
from behavior_lib.spark.job import Job, execute
from behavior_lib.spark.probes import gather
from behavior_lib.tables import EVALUATIONS, EVENT_TYPES, EVENTS, ITEM_EMBEDDINGS, ITEMS, SEQUENCES, USER_EMBEDDINGS
from behavior_lib.tables.sequences import REFIT
from tests.conftest import DATA
from tests.jobs.ranking_oracle import SQL

pytestmark = pytest.mark.spark

LENGTH = 48
COMPARED = {"popularity", "recent_popularity", "own_frequency", "decayed_own_frequency"}  # with SQL
VALIDATION, TEST = "2017-11-01", "2017-12-01"


@pytest.fixture(scope="module")
def warehouse(spark, tmp_path_factory):
    """Everything up to sequences, of the real slice. Returns the settings that name it."""
    root = tmp_path_factory.mktemp("shop")
    settings = [f"paths.raw={DATA}", f"paths.warehouse={root}/warehouse", f"paths.var={root}/var"]
    for name in ("ingest", "sessionize", "build_sequences"):
        execute(Job(name, load("test", name, settings)), load_job(name).run)
    return settings


@pytest.fixture
def job(warehouse, request):
    """job(name) → one run of a job, with a registered model of the test's own."""
    model = f"mlflow.model_name={request.node.name}"
    return lambda name: Job(name, load("test", name, [*warehouse, model]))


@pytest.fixture
def new_version(job, tmp_path):
    """Registers an untrained model that knows all but the newest fifty items."""

    def register(seed=5, tags=()):
        run = job("evaluate")
        config = run.config.mlflow
        registry = Registry(config.tracking_uri, config.model_name)
        vocabulary = read_vocabulary(run.tables.read(ITEMS), run.tables.read(EVENT_TYPES))
        n_items = len(vocabulary.item_ids) - 50
        spec = ModelSpec(
            "transformer_repeat",
            length=LENGTH,
            window=32,
            n_items=n_items,
            n_event_types=4,
            dimension=8,
            heads=1,
            layers=1,
            objectives={"next_item": 1.0, "next_time": 1.0},
        )
        torch.manual_seed(seed)
        save_model(build_model(spec, torch.arange(n_items) % 9), tmp_path / "checkpoint")
        experiment = registry.experiment("behavior", config.artifacts)
        run_id = MlflowClient(config.tracking_uri).create_run(experiment).info.run_id
        return registry, registry.register(run_id, tmp_path / "checkpoint", vocabulary, dict(tags))

    return register


def make_champion(registry, version, job):
    client = MlflowClient(job("evaluate").config.mlflow.tracking_uri)
    client.set_registered_model_alias(registry.model_name, "champion", str(version.version))
    client.delete_registered_model_alias(registry.model_name, CHALLENGER)


def run(job):
    return execute(job, load_job(job.name).run)


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
    assert len(expected) == 2 * len(COMPARED) * 26
    for key, (mean, error, n_users) in expected.items():
        assert found[key].value == pytest.approx(mean, abs=1e-9), key
        assert found[key].n_users == n_users
        assert found[key].standard_error == (None if error is None else pytest.approx(error, abs=1e-9))
    logged = MlflowClient(job("evaluate").config.mlflow.tracking_uri).get_run(version.run_id).data.metrics
    assert logged["validation.own_frequency.ndcg_at_10"] == found["validation", "own_frequency", "ndcg@10"].value


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


def test_a_judged_champion_is_left_alone_until_a_challenger_comes(job, new_version):
    registry, version = new_version()
    make_champion(registry, version, job)
    told = run(job("evaluate"))
    methods = ("model", *job("evaluate").config.evaluate.baselines)
    best = max(methods, key=lambda name: told["metrics"][f"test.{name}.ndcg@10"])
    assert (told["status"], told["winner"], told["model_version"]) == ("succeeded", best, version.version)
    assert told["metrics"]["test.model.ndcg@10"] < told["metrics"]["test.own_frequency.ndcg@10"]
    assert told["metrics"]["test.own_typical.next_time_mae"] < told["metrics"]["test.model.next_time_mae"]
    before = evaluations(job("evaluate"))
    assert run(job("evaluate"))["status"] == "unchanged"
    assert evaluations(job("evaluate")) == before

    _, challenger = new_version()
    with pytest.raises(GateNotPassed):
        run(job("evaluate"))
    after = {
        key[1:]: row for key, row in evaluations(job("evaluate"), challenger.version).items() if key[0] == "validation"
    }
    assert after["model", "mrr"].value == after["champion", "mrr"].value > 0
    assert evaluations(job("evaluate"), version.version) == before


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


def predict(job, registry, before=None):
    """What the registered model says of every user's raw history up to a time, and the histories."""
    event = F.struct(
        F.unix_micros(EVENTS.event_time).alias(EVENTS.event_time),
        EVENTS.event_id,
        EVENTS.item_id,
        EVENTS.event_type,
        EVENTS.value,
    )
    events = job.tables.read(EVENTS).where(F.lit(True) if before is None else F.col(EVENTS.event_time) < F.lit(before))
    together = events.groupBy(EVENTS.user_id).agg(F.array_sort(F.collect_list(event)).alias("events"))
    names = (EVENTS.item_id, EVENTS.event_type, EVENTS.event_time, EVENTS.value)
    histories = together.select(EVENTS.user_id, *(F.col("events")[name].alias(name) for name in names)).toPandas()
    mlflow.set_tracking_uri(job.config.mlflow.tracking_uri)
    try:
        return mlflow.pyfunc.load_model(f"models:/{registry.model_name}@champion").predict(histories), histories
    finally:
        mlflow.set_tracking_uri(None)


QUICK = ("probe.folds=2", "probe.inner_folds=2", "probe.repeats=1")


def probe_job(warehouse, registry, *settings):
    names = (f"mlflow.model_name={registry.model_name}", "probe.model=1", *QUICK)
    return Job("probe", load("test", "probe", [*warehouse, *names, *settings]))


def test_probes_tell_what_comes_after_the_cut(warehouse, new_version, capsys):
    registry, version = new_version()
    asked = probe_job(warehouse, registry, "probe.leave_out=[spend]", "probe.clusters=4")
    told = run(asked)
    logged = MlflowClient(asked.config.mlflow.tracking_uri).get_run(version.run_id).data.metrics
    in_mlflow = {name.removeprefix("probe.test."): value for name, value in logged.items() if "probe" in name}
    assert in_mlflow == {name.replace("+", "_and_"): value for name, value in told["metrics"].items()}
    files = str(DATA / "complete_journey" / "transactions" / "*" / "*.json.gz")
    n_users, n_active = duckdb.execute(
        """select count(*) filter (first < '2017-12-01'), count(*) filter (first < '2017-12-01' and is_active) from (
               select household_id, min(transaction_timestamp::timestamp) as first,
                      bool_or(transaction_timestamp::timestamp between '2017-12-01' and '2017-12-28 23:59:59')
                          as is_active
               from read_json(?) group by household_id)""",
        [files],
    ).fetchone()
    found = told["probes"]["active"]
    assert (told["cut"], found["users"], found["true"]) == ("2017-12-01T00:00:00", n_users, n_active)
    assert set(found["features"]) == {"vectors", "aggregates", "tf_idf", "vectors+aggregates+tf_idf", "majority"}
    assert told["metrics"]["active.majority.auc"] == 0.5
    assert told["metrics"]["active.vectors.auc"] == found["features"]["vectors"]["auc"]["value"]
    assert set(told["probes"]) == {"active"}
    assert set(told["left_out"]) == {"age_55_or_more", "income_75k_or_more", "household_of_3_or_more"}
    assert told["left_out"]["age_55_or_more"] == "1 users for whom it is true, and 4 are needed"
    assert told["tables"].keys() == {"pipeline_runs"}
    of_clusters = {name: value for name, value in told["metrics"].items() if name.startswith("clusters.")}
    figures = ("seeds", "halves", "silhouette")
    assert set(of_clusters) == {f"clusters.{name}.{figure}" for name in ("vectors", "shuffled") for figure in figures}
    assert all(-1 <= value <= 1 for value in of_clusters.values())

    refused = {
        "probe.leave_out=[spent]": r"no such label in probe.leave_out: 'spent'; did you mean spend\?",
        "probe.split=train": "no such split in probe.split: 'train'; give test or validation",
        "probe.inner_folds=1": "probe.inner_folds must be at least 2: 1",
        "probe.clusters=-1": "probe.clusters must be at least 0: -1",
        "probe.clusters=1": "one cluster is all there is in probe.clusters: 1; give 2 or more, or 0 for none",
        "probe.most_events=100": "the users have more events than probe.most_events",
    }
    for setting, sentence in refused.items():
        with pytest.raises(ConfigError, match=sentence):
            run(probe_job(warehouse, registry, setting))
    with pytest.raises(DataRefused, match=r"no label can be judged in source .*household_of_3_or_more', 'active'"):
        run(probe_job(warehouse, registry, "split.kind=leave_one_out", "probe.leave_out=[spend]"))
    assert "active is not judged: the model has learned from events after the cut" in capsys.readouterr().err
    registry, refit = new_version(tags=[(TAUGHT_BY, REFIT)])
    with pytest.raises(ConfigError, match=rf"a refit has learned from what follows the cut .*: {refit.version}"):
        run(probe_job(warehouse, registry, f"probe.model={refit.version}", "probe.split=validation"))


def test_probes_judge_the_labels_of_the_source(warehouse, new_version, tmp_path, capsys):
    """Who bought much is planted: counting tells it, and it is unknown of a tenth, and of one who never came."""
    registry, _ = new_version()
    files = str(DATA / "complete_journey" / "transactions" / "*" / "*.json.gz")
    lines = "select household_id, count(*) as n from read_json(?) group by household_id order by household_id"
    counted = duckdb.execute(lines, [files]).fetchall()
    middle = np.median([n for _, n in counted])
    told = [f"{user},{n},{'' if place % 10 == 0 else n > middle}" for place, (user, n) in enumerate(counted)]
    (tmp_path / "users.csv").write_text("\n".join(["id,n,busy", *told, "nobody,1,true"]))
    source = yaml.safe_load((conf_root() / "sources" / "complete_journey.yaml").read_text())
    labels = {"busy": "cast(busy as boolean)", "n_lines": "cast(n as int)"}
    users = {"format": "csv", "path": str(tmp_path / "users.csv"), "options": {"header": "true"}, "user_id": "id"}
    (tmp_path / "shop.yaml").write_text(yaml.safe_dump({**source, "users": {**users, "labels": labels}}))
    chosen = (f"source={tmp_path / 'shop.yaml'}", "probe.leave_out=[active,spend]", "probe.split=validation")
    chosen += ("probe.clusters=9",)
    probes = run(probe_job(warehouse, registry, *chosen))["probes"]
    assert "9 clusters are not judged: 48 users, and 90 are needed (probe.clusters)" in capsys.readouterr().err
    assert list(probes) == ["busy", "n_lines"]
    assert (probes["busy"]["users"], probes["n_lines"]["users"]) == (43, 48)
    assert probes["busy"]["true"] == sum(line.endswith(",True") for line in told)
    assert probes["busy"]["features"]["aggregates"]["auc"]["value"] > 0.7
    figures = {name: figure["mae"]["value"] for name, figure in probes["n_lines"]["features"].items()}
    assert figures["aggregates"] < figures["majority"] - 5


def test_probes_know_users_as_they_stood_at_the_cut(warehouse, job, new_version):
    registry, version = new_version()
    make_champion(registry, version, job)
    tables, config, cut = job("probe").tables, job("probe").config.probe, datetime(2017, 12, 1)
    with registry.bundle(version) as folder:
        serving = Serving.of(read_bundle(folder), tables.read(ITEMS), tables.read(EVENT_TYPES))
    events = tables.read(EVENTS)
    # Everybody again, three days after the cut, and two items at once that change who had what.
    later = events.where(F.col(EVENTS.event_time) < F.lit(cut)).withColumns(
        {EVENTS.event_time: F.lit(datetime(2017, 12, 4)), EVENTS.value: F.lit(9.0)}
    )
    one, other = (gather(rows, cut, None, serving, config, 1) for rows in (events, events.unionAll(later)))
    np.testing.assert_array_equal(one.panel.user_ids, other.panel.user_ids)
    np.testing.assert_allclose(one.panel.vectors, other.panel.vectors, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(one.panel.aggregates, other.panel.aggregates)
    np.testing.assert_array_equal(one.panel.counts.toarray(), other.panel.counts.toarray())
    (active, spend), (all_active, more) = one.labels, other.labels
    assert 0 < active.values.mean() < all_active.values.mean() == 1
    assert (more.values > spend.values).all()

    predicted, histories = predict(job("probe"), registry, cut)
    place = {user: row for row, user in enumerate(one.panel.user_ids)}
    assert len(place) == len(predicted)
    for user, vector, times in zip(predicted["user_id"], predicted["embedding"], histories["event_time"], strict=True):
        np.testing.assert_allclose(one.panel.vectors[place[user]], vector, rtol=0, atol=1e-5)
        figures = dict(zip(one.aggregates, one.panel.aggregates[place[user]], strict=True))
        assert figures["events"] == pytest.approx(np.log1p(len(times)))
        assert figures["recency_days"] == pytest.approx((1512086400 - times[-1] / 1e6) / 86400)


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

"""probe on real purchases: labels of the raw files, users as they stood at the cut, and what is refused."""

from datetime import datetime

import duckdb
import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from pyspark.sql import functions as F

from behavior_lib.config.loader import load
from behavior_lib.errors import ConfigError, DataRefused
from behavior_lib.inference.encoder import read_bundle
from behavior_lib.layout import conf_root
from behavior_lib.registry import TAUGHT_BY
from behavior_lib.spark.embed import Serving
from behavior_lib.spark.job import Job
from behavior_lib.spark.probes import gather
from behavior_lib.tables import EVENT_TYPES, EVENTS, ITEMS
from behavior_lib.tables.sequences import REFIT
from tests.conftest import DATA
from tests.jobs.judged import make_champion, predict, run

pytestmark = pytest.mark.spark

QUICK = ("probe.folds=2", "probe.inner_folds=2", "probe.repeats=1")


def probe_job(warehouse, registry, *settings):
    names = (f"mlflow.model_name={registry.model_name}", "probe.model=1", *QUICK)
    return Job("probe", load("test", "probe", [*warehouse, *names, *settings]))


def test_probes_tell_what_comes_after_the_cut(warehouse, new_version):
    registry, version = new_version()
    asked = probe_job(warehouse, registry, "probe.leave_out=[spend]", "probe.clusters=4")
    told = run(asked)
    logged = MlflowClient(asked.config.mlflow.tracking_uri).get_run(version.run_id).data.metrics
    in_mlflow = {name.removeprefix("probe.test."): value for name, value in logged.items() if "probe" in name}
    assert in_mlflow == {name.replace("+", "_and_"): value for name, value in told["metrics"].items()}
    files = str(DATA / "complete_journey" / "transactions" / "*" / "*.json.gz")
    n_users, n_active, n_near, n_churned = duckdb.execute(
        """with lines as (
               select household_id, transaction_timestamp::timestamp as time from read_json(?)
           ), users as (
               select min(time) < '2017-12-01' as is_asked,
                      bool_or(time between '2017-12-01' and '2017-12-28 23:59:59') as is_active,
                      bool_or(time >= '2017-11-03' and time < '2017-12-01') as is_near
               from lines group by household_id
           )
           select count(*), count(*) filter (is_active), count(*) filter (is_near),
                  count(*) filter (is_near and not is_active) from users where is_asked""",
        [files],
    ).fetchone()
    found, churn = told["probes"]["active"], told["probes"]["churn"]
    assert (told["cut"], found["users"], found["true"]) == ("2017-12-01T00:00:00", n_users, n_active)
    assert (churn["users"], churn["true"]) == (n_near, n_churned)
    assert n_churned < n_users - n_active
    assert set(churn["features"]["vectors"]) == {"auc", "accuracy", "f1", "learners"}
    assert set(found["features"]) == {"vectors", "aggregates", "tf_idf", "vectors+aggregates+tf_idf", "majority"}
    assert told["metrics"]["active.majority.auc"] == 0.5
    assert told["metrics"]["active.vectors.auc"] == found["features"]["vectors"]["auc"]["value"]
    assert set(told["probes"]) == {"active", "churn"}
    assert set(told["left_out"]) == {"age_55_or_more", "income_75k_or_more", "household_of_3_or_more"}
    assert told["left_out"]["age_55_or_more"] == "1 users for whom it is true, and 4 are needed"
    assert told["tables"].keys() == {"pipeline_runs"}
    of_clusters = {name: value for name, value in told["metrics"].items() if name.startswith("clusters.")}
    figures = ("seeds", "halves", "silhouette")
    assert set(of_clusters) == {f"clusters.{name}.{figure}" for name in ("vectors", "shuffled") for figure in figures}
    assert all(-1 <= value <= 1 for value in of_clusters.values())


def test_what_cannot_be_asked_is_refused(warehouse, new_version, capsys):
    registry, _ = new_version()
    sentence = (
        r"no such version in model .*: 'champion'; run evaluate, whose gate makes a version the champion, "
        "or name one by its number in probe.model$"
    )
    with pytest.raises(ConfigError, match=sentence):
        run(probe_job(warehouse, registry, "probe.model=champion"))
    refused = {
        "probe.leave_out=[spent]": r"no such label in probe.leave_out: 'spent'; did you mean spend\?",
        "probe.split=train": "no such split in probe.split: 'train'; give test or validation",
        "probe.inner_folds=1": "probe.inner_folds must be at least 2: 1",
        "probe.folds=1": "probe.folds must be at least 2: 1",
        "probe.repeats=0": "probe.repeats must be at least 1: 0",
        "probe.horizon_days=0": "probe.horizon_days must be at least 1: 0",
        "probe.most_events=0": "probe.most_events must be at least 1: 0",
        "probe.clusters=-1": "probe.clusters must be at least 0: -1",
        "probe.clusters=1": "one cluster is all there is in probe.clusters: 1; give 2 or more, or 0 for none",
        "probe.most_events=100": "the users have more events than probe.most_events",
    }
    for setting, sentence in refused.items():
        with pytest.raises(ConfigError, match=sentence):
            run(probe_job(warehouse, registry, setting))
    with pytest.raises(DataRefused, match=r"no label can be judged in source .*household_of_3_or_more', 'active'"):
        run(probe_job(warehouse, registry, "split.kind=leave_one_out", "probe.leave_out=[spend]", "probe.clusters=9"))
    warned = capsys.readouterr().err
    # Clusters need no label.
    alone = run(probe_job(warehouse, registry, "split.kind=leave_one_out", "probe.clusters=2"))
    assert alone["probes"] == {}
    assert 0 < alone["metrics"]["clusters.vectors.silhouette"] <= 1
    for name in ("active", "churn"):
        assert f"{name} is not judged: the model has learned from events after the cut" in warned
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
    chosen = (f"source={tmp_path / 'shop.yaml'}", "probe.leave_out=[active,spend,churn]", "probe.split=validation")
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
    (active, spend, churn), (all_active, more, none_churned) = one.labels, other.labels
    assert 0 < active.values.mean() < all_active.values.mean() == 1
    assert (more.values > spend.values).all()
    assert 0 < np.nanmean(churn.values) < 1
    assert np.nanmax(none_churned.values) == 0
    np.testing.assert_array_equal(np.isnan(churn.values), np.isnan(none_churned.values))

    predicted, histories = predict(job("probe"), registry, cut)
    place = {user: row for row, user in enumerate(one.panel.user_ids)}
    assert len(place) == len(predicted)
    for user, vector, times in zip(predicted["user_id"], predicted["embedding"], histories["event_time"], strict=True):
        np.testing.assert_allclose(one.panel.vectors[place[user]], vector, rtol=0, atol=1e-5)
        figures = dict(zip(one.aggregates, one.panel.aggregates[place[user]], strict=True))
        assert figures["events"] == pytest.approx(np.log1p(len(times)))
        assert figures["recency_days"] == pytest.approx((1512086400 - times[-1] / 1e6) / 86400)

"""The report job on real purchases: its figures against pandas over the raw files, and when it writes anew."""

import gzip
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from pyspark.sql import Row

from behavior_lib.cli import load_job
from behavior_lib.config import load
from behavior_lib.errors import ConfigError
from behavior_lib.evaluation.judge import CHAMPION
from behavior_lib.inference.encoder import Encoder
from behavior_lib.models.base import ModelSpec
from behavior_lib.models.build import build_model, save_model
from behavior_lib.registry import CHALLENGER, Registry
from behavior_lib.report import data
from behavior_lib.report.curves import training_curve
from behavior_lib.spark.evaluation import read_vocabulary
from behavior_lib.spark.job import Job, execute
from behavior_lib.spark.report import Reader, item_of
from behavior_lib.spark.report_users import along, stories, what_came
from behavior_lib.tables import EVALUATIONS, EVENT_TYPES, EVENTS, ITEM_EMBEDDINGS, ITEMS, SEQUENCES, SESSIONS
from tests.conftest import DATA
from tests.jobs.small_source import line

pytestmark = pytest.mark.spark

DAYS = (("2017-10-28", "2017-11-03"), ("2017-12-01", "2017-12-04"))  # around both cuts
USER = "1712"


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    root = tmp_path_factory.mktemp("shop")
    folder = root / "raw" / "complete_journey"
    for day in sorted((DATA / "complete_journey" / "transactions").iterdir()):
        if any(first <= day.name <= last for first, last in DAYS):
            shutil.copytree(day, folder / "transactions" / day.name)
    shutil.copy(DATA / "complete_journey" / "products.csv", folder)
    return [f"paths.{name}={root / name}" for name in ("raw", "warehouse", "var")] + [
        f"report.users=['{USER}', 'nobody']"
    ]


@pytest.fixture(scope="module")
def run(spark, settings):
    def run_job(name, *more):
        return execute(Job(name, load("test", name, [*settings, *more])), load_job(name).run)

    return run_job


@pytest.fixture(scope="module")
def before_training(run):
    """The page of a warehouse that no model was trained on."""
    for name in ("ingest", "sessionize", "build_sequences"):
        assert run(name)["status"] == "succeeded"
    return Path(run("report")["report"]).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def trained(before_training, settings, run, tmp_path_factory):
    """The job of a warehouse with a champion: random weights say nothing, but they say it the same way each time."""
    job = Job("report", load("test", "report", settings))
    vocabulary = read_vocabulary(job.tables.read(ITEMS), job.tables.read(EVENT_TYPES))
    n_items = len(vocabulary.item_ids)
    torch.manual_seed(0)
    sizes = {"length": 32, "n_items": n_items, "n_event_types": len(vocabulary.event_types)}
    spec = ModelSpec("transformer_repeat", **sizes, dimension=8, layers=1, heads=1)
    counts = torch.tensor([name is not None for name in vocabulary.item_ids]).long()
    checkpoint = tmp_path_factory.mktemp("checkpoint")
    save_model(build_model(spec, counts), checkpoint)
    registry = Registry(job.config.mlflow.tracking_uri, job.config.mlflow.model_name)
    client = MlflowClient(job.config.mlflow.tracking_uri)
    run_id = client.create_run(registry.experiment("behavior", job.config.mlflow.artifacts)).info.run_id
    for epoch, loss in enumerate((3.0, 2.0, 1.5), start=1):
        client.log_metric(run_id, "loss", loss, step=epoch)
        client.log_metric(run_id, "validation_ndcg_at_10", epoch / 10, step=epoch)
    version = registry.register(run_id, checkpoint, vocabulary, {})
    client.set_registered_model_alias(version.name, CHAMPION, str(version.version))
    client.delete_registered_model_alias(version.name, CHALLENGER)
    for name in ("evaluate", "embed"):
        assert run(name)["status"] == "succeeded"
    return job


@pytest.fixture(scope="module")
def reader(trained):
    read = (EVENTS, SESSIONS, ITEMS, SEQUENCES, ITEM_EMBEDDINGS, EVALUATIONS)
    return Reader(trained.tables, trained.source.name, {spec.name: trained.tables.version(spec) for spec in read})


@pytest.fixture(scope="module")
def raw(settings):
    folder = Path(settings[0].partition("=")[2])
    lines = [line for path in sorted(folder.rglob("*.gz")) for line in gzip.decompress(path.read_bytes()).splitlines()]
    frame = pd.read_json("[" + ",".join(line.decode() for line in lines) + "]", dtype={"transaction_timestamp": "str"})
    return frame.assign(time=pd.to_datetime(frame["transaction_timestamp"]))


def test_before_training_the_page_says_what_is_missing(before_training):
    for text in ("No model has been judged yet", "No model has been trained yet", "There are no item vectors yet"):
        assert text in before_training


def test_totals_and_days_are_those_of_the_files(reader, raw):
    baskets = raw["basket_id"].nunique()
    assert reader.totals() == data.Totals(
        len(raw),
        raw["household_id"].nunique(),
        baskets,
        raw["product_id"].nunique(),
        raw["time"].min(),
        raw["time"].max(),
    )
    assert reader.events_by_day() == raw.groupby(raw["time"].dt.date).size().to_dict()
    assert [(batch.read, batch.accepted) for batch in reader.batches()] == [(len(raw), len(raw))]
    assert {name: f"{cut:%Y-%m-%d}" for name, cut in reader.cuts().items()} == {
        "validation": "2017-11-01",
        "test": "2017-12-01",
    }


def test_session_lengths_are_those_of_the_baskets(reader, raw):
    sizes = raw.groupby("basket_id").size().value_counts().to_dict()
    starts = raw.groupby(["household_id", "basket_id"])["time"].min().sort_values().reset_index()
    apart = starts.groupby("household_id")["time"].diff().dropna().dt.days.value_counts().to_dict()
    assert reader.session_lengths() == data.Sessions(sizes, {0: raw["basket_id"].nunique()}, apart)


def test_the_most_frequent_items_come_first_with_their_vectors(reader, raw):
    items = reader.vectors("behavior-encoder", 1)
    counts = raw["product_id"].value_counts()
    assert items is not None
    assert items.events.tolist() == sorted(counts, reverse=True)[:2000]
    assert {item: int(events) for item, events in zip(items.ids, items.events, strict=True)} == {
        str(item): events for item, events in counts.items()
    }
    assert items.vectors.shape == (len(counts), 8)
    assert items.group_title == "department"
    assert reader.vectors("behavior-encoder", 2) is None


def test_well_known_items_are_of_ten_kinds_unless_they_are_named(reader):
    items = reader.vectors("behavior-encoder", 1)
    assert items is not None
    found = reader.well_known((), items)
    assert len(found) == len({each.item.id for each in found}) == 10
    assert [each.events for each in found] == sorted((each.events for each in found), reverse=True)
    assert all(len(each.nearest) == 6 for each in found)
    (named,) = reader.well_known((items.ids[5], "no such item"), items)
    assert named.item == data.Item(items.ids[5], items.names[5], items.groups[5])
    assert reader.well_known(("no such item",), items) == ()


def test_the_training_curve_is_what_was_logged(trained):
    client = MlflowClient(trained.config.mlflow.tracking_uri)
    run_id = client.get_model_version_by_alias("behavior-encoder", CHAMPION).run_id
    epochs = (data.Epoch(1, 3.0, 0.1), data.Epoch(2, 2.0, 0.2), data.Epoch(3, 1.5, 0.3))
    assert training_curve(trained.config.mlflow.tracking_uri, run_id) == epochs


@pytest.fixture(scope="module")
def story(reader, trained):
    """One user's, with the newest eight events left out in turn."""
    registry = Registry(trained.config.mlflow.tracking_uri, trained.config.mlflow.model_name)
    with registry.bundle(registry.champion()) as folder:
        (told,) = stories(reader, Encoder.load(folder), [USER], 10, 8)
    return told


def test_a_users_story_ends_at_the_cut_and_what_came_is_the_next_basket(story, raw):
    own = raw[raw["household_id"] == int(USER)].sort_values("time")
    past, later = own[own["time"] < "2017-12-01"], own[own["time"] >= "2017-12-01"]
    assert (story.user_id, story.n_events, f"{story.cut:%Y-%m-%d}") == (USER, len(past), "2017-12-01")
    assert [len(session.items) for session in story.sessions] == past.groupby("time").size().tolist()
    assert [item.id for item in story.sessions[-1].items if item.id not in set(past["product_id"].astype(str))] == []
    following = later[later["basket_id"] == later["basket_id"].iloc[0]]["product_id"].astype(str)
    assert story.next_items is not None
    assert ({item.id for item in story.next_items}, story.n_unnamed) == (set(following), 0)
    assert len(story.recommended) == 10
    bought = set(past["product_id"].astype(str))
    assert [each.had_before for each in story.recommended] == [each.item.id in bought for each in story.recommended]
    assert [each.came for each in story.recommended] == [each.item.id in set(following) for each in story.recommended]


def test_rare_items_of_a_next_session_are_counted_and_have_no_name():
    named = [None, None, None, "milk", "bread"]
    assert what_came(np.array([2, 2, 4, 0]), named) == ({"bread"}, 2)
    assert what_came(np.array([3, 4, 0, 0]), named) == ({"milk", "bread"}, 0)


def test_what_moved_the_vector_and_what_items_rest_on_are_events_of_the_user(story, raw):
    past = raw[(raw["household_id"] == int(USER)) & (raw["time"] < "2017-12-01")]
    influences = [amount for session in story.sessions for amount in session.influences]
    assert influences[:-8] == [None] * (len(past) - 8)
    assert all(amount > 0 for amount in influences[-8:])
    newest = [item.id for session in story.sessions for item in session.items][-8:]
    reasons = [reason for each in story.recommended for reason in each.reasons]
    assert reasons
    assert {reason.item.id for reason in reasons} <= set(newest)
    bought_last = past.groupby(past["product_id"].astype(str))["time"].max()
    assert all(reason.last == bought_last[reason.item.id] for reason in reasons)
    times = past["product_id"].astype(str).value_counts()
    assert all(reason.n_events <= times[reason.item.id] for reason in reasons)


def test_three_users_of_different_activity_are_chosen_where_none_is_named(reader, trained):
    registry = Registry(trained.config.mlflow.tracking_uri, trained.config.mlflow.model_name)
    with registry.bundle(registry.champion()) as folder:
        told = stories(reader, Encoder.load(folder), [], 10, 1)
    assert len({story.user_id for story in told}) == 3
    assert [story.n_events for story in told] == sorted(story.n_events for story in told)


def test_the_job_writes_the_page_once_and_again_where_it_is_gone(run, trained, capfd):
    first = run("report")
    who = "who has no event before the cut and a session after it has no story"
    assert f"warning: report.users names nobody: {who}" in " ".join(capfd.readouterr().err.split())
    path = Path(first["report"])
    page = path.read_text(encoding="utf-8")
    assert first["status"] == "succeeded"
    assert f"User <bdi>{USER}</bdi>" in page
    assert "on the test split" in page
    assert [found.name for found in path.parent.glob("*report*")] == ["report.html"]
    assert run("report")["status"] == "unchanged"
    run("report", "report.known_items=[no such item]")
    what = "of what version 1 has no vector there are no neighbours"
    assert f"warning: report.known_items names no such item: {what}" in " ".join(capfd.readouterr().err.split())
    with pytest.raises(ConfigError, match="report.explain_events must be at least 1: 0; --set report.explain_events="):
        run("report", "report.explain_events=0")
    assert [run("report", "evaluate.k=5")["status"], run("report")["status"]] == ["succeeded"] * 2
    path.unlink()
    assert run("report")["status"] == "succeeded"
    assert path.is_file()


def test_a_batch_that_brought_no_event_is_told(shop, source):
    setting, page = source(first_json=line()), shop.root / "report.html"
    assert shop.run("ingest", setting)["rows"]["accepted"] == 1
    words = ("report", setting, f"report.path={page}")
    assert [shop.run(*words)["status"] for _ in range(2)] == ["succeeded", "unchanged"]
    source(second_json=line(user=None))
    assert shop.run("ingest", setting)["rows"]["quarantined"] == 1
    assert "user_id_required" not in page.read_text(encoding="utf-8")
    assert shop.run(*words)["status"] == "succeeded"
    assert "user_id_required" in page.read_text(encoding="utf-8")


def test_influences_stand_beside_the_events_of_a_log_that_has_not_moved_on():
    events = [Row(_item=name) for name in ("a", "b", "purchase", "d")]
    known = np.array([0.25, 0.5])
    assert along(events, ["a", "b", None, "d"], known) == [None, None, 0.25, 0.5]
    assert along(events, ["b", None, "d"], np.array([0.1, 0.2, 0.3])) == [None, 0.1, 0.2, 0.3]
    assert along(events, ["a", "b", "d"], known) == [None] * 4
    assert along(events[3:], [None, "d"], known) == [0.5]
    assert along([], [], np.zeros(0)) == []


def test_an_item_without_a_name_is_called_by_its_id():
    assert item_of("7", None) == data.Item("7", "7", "")
    assert item_of("7", {"name": "", "department": "Deli"}) == data.Item("7", "7", "Deli")
    assert item_of("7", {"title": "A film", "genre": "Western"}) == data.Item("7", "A film", "Western")

"""behavior train that begins with a model of another warehouse, where the same items have other numbers."""

from datetime import datetime, timezone

import numpy as np
import pytest
import torch
from mlflow.tracking import MlflowClient

from behavior_lib.inference.encoder import BUNDLE_FILES
from behavior_lib.models.build import load_model
from behavior_lib.registry import CHALLENGER, SOURCE, START_MODEL, TAUGHT_BY, TAUGHT_LABELS, Registry
from behavior_lib.spark.schema import rows_frame
from behavior_lib.spark.tables import Tables
from behavior_lib.tables import EVENT_TYPES, ITEMS
from tests.jobs.small_source import TRAINING, failure
from tests.sequences_example import frame, habits, histories, write

pytestmark = [pytest.mark.spark, pytest.mark.distributed]
N_ITEMS = 30
TIME = datetime(2020, 1, 1, tzinfo=timezone.utc)


def fill(spark, folder, numbers, seed):
    """sequences, items and event types, whose item `name n` has the number numbers[n]."""
    lists, own = habits(40, 12, N_ITEMS, seed)
    there = [[[int(numbers[item - 3]) for item in row] for row in rows] for rows in (lists, own)]
    write(
        folder / "sequences",
        frame(histories(there[0], 12), "train"),
        frame(histories(there[0], 12), "validation", [sorted(items) for items in there[1]]),
    )
    tables = Tables(spark, str(folder))
    known = {ITEMS.n_events: 1, ITEMS.known_from: TIME, ITEMS.first_seen: TIME, ITEMS.last_seen: TIME}
    items = [
        {ITEMS.item_id: f"name {place}", ITEMS.item_index: int(number), ITEMS.attributes: None, **known}
        for place, number in enumerate(numbers)
    ]
    tables.insert(ITEMS, rows_frame(spark, ITEMS, items))
    kinds = [{EVENT_TYPES.event_type: "view", EVENT_TYPES.type_index: 3}]
    tables.insert(EVENT_TYPES, rows_frame(spark, EVENT_TYPES, kinds))


def test_a_model_begins_with_one_of_another_warehouse(spark, shop, source):
    numbers = 3 + np.random.default_rng(4).permutation(N_ITEMS)
    fill(spark, shop.root / "warehouse", 3 + np.arange(N_ITEMS), 1)
    fill(spark, shop.root / "elsewhere", numbers, 2)
    first = shop.run("train", source(), *TRAINING, "mlflow.model_name=one", "train.profile=true")
    assert first["exit_code"] == 0, first["stderr"]
    assert f"is the artifact trace/trace.json of MLflow run {first['mlflow_run_id']}" in first["stderr"]
    # Where no step moves a weight, what is registered is what the run began with.
    there = (source(), *TRAINING, "mlflow.model_name=two", f"paths.warehouse={shop.root / 'elsewhere'}")
    begun = (*there, "train.start_model=one@challenger", "train.learning_rate=1e-30")
    uri = f"sqlite:///{shop.root / 'var' / 'mlflow.db'}"
    MlflowClient(uri).set_model_version_tag("one", "1", TAUGHT_LABELS, '["a"]')
    second = shop.run("train", *begun)
    assert second["exit_code"] == 0, second["stderr"]
    assert "trace" not in second["stderr"]
    models = []
    for name in ("one", "two"):
        registry = Registry(uri, name)
        with registry.bundle(registry.find(CHALLENGER)) as folder:
            assert {path.name for path in folder.iterdir()} >= {*BUNDLE_FILES}
            models.append(load_model(folder))
    old, new = models
    known = [place for place in range(N_ITEMS) if old.known_items[3 + place] and new.known_items[numbers[place]]]
    assert len(known) > 20
    for place in known:
        assert torch.equal(new.items.weight[numbers[place]], old.items.weight[3 + place])
    assert torch.equal(new.encoder.input.gap.weight, old.encoder.input.gap.weight)
    assert torch.equal(new.repeat.network[0].weight, old.repeat.network[0].weight)
    version = Registry(uri, "two").find(CHALLENGER)
    assert version.tags[START_MODEL].startswith("one/1 ")
    assert version.taught_labels == ("a",)
    tags = MlflowClient(uri).get_run(second["mlflow_run_id"]).data.tags
    assert (tags[START_MODEL], tags[SOURCE], tags[TAUGHT_BY]) == (version.tags[START_MODEL], "shop", "train")
    assert shop.run("train", *begun)["status"] == "unchanged"

    assert failure(shop.run("train", *there, "train.start_model=one@chalenger")) == (
        2,
        "no such version in model one: 'chalenger'; give the number of a version, or an alias",
    )
    code, sentence = failure(shop.run("train", *there, "train.start_model=one@1", "model.dimension=32"))
    assert (code, "another architecture in train.start_model: {'dimension': 16}" in sentence) == (2, True)
    MlflowClient(uri).set_model_version_tag("one", "1", TAUGHT_BY, "refit")
    assert (
        "a refit has learned from what validation asks for in train.start_model: 'one@1'"
        in (failure(shop.run("train", *there, "train.start_model=one@1"))[1])
    )
    assert "trials start from no other model" in failure(shop.run("tune", *there, "train.start_model=one@1"))[1]

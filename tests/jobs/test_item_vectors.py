"""Vectors of the item file, from raw files to a registered model that needs nothing else, by the jobs alone."""

import random
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from behavior_lib.inference.encoder import Encoder
from behavior_lib.registry import CHALLENGER, Registry
from behavior_lib.tables import ITEMS
from tests.jobs.small_source import TRAINING, YAML, failure, line

pytestmark = [pytest.mark.spark, pytest.mark.distributed]
SETTINGS = (*TRAINING, "split.validation=2017-01-15", "split.test=2017-01-18")


def raw(n_users: int = 20, n_days: int = 20) -> bytes:
    draw, start = random.Random(1), datetime(2017, 1, 1)
    return b"".join(
        line(user=f"u{user}", item=f"i{draw.randrange(12)}", time=str(start + timedelta(days=day)))
        for user in range(n_users)
        for day in range(n_days)
    )


def test_a_model_learns_from_vectors_and_carries_them(shop, source):
    given = np.random.default_rng(2).normal(3, 2, (12, 5))
    names = [f"i{number}" for number in range(11)]  # i11 has none
    folder = shop.root / "dimension"
    folder.mkdir()
    table = {"sku": names, "embedding": pa.array(list(given[:11]), pa.list_(pa.float64()))}
    pq.write_table(pa.table(table), folder / "items.parquet")
    items = f"items:\n  format: parquet\n  path: {folder}\n  item_id: sku\n  vectors: {{text: embedding}}\n"
    setting = source(YAML + items, first_json=raw())
    for job in ("ingest", "sessionize", "build_sequences"):
        told = shop.run(job, setting, *SETTINGS)
        assert told["exit_code"] == 0, told["stderr"]
    code, sentence = failure(shop.run("train", setting, *SETTINGS, "model.item_vectors=[txt]"))
    assert (code, "no item has this vector in model.item_vectors: 'txt'; did you mean text?" in sentence) == (2, True)

    words = (setting, *SETTINGS, "model.item_vectors=[text]")
    tried = shop.run("train", *words, "train.dry_run=true")["metrics"]["parameters"]
    assert tried - shop.run("train", setting, *SETTINGS, "train.dry_run=true")["metrics"]["parameters"] == 16 * 5
    told = shop.run("train", *words)
    assert told["exit_code"] == 0, told["stderr"]
    registry = Registry(f"sqlite:///{shop.root / 'var' / 'mlflow.db'}", told["model_name"])
    with registry.bundle(registry.find(CHALLENGER)) as bundle:
        model = Encoder.load(bundle).model
    centred = given[:11] - given[:11].mean(0)
    centred /= np.linalg.norm(centred, axis=1).mean()
    index = {row.item_id: row.item_index for row in shop.tables.read(ITEMS).collect()}
    found = model.given.given.numpy()
    np.testing.assert_allclose(found[[index[name] for name in names]], centred, atol=1e-5)
    assert not found[[0, 1, 2, index["i11"]]].any()
    assert (model.given.projections["of_text"] != 0).all()
    assert model.spec.item_vectors == ["text"]
    difference = model.item_vectors() - model.items.weight - model.given.given @ model.given.projections["of_text"].T
    assert torch.allclose(difference, torch.zeros(()), atol=1e-6)
    assert shop.run("train", *words)["status"] == "unchanged"

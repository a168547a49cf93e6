"""A graph encoder by the jobs alone: its edges are those of the table, and it is refused where there are none."""

import random
from datetime import datetime, timedelta

import numpy as np
import pytest

from behavior_lib.data.item_graph import Graph
from behavior_lib.inference.encoder import Encoder
from behavior_lib.registry import CHALLENGER, Registry
from behavior_lib.tables import ITEM_GRAPH
from tests.jobs.small_source import TRAINING, YAML, failure, line

pytestmark = [pytest.mark.spark, pytest.mark.distributed]
SETTINGS = (
    *TRAINING,
    "model.name=gcn",
    "model.neighbours=4",
    "split.validation=2017-01-15",
    "split.test=2017-01-18",
)


def raw(n_users: int = 20, n_days: int = 20) -> bytes:
    """A walk over twelve items in a row, one a minute, three a day."""
    draw, lines = random.Random(1), []
    for user in range(n_users):
        item = draw.randrange(12)
        for number in range(3 * n_days):
            item = (item + draw.choice([1, 1, 2])) % 12
            time = datetime(2017, 1, 1) + timedelta(days=number // 3, minutes=number % 3)
            lines.append(line(user=f"u{user}", item=f"i{item}", time=str(time)))
    return b"".join(lines)


def test_a_graph_encoder_trains_with_the_edges_of_the_table(shop, source):
    setting = source(YAML, first_json=raw())
    for job in ("ingest", "sessionize", "build_sequences"):
        told = shop.run(job, setting, *SETTINGS)
        assert told["exit_code"] == 0, told["stderr"]
    assert "item_graph" not in told["tables"]
    code, sentence = failure(shop.run("train", setting, *SETTINGS))
    assert (code, sentence.partition(";")[0]) == (3, "gcn needs the item graph of these sequences in item_graph")
    told = shop.run("build_sequences", setting, *SETTINGS, "sequences.neighbours=5")
    assert told["exit_code"] == 0, told["stderr"]
    graph = Graph.resolve(shop.tables.location(ITEM_GRAPH), told["tables"]["item_graph"], "train")
    registry = Registry(f"sqlite:///{shop.root / 'var' / 'mlflow.db'}", "behavior-encoder")
    for kind in ("next", "session"):
        trained = shop.run("train", setting, *SETTINGS, f"model.graph={kind}")
        assert trained["exit_code"] == 0, trained["stderr"]
        with registry.bundle(registry.find(CHALLENGER)) as bundle:
            model = Encoder.load(bundle).model
        index, weight = graph.edges(kind, 4, 15)
        np.testing.assert_array_equal(model.item_graph().edge_index.numpy(), index)
        np.testing.assert_array_equal(model.item_graph().edge_weight.numpy(), weight)
        assert len(weight) > 15 + 2 * 12

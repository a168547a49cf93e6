"""Whom fine-tuning learns from: who has a label and an event before the cut, with the model's numbers."""

from datetime import datetime, timezone

import numpy as np
import pytest
import torch

from behavior_lib.errors import DataRefused
from behavior_lib.inference.encoder import read_bundle
from behavior_lib.inference.vocabulary import Vocabulary
from behavior_lib.models.base import ModelSpec
from behavior_lib.models.build import build_model, save_model
from behavior_lib.spark.embed import Serving
from behavior_lib.spark.fine_tune import gather_labelled
from behavior_lib.spark.labels import LABEL, KnownLabels
from behavior_lib.spark.schema import rows_frame
from behavior_lib.tables import EVENT_TYPES, ITEMS
from tests.spark.conftest import event

pytestmark = pytest.mark.spark

CUT, TIME = datetime(2017, 5, 1), datetime(2017, 4, 1, tzinfo=timezone.utc)


@pytest.fixture
def serving(spark, tmp_path):
    """The tables number apple 3 and pear 4, the model pear 3 and apple 4."""
    spec = ModelSpec("gru", length=2, window=2, n_items=5, n_event_types=4, dimension=4, layers=1)
    save_model(build_model(spec, torch.tensor([0, 0, 0, 1, 1])), tmp_path)
    Vocabulary.from_pairs([("pear", 3), ("apple", 4)], [("view", 3)]).save(tmp_path)
    known = {ITEMS.n_events: 1, ITEMS.known_from: TIME, ITEMS.first_seen: TIME, ITEMS.last_seen: TIME}
    items = [
        {ITEMS.item_id: name, ITEMS.item_index: index, ITEMS.attributes: None, **known}
        for name, index in (("apple", 3), ("pear", 4))
    ]
    types = [{EVENT_TYPES.event_type: "view", EVENT_TYPES.type_index: 3}]
    return Serving.of(read_bundle(tmp_path), rows_frame(spark, ITEMS, items), rows_frame(spark, EVENT_TYPES, types))


def test_users_are_as_they_stood_at_the_cut(spark, events, serving):
    log = events(
        event("u2", "2017-04-02T00:00:00", item_id="pear", value=2.0),
        event("u1", "2017-04-01T00:00:00", item_id="pear"),
        event("u1", "2017-04-02T00:00:00", item_id="apple"),
        event("u1", "2017-04-02T00:01:00", item_id="pear"),
        event("u1", "2017-05-01T00:00:00", item_id="apple"),
        event("without a label", "2017-04-02T00:00:00", item_id="pear"),
        event("too late", "2017-05-01T00:00:00", item_id="pear"),
    )
    told = [("u1", 1.0, None), ("u2", None, 7.5), ("without a label", None, None), ("too late", 1.0, 1.0)]
    rows = spark.createDataFrame(told, f"user_id string, {LABEL}old double, {LABEL}spent double")
    known = KnownLabels(rows, {"old": True, "spent": False})
    found = gather_labelled(log, CUT, known, serving, 10, 1)
    assert found.user_ids.tolist() == ["u1", "u2"]
    assert found.histories.item_index.tolist() == [[4, 3], [3, 0]]
    assert found.histories.gap_seconds.tolist() == [[86_400, 60], [0, 0]]
    assert found.histories.value.tolist() == [[0.0, 0.0], [2.0, 0.0]]
    assert found.histories.length.tolist() == [2, 1]
    old, spent = found.labels
    assert (old.name, old.is_binary, spent.name, spent.is_binary) == ("old", True, "spent", False)
    np.testing.assert_array_equal(old.values, [1.0, np.nan])
    np.testing.assert_array_equal(spent.values, [np.nan, 7.5])
    assert gather_labelled(log, CUT, known, serving, 1, 1).user_ids.size == 1
    with pytest.raises(DataRefused, match="nobody with an event before the cut has a label in users of the source"):
        gather_labelled(log, datetime(2017, 3, 1), known, serving, 10, 1)

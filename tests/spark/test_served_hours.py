"""Hours and weekdays of a served model: the same numbers from raw times as from the tables."""

from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from behavior_lib.inference.encoder import BUNDLE, Encoder, read_bundle
from behavior_lib.inference.raw import to_histories
from behavior_lib.inference.registered_model import BehaviorEncoder
from behavior_lib.inference.vocabulary import Vocabulary
from behavior_lib.models.base import ModelSpec
from behavior_lib.models.build import build_model, save_model
from behavior_lib.spark.collected import collect
from behavior_lib.spark.embed import Serving, user_embeddings
from behavior_lib.spark.evaluation import as_histories
from behavior_lib.spark.schema import rows_frame
from behavior_lib.spark.sequences import Shape, histories
from behavior_lib.tables import EVENT_TYPES, EVENTS, ITEMS, USER_EMBEDDINGS
from tests.spark.conftest import event

pytestmark = pytest.mark.spark

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
# Over midnight, and from a Sunday into Monday; whole seconds alone would hide how times are rounded.
TIMES = {
    "sunday": ["2017-04-01 23:59:59.7", "2017-04-02 00:00:00.1", "2017-04-02 23:59:58.6", "2017-04-03 00:00:00.5"],
    "noon": ["2017-04-05 12:00:00.0"],
}


@pytest.fixture(params=["mean", "bidirectional"])
def bundle(tmp_path, request):
    """A model that reads the newest three events, and no weight of which is 0."""
    sizes = {"length": 3, "window": 3, "n_items": 5, "n_event_types": 4, "dimension": 4, "layers": 1}
    objectives = {"masked_items": 1.0} if request.param == "bidirectional" else {"next_item": 1.0}
    spec = ModelSpec(request.param, **sizes, heads=1, use_hour=True, use_weekday=True, objectives=objectives)
    torch.manual_seed(3)
    model = build_model(spec, torch.tensor([0, 0, 0, 1, 1]))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    save_model(model, tmp_path)
    Vocabulary.from_pairs([("pear", 3), ("apple", 4)], [("view", 3)]).save(tmp_path)
    return tmp_path


@pytest.fixture
def log(events):
    rows = ((user, f"{time}00000") for user, times in TIMES.items() for time in times)
    return events(*(event(user, time, item_id="pear", value=2.0) for user, time in rows))


@pytest.fixture
def serving(spark, bundle):
    known = dict.fromkeys((ITEMS.known_from, ITEMS.first_seen, ITEMS.last_seen), EPOCH)
    items = [
        {ITEMS.item_id: name, ITEMS.item_index: index, ITEMS.attributes: None, ITEMS.n_events: 1, **known}
        for name, index in (("apple", 3), ("pear", 4))
    ]
    types = [{EVENT_TYPES.event_type: "view", EVENT_TYPES.type_index: 3}]
    return Serving.of(read_bundle(bundle), rows_frame(spark, ITEMS, items), rows_frame(spark, EVENT_TYPES, types))


def raw(user, **changes):
    """The user's history as other systems hold it."""
    times = [datetime.fromisoformat(f"{time}00000").replace(tzinfo=timezone.utc) for time in TIMES[user]]
    n = len(times)
    micros = [(time - EPOCH) // timedelta(microseconds=1) for time in times]
    row = {"item_id": ["pear"] * n, "event_type": ["view"] * n, "event_time": micros, "value": [2.0] * n}
    return {"user_id": user, **row, **changes}


def test_vectors_from_raw_times_are_those_of_the_tables(log, serving, bundle):
    embedded = collect(user_embeddings(log, serving)).set_index(USER_EMBEDDINGS.user_id)[USER_EMBEDDINGS.embedding]
    model = BehaviorEncoder()
    model.load_context(SimpleNamespace(artifacts={BUNDLE: bundle}))
    told = model.predict(None, pd.DataFrame([raw(user) for user in TIMES])).set_index("user_id")["embedding"]
    encoder = Encoder.load(bundle)
    rows = collect(histories(log, serving.vocabulary, None, Shape(3, 3))).set_index(EVENTS.user_id)
    for user in TIMES:
        stored = serving.shipment.value.numbers.histories(as_histories(rows.loc[[user]]))
        np.testing.assert_allclose(told[user], embedded[user], rtol=0, atol=1e-6)
        np.testing.assert_allclose(encoder.encode(stored)[0], embedded[user], rtol=0, atol=1e-6)
    # The same gaps at another hour, on another day, or at no known time are another vector.
    hour = [micros + 3_600_000_000 for micros in raw("noon")["event_time"]]
    day = [micros + 86_400_000_000 for micros in raw("noon")["event_time"]]
    others = [raw("noon", event_time=times) for times in (hour, day, None)]
    vectors = model.predict(None, pd.DataFrame(others))["embedding"]
    assert all(np.abs(vector - told["noon"]).max() > 1e-2 for vector in vectors)


def test_hours_of_raw_times_are_those_of_the_tables(log, serving, bundle):
    rows = as_histories(collect(histories(log, serving.vocabulary, None, Shape(3, 3)).orderBy(EVENTS.user_id)))
    columns = {name: [raw(user)[name] for user in sorted(TIMES)] for name in raw("noon")}
    own = to_histories(columns, Vocabulary.load(bundle), 3)
    for name in ("gap_seconds", "first_event_time", "length"):
        np.testing.assert_array_equal(getattr(own, name), getattr(rows, name))
    assert own.first_event_time.astype(str).tolist() == ["2017-04-05T12:00:00", "2017-04-02T00:00:00"]
    assert own.gap_seconds.tolist() == [[0, 0, 0], [1, 86_398, 2]]

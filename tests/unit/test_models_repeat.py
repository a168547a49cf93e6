"""Features of own items against a slow computation, event by event."""

import math

import numpy as np
import pytest
import torch

from behavior_lib.models.base import ModelSpec
from behavior_lib.models.batch import Batch
from behavior_lib.models.build import build_model
from behavior_lib.models.repeat import HALF_LIVES, INSTANT_HALF_LIVES, N_FEATURES, RepeatPath, own_items
from tests.sequences_example import histories

DAY = 86_400


def slow_features(items, gaps):
    """{item: features}, from the definition of each feature."""
    times, instants = np.cumsum(gaps) / DAY, np.cumsum([gap > 0 for gap in gaps])
    n_instants = instants[-1] + 1
    found = {}
    for item in set(items) - {2}:
        where = [place for place, other in enumerate(items) if other == item]
        ages = [times[-1] - times[place] for place in where]
        ago = [instants[-1] - instants[place] for place in where]
        count, age = len(where), min(ages)
        interval = (max(ages) - age) / max(1, count - 1)
        found[item] = [
            math.log1p(count),
            *(math.log(sum(0.5 ** (a / half) for a in ages) + 1e-3) for half in HALF_LIVES),
            *(math.log(sum(0.5 ** (a / half) for a in ago) + 1e-3) for half in INSTANT_HALF_LIVES),
            math.log1p(age),
            math.log1p(min(ago)),
            math.log1p(interval),
            math.log1p(max(0.0, age - interval)) if count > 1 else 0.0,
            1.0 if count == 1 else 0.0,
            math.log(count / (max(ago) + 1)),
            math.log(n_instants),
            math.log(len(items) / n_instants),
            math.log(len(set(items) - {2}) / len(items)),
        ]
    return found


@pytest.mark.parametrize("seed", range(20))
def test_features_are_those_of_the_definition(seed):
    random = np.random.default_rng(seed)
    n = int(random.integers(1, 30))
    items = [int(item) for item in random.integers(2, 9, n)]
    gaps = [0, *(int(gap) for gap in random.choice([0, 0, 3600, DAY, 9 * DAY], n - 1))]
    # A second, longer row makes the first one padded.
    batch = Batch.from_histories(histories([items, [3] * 40], 40, [gaps, [0] + [DAY] * 39]))
    own = own_items(batch)
    assert own.features.shape == (2, 40, N_FEATURES)
    expected = slow_features(items, gaps)
    slots = own.present[0].nonzero().squeeze(1)
    assert own.item[0, slots].tolist() == sorted(expected)
    for slot in slots.tolist():
        np.testing.assert_allclose(
            own.features[0, slot].numpy(), expected[int(own.item[0, slot])], rtol=2e-4, atol=2e-5
        )


def test_an_empty_history_has_no_own_item_and_finite_features():
    own = own_items(Batch.from_histories(histories([[]], 3)))
    assert not own.present.any()
    assert torch.isfinite(own.features).all()


def test_only_own_items_get_an_addend():
    torch.manual_seed(0)
    own = own_items(Batch.from_histories(histories([[5, 5, 2], [4]], 3)))
    path = RepeatPath(8)
    addend = path(own, torch.full((8,), -2.0), torch.zeros(own.item.shape))
    assert ((addend != 0) == own.present).all()
    assert own.present.sum(1).tolist() == [1, 1]
    assert float(path.shrinkage(own)) == 0.0


@pytest.mark.parametrize("items", [[2, 5], [2, 2, 6], [2, 2]])
def test_a_past_of_unknown_items_alone_has_a_finite_loss_and_gradient(items):
    torch.manual_seed(0)
    model = build_model(ModelSpec(name="mean", length=4, n_items=8, n_event_types=6), torch.arange(8))
    batch = model.prepare(Batch.from_histories(histories([items], 4, [[0, *[60] * (len(items) - 1)]])))
    loss = model.loss(batch, model.draw(batch, torch.Generator().manual_seed(0)))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(part.grad).all() for part in model.parameters() if part.grad is not None)

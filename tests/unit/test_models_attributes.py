"""What is known of items: a part of their vectors, and a path that scores what a user's items have in common."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn

from behavior_lib.data.attributes import number_values
from behavior_lib.models.attributes import ItemAttributes
from behavior_lib.models.base import ModelSpec
from behavior_lib.models.batch import Batch
from behavior_lib.models.build import build_model, load_model, save_model
from tests.sequences_example import histories

pytestmark = pytest.mark.usefixtures("one_thread")

N_ITEMS = 12
COUNTS = torch.tensor([0, 0, 0, 5, 1, 2, 8, 1, 0, 3, 4, 6])
# Two attributes: values 3 to 5, and 6 and 7. Item 11 has neither, item 9 only the second.
VALUES = torch.tensor([[0, 0]] * 3 + [[3, 6], [3, 7], [4, 6], [4, 7], [5, 6], [5, 6], [0, 7], [4, 6], [0, 0]])


def spec_of(**changes):
    values = {"name": "mean", "length": 8, "n_items": N_ITEMS, "n_event_types": 4, "window": 8, "dimension": 4}
    values |= {"layers": 1, "dropout": 0.0, "negatives": 8, "item_attributes": ["category", "brand"]}
    return ModelSpec(**{**values, "attribute_values": 8, **changes})


def model_of(seed=0, **changes):
    """No weight is left at 0."""
    torch.manual_seed(seed)
    model = build_model(spec_of(**changes), COUNTS, VALUES).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model


def batch_of(*lists):
    return Batch.from_histories(histories(lists, 8))


def test_an_item_s_vector_is_its_own_and_those_of_its_values():
    model = model_of()
    own, values = (each.weight.detach().numpy() for each in (model.items, model.attributes.vectors))
    expected = [own[item] + sum((values[value] for value in VALUES[item].tolist() if value), 0) for item in range(12)]
    np.testing.assert_allclose(model.item_vectors().detach().numpy(), np.stack(expected), atol=1e-6)


def test_the_item_table_is_added_up_once_a_loss_and_has_the_gradients_of_all_its_uses(monkeypatch):
    objectives = {"next_item": 1.0, "masked_items": 0.5, "sub_sequences": 0.5}
    model, batch = model_of(objectives=objectives), batch_of([3, 4, 5, 6, 7], [8, 9, 3, 3], [11, 4])
    batch = model.prepare(batch)
    drawn = model.draw(batch, torch.Generator().manual_seed(1))
    added, calls = model.attributes.added, []
    monkeypatch.setattr(model.attributes, "added", lambda: calls.append(1) or added())

    def gradients():
        model.zero_grad()
        model.loss(batch, drawn).backward()
        return {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}

    once = gradients()
    assert len(calls) == 1
    monkeypatch.setattr(model, "_one_item_table", nullcontext)
    torch.testing.assert_close(once, gradients())
    assert len(calls) > 4
    model.item_vectors()
    assert model._shared_table is None


def test_new_values_change_no_vector():
    new = build_model(spec_of(), COUNTS, VALUES)
    assert torch.equal(new.item_vectors(), new.items.weight)


def given_to_items(model, batch):
    return model.attributes.by_value(batch, model.log_share.exp())[:, VALUES].sum(2)


def counting(attributes, column):
    """Let the network of that attribute say log(1 + count) of each value, and the others 0."""
    for place, network in enumerate(attributes.networks):
        for layer in (network[0], network[2]):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        # GELU is x for large x: 20 is added in front of it and taken away behind it.
        network[0].weight.data[0, 0], network[0].bias.data[0] = 1.0, 20.0
        network[2].weight.data[0, 0], network[2].bias.data[0] = float(place == column), -20.0 * (place == column)


@pytest.mark.parametrize("column", [0, 1])
def test_all_items_of_a_value_get_what_the_user_s_events_of_it_give(column):
    model = model_of()
    counting(model.attributes, column)
    lists = [[3, 3, 4, 10, 11], [9], [11, 2], [7, 8, 5]]
    batch = model.prepare(batch_of(*lists))
    found = given_to_items(model, batch).detach().numpy()
    for row, items in zip(found, batch.item_index.tolist(), strict=True):
        had = [int(VALUES[item, column]) for item in items]
        for item in range(N_ITEMS):
            value = int(VALUES[item, column])
            # A value that the user's items do not have gets nothing.
            assert row[item] == pytest.approx(np.log1p(had.count(value)) if value and value in had else 0.0, abs=1e-5)


def test_scores_are_those_of_vectors_and_what_the_path_gives():
    model, batch, known = model_of(), batch_of([3, 4, 9], [6]), COUNTS > 0
    model.repeat = None
    whole = model.scores(batch)
    given = given_to_items(model, model.prepare(batch))
    assert given.abs().max() > 0.1
    model.attributes.networks = nn.ModuleList()
    torch.testing.assert_close(whole[:, known], (model.scores(batch) + given)[:, known], rtol=1e-5, atol=1e-5)


def test_without_the_repeat_path_values_are_in_the_vectors_alone():
    model = model_of(repeat_path=False)
    assert not model.attributes.is_scored
    users, batch = model.user_vectors(batch_of([3, 4, 9])), batch_of([3, 4, 9])
    expected = users @ model.item_vectors().T + model.bias
    torch.testing.assert_close(model.scores(batch)[:, COUNTS > 0], expected[:, COUNTS > 0], rtol=1e-5, atol=1e-5)


def test_padding_and_other_rows_change_nothing():
    model = model_of()
    alone = model.scores(batch_of([3, 4, 9]))
    together = model.scores(batch_of([3, 4, 9], [6, 7, 5, 3, 10, 11, 3, 4]))
    torch.testing.assert_close(together[:1], alone, rtol=1e-5, atol=1e-5)


def test_a_stored_model_has_its_values(tmp_path):
    model = model_of()
    save_model(model, tmp_path)
    batch = batch_of([3, 4, 9], [6, 11])
    assert torch.equal(load_model(tmp_path).scores(batch), model.scores(batch))


def test_values_are_numbered_by_attribute_then_name():
    item = np.array([3, 4, 5, 6, 7, 8, 20])
    category = np.array(["tea", "cola", "tea", "cola", "tea", "rum", "rum"], object)
    brand = np.array(["own", None, "", "own", "other", "other", "other"], object)
    counts = np.array([0, 0, 0, 1, 1, 1, 2, 0, 1, 7])
    # Item 7 is not in train, 20 beyond it: rum and other have one item each, and item 9 is not told of.
    expected = [[0, 0]] * 3 + [[4, 5], [3, 0], [4, 0], [3, 5], [4, 0], [0, 0], [0, 0]]
    assert number_values(item, [category, brand], counts).tolist() == [
        pair if index != 7 else [0, 0] for index, pair in enumerate(expected)
    ]


def test_the_gradient_reaches_values_through_vectors_and_path():
    model = model_of().train()
    batch = model.prepare(batch_of([3, 4, 9, 10, 6], [6, 7, 5, 3, 10]))
    model.loss(batch, model.draw(batch, torch.Generator().manual_seed(1))).backward()
    assert (model.attributes.vectors.weight.grad[3:].abs().sum(1) > 0).all()
    assert torch.equal(model.attributes.vectors.weight.grad[0], torch.zeros(4))
    assert all(network[0].weight.grad.abs().sum() > 0 for network in model.attributes.networks)


def test_without_attributes_nothing_is_there():
    assert build_model(spec_of(item_attributes=[], attribute_values=0), COUNTS).attributes is None
    assert isinstance(model_of().attributes, ItemAttributes)

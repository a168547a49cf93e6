"""Vectors of items that were made elsewhere: what is made of them, and that they tell what events do not."""

import numpy as np
import pytest
import torch
from torch import nn

from behavior_lib.data.vectors import vector_table
from behavior_lib.errors import DataRefused
from behavior_lib.models.base import ModelSpec
from behavior_lib.models.batch import Batch
from behavior_lib.models.build import build_model, load_model, save_model
from tests.encoders_example import NAMES, fill, objectives_of
from tests.sequences_example import histories

pytestmark = pytest.mark.usefixtures("one_thread")

N_ITEMS = 12
COUNTS = torch.tensor([0, 0, 0, 5, 1, 2, 8, 1, 0, 3, 4, 6])
WIDTHS = {"text": 3, "picture": 2}
GIVEN = torch.randn(N_ITEMS, 5, generator=torch.Generator().manual_seed(3)) * (COUNTS > 0)[:, None]


def spec_of(**changes):
    values = {"name": "mean", "length": 8, "n_items": N_ITEMS, "n_event_types": 4, "window": 8, "dimension": 4}
    values |= {"layers": 1, "dropout": 0.0, "negatives": 8, "objectives": objectives_of(changes.get("name", "mean"))}
    return ModelSpec(**{**values, "item_vectors": list(WIDTHS), "vector_widths": list(WIDTHS.values()), **changes})


def model_of(seed=0, **changes):
    """No weight is left at 0."""
    torch.manual_seed(seed)
    model = build_model(spec_of(**changes), COUNTS, given_vectors=GIVEN).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    fill(model.item_graph())
    return model


def batch_of(*lists):
    return Batch.from_histories(histories(lists, 8))


BATCH = batch_of([3, 4, 9, 10, 6], [6, 7, 5, 3, 10], [11])


def test_vectors_are_centred_and_of_mean_length_1_over_the_items_of_train():
    vectors = [np.array(each, np.float32) for each in ([3, 4], [-1, 0], [9, 9], [0, 7], [1, 2])]
    index, counts = np.array([7, 3, 20, 6, 4]), np.array([0, 0, 0, 2, 1, 1, 0, 9])
    # Items 3, 4 and 7 have one and are in train; 5 is and has none, 6 is not, 20 is beyond it.
    known = np.array([[-1, 0], [1, 2], [3, 4]]) - np.array([1, 2])
    length = (np.sqrt(8) + 0 + np.sqrt(8)) / 3
    found = vector_table("text", ["g", "c", "x", "f", "d"], index, vectors, counts)
    expected = np.zeros((8, 2))
    expected[[3, 4, 7]] = known / length
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-7)
    turned = [4, 2, 0, 3, 1]
    again = vector_table("text", list("dxgfc"), index[turned], [vectors[place] for place in turned], counts)
    np.testing.assert_array_equal(again, found)


def test_an_item_without_a_vector_has_the_zero_vector_and_no_part_in_the_mean():
    found = vector_table("t", ["a", "b", "c"], np.array([3, 4, 5]), [np.ones(1, "f"), None, -np.ones(1, "f")], COUNTS)
    assert found[3:6].tolist() == [[1.0], [0.0], [-1.0]]


def test_what_all_vectors_share_says_nothing():
    alike = [np.array([0.1, number], np.float32) for number in (1, 2, 3)]
    found = vector_table("text", ["a", "b", "c"], np.array([3, 4, 5]), alike, COUNTS)
    assert not found[:, 0].any()
    np.testing.assert_allclose(found[3:6, 1], np.array([-1, 0, 1]) * 1.5, atol=1e-6)
    assert not vector_table("text", ["a"], np.array([3]), alike[:1], COUNTS).any()


@pytest.mark.parametrize(
    ("vector", "sentence"),
    [
        ([1, 2, 3], "is empty or not as wide as that of item 'a', 2 in items.vectors.text: 3; give all"),
        ([], "is empty or not as wide as that of item 'a', 2 in items.vectors.text: 0; give all"),
        ([1, np.nan], "holds a null or a number that is not finite in items.vectors.text: nan; give it"),
        ([-np.inf, 1], "holds a null or a number that is not finite in items.vectors.text: -inf; give it"),
    ],
)
def test_what_is_no_vector_is_refused_with_its_item(vector, sentence):
    index = np.array([9, 3])  # also of an item that train does not have
    vectors = [np.array(values, np.float32) for values in (vector, [1, 2])]
    with pytest.raises(DataRefused, match=f"the vector of item 'b' {sentence}"):
        vector_table("text", ["b", "a"], index, vectors, COUNTS[:6].numpy())


def test_an_item_s_vector_is_its_own_and_the_projections_of_those_given():
    model = model_of()
    text, picture = (model.given.projections[f"of_{name}"].detach().numpy() for name in WIDTHS)
    own, given = model.items.weight.detach().numpy(), GIVEN.numpy()
    expected = own + given[:, :3] @ text.T + given[:, 3:] @ picture.T
    np.testing.assert_allclose(model.item_vectors().detach().numpy(), expected, atol=1e-6)


def test_a_new_model_is_what_it_would_be_without_them():
    models = []
    for changes in ({}, {"item_vectors": [], "vector_widths": []}):
        torch.manual_seed(0)
        models.append(build_model(spec_of(**changes), COUNTS, given_vectors=GIVEN).eval())
    given, plain = models
    assert plain.given is None
    assert set(given.state_dict()) - set(plain.state_dict()) == {
        "given.given",
        "given.projections.of_text",
        "given.projections.of_picture",
    }
    assert all(torch.equal(weight, given.state_dict()[name]) for name, weight in plain.state_dict().items())
    assert torch.equal(given.scores(BATCH), plain.scores(BATCH))


@pytest.mark.parametrize("name", NAMES)
def test_every_encoder_reads_them_in_the_item_table(name):
    model, own = model_of(name=name), model_of(name=name, item_vectors=[], vector_widths=[])
    own.load_state_dict({name: value for name, value in model.state_dict().items() if not name.startswith("given.")})
    own.items.weight.data = model.item_vectors().detach()
    torch.testing.assert_close(model.scores(BATCH), own.scores(BATCH))
    model.given.given.zero_()
    assert (model.user_vectors(BATCH) - own.user_vectors(BATCH)).abs().max() > 1e-3


def test_a_stored_model_has_them(tmp_path):
    model = model_of()
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert torch.equal(loaded.given.given, GIVEN)
    assert torch.equal(loaded.item_vectors(), model.item_vectors())
    assert torch.equal(loaded.scores(BATCH), model.scores(BATCH))


def test_the_gradient_reaches_every_projection_and_no_given_number():
    model = model_of().train()
    batch = model.prepare(BATCH)
    model.loss(batch, model.draw(batch, torch.Generator().manual_seed(1))).backward()
    assert all((weight.grad != 0).any() for weight in model.given.projections.values())
    assert "given.given" not in dict(model.named_parameters())


@pytest.mark.parametrize(("reads_them", "low", "high"), [(True, 0.9, 1.0), (False, 0.3, 0.7)])
def test_they_teach_what_events_do_not_tell(reads_them, low, high):
    """Users stay in one of three groups of items. Nine items of each were had often; nine others came once, alone."""
    random = np.random.default_rng(0)
    group = np.arange(54) % 3
    often, once = np.arange(27) + 3, np.arange(27, 54) + 3
    lists = [random.choice(often[group[:27] == row % 3], 8).tolist() for row in range(90)]
    batch = batch_of(*lists, *([item] for item in once))
    told = torch.zeros(57, 6)
    told[3:] = torch.eye(6)[group] + torch.from_numpy(random.normal(0, 0.2, (54, 6))).float()
    changes = {"n_items": 57, "dimension": 8, "repeat_path": False, "negatives": 64, "vector_widths": [6]}
    changes["item_vectors"] = ["text"]
    if not reads_them:
        changes |= {"item_vectors": [], "vector_widths": []}
    torch.manual_seed(0)
    counts = torch.bincount(batch.item_index.flatten(), minlength=57)
    model = build_model(spec_of(**changes), counts, given_vectors=told if reads_them else None)
    optimizer, generator = torch.optim.Adam(model.parameters(), 0.03), torch.Generator().manual_seed(0)
    for _ in range(90):
        prepared = model.prepare(batch)
        optimizer.zero_grad()
        model.loss(prepared, model.draw(prepared, generator)).backward()
        optimizer.step()
    with torch.no_grad():
        scores = (model.user_vectors(batch_of(*lists)) @ model.item_vectors().T)[:, once].numpy()
    own = (np.arange(90) % 3)[:, None] == group[27:]
    right = [(row[mine][:, None] > row[~mine]).mean() for row, mine in zip(scores, own, strict=True)]
    assert low < np.mean(right) <= high

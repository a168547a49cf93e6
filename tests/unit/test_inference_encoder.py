"""A model with its vocabulary: vectors and next items do not depend on neighbours, padding or the road they took."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from behavior_lib.data.histories import Histories
from behavior_lib.errors import DataRefused
from behavior_lib.inference.encoder import BUNDLE_FILES, Encoder, read_bundle
from behavior_lib.inference.vocabulary import Vocabulary
from behavior_lib.models.base import ModelSpec
from behavior_lib.models.build import FAMILIES, build_model, save_model
from tests.encoders_example import fill, objectives_of
from tests.sequences_example import widened

pytestmark = pytest.mark.usefixtures("one_thread")

N_ITEMS, LENGTH, UNSEEN = 60, 24, 7
VOCABULARY = Vocabulary.from_pairs([(f"item {index}", index) for index in range(3, 80)], [("view", 3), ("buy", 4)])


def new_model(name, **objectives):
    torch.manual_seed(11)
    counts = torch.arange(N_ITEMS)
    counts[UNSEEN] = 0
    spec = ModelSpec(
        name,
        length=LENGTH,
        window=16,
        n_items=N_ITEMS,
        n_event_types=5,
        dimension=16,
        layers=1,
        heads=2,
        objectives={**objectives_of(name), **objectives},
    )
    built = build_model(spec, counts)
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    fill(built.item_graph())
    return built.eval()


@pytest.fixture(scope="module")
def model():
    return new_model("transformer_repeat")


@pytest.fixture(scope="module")
def encoder(model):
    return Encoder(model, VOCABULARY)


def histories(n, seed=0, lengths=None, width=LENGTH):
    random = np.random.default_rng(seed)
    length = random.integers(0, width + 1, n) if lengths is None else np.asarray(lengths)
    present = np.arange(width) < length[:, None]

    def integers(low, high):
        return np.where(present, random.integers(low, high, (n, width)), 0).astype(np.int32)

    value = np.where(present, random.random((n, width)), 0).astype(np.float32)
    begins = np.datetime64("2019-07-01T00:00:00") + random.integers(0, 10**6, n)
    return Histories(integers(2, 79), integers(2, 5), integers(0, 10**6), value, length.astype(np.int32), begins)


@pytest.mark.parametrize("name", FAMILIES)
def test_vectors_do_not_depend_on_the_batch(name):
    encoder = Encoder(new_model(name), VOCABULARY)
    given = histories(700)
    together = encoder.encode(given)
    assert together.shape == (700, 16)
    assert together.dtype == np.float32
    alone = np.concatenate([encoder.encode(given.rows(slice(row, row + 1))) for row in range(0, 700, 20)])
    np.testing.assert_allclose(together[::20], alone, rtol=0, atol=1e-5)
    backwards = encoder.encode(given.rows(np.arange(699, -1, -1)))
    np.testing.assert_allclose(together, backwards[::-1], rtol=0, atol=1e-5)


def test_vectors_do_not_depend_on_the_width_of_the_padding(encoder):
    given = histories(20)
    np.testing.assert_allclose(encoder.encode(given), encoder.encode(widened(given, 9)), rtol=0, atol=1e-5)


def test_what_is_foretold_does_not_depend_on_the_batch(encoder):
    model = new_model("transformer_repeat", next_type=1.0, next_time=1.0)
    given = histories(600)
    together = Encoder(model, VOCABULARY).foretold(given)
    assert {name: (said.shape, said.dtype) for name, said in together.items()} == {
        "next_type": ((600,), np.int64),
        "next_time": ((600,), np.float32),
    }
    assert len(set(together["next_type"])) > 1
    for row in range(0, 600, 60):
        alone = Encoder(model, VOCABULARY).foretold(given.rows(slice(row, row + 1)))
        assert alone["next_type"] == together["next_type"][row]
        np.testing.assert_allclose(alone["next_time"], together["next_time"][row], rtol=1e-5, atol=1e-5)
    assert encoder.foretold(given) == {}


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_vectors_and_popularity_are_what_a_score_is_made_of_beside_the_paths(similarity):
    made = new_model("transformer_repeat")
    spec = replace(made.spec, similarity=similarity, temperature=0.2, blend=True)
    torch.manual_seed(3)
    blended = build_model(spec, made.item_counts).eval()
    torch.nn.init.normal_(blended.blend.weights)
    encoder, given = Encoder(blended, VOCABULARY), histories(9, lengths=range(1, 10))
    assert encoder.is_cosine == (similarity == "cosine")
    factor, addend = encoder.product_terms()
    parts = encoder.score_parts(given, encoder.known_items)
    products = encoder.encode(given) @ encoder.item_vectors().T
    np.testing.assert_allclose(factor * products, parts["vectors"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.tile(addend, (9, 1)), parts["popularity"], rtol=1e-5, atol=1e-5)


def test_no_event_is_the_zero_vector_and_no_next_item(encoder):
    given = histories(3, lengths=[0, 5, 0])
    vectors = encoder.encode(given)
    assert not vectors[[0, 2]].any()
    assert vectors[1].any()
    names, scores = encoder.next_items(given, 4)
    assert [len(row) for row in names] == [len(row) for row in scores] == [0, 4, 0]
    assert encoder.encode(histories(0)).shape == (0, 16)
    assert encoder.next_items(histories(0), 3) == ([], [])


def test_next_items_are_the_best_known_ones(encoder, model):
    given = histories(40, seed=2, lengths=[9] * 40)
    names, scores = encoder.next_items(given, 5)
    matrix = encoder.scores(given)
    assert matrix.shape == (40, N_ITEMS)
    for row in range(40):
        order = sorted(range(N_ITEMS), key=lambda index: (-matrix[row, index], index))[:5]
        assert names[row] == [f"item {index}" for index in order]
        assert scores[row] == pytest.approx([matrix[row, index] for index in order], abs=1e-5)
    assert np.isneginf(matrix[:, [0, 1, 2, UNSEEN]]).all()


def test_more_items_than_there_are_gives_all_that_are_known(encoder):
    names, _ = encoder.next_items(histories(2, lengths=[3, 4]), 1000)
    assert [len(row) for row in names] == [N_ITEMS - 4] * 2
    assert f"item {UNSEEN}" not in names[0]


def test_k_below_one_is_refused(encoder):
    with pytest.raises(DataRefused, match="k must be at least 1 in params: 0"):
        encoder.next_items(histories(1), 0)


def test_item_vectors_are_those_of_the_known_items(encoder, model):
    assert encoder.known_items.tolist() == [index for index in range(3, N_ITEMS) if index != UNSEEN]
    expected = model.item_vectors().detach().numpy()[encoder.known_items]
    assert np.array_equal(encoder.item_vectors(), expected)


@pytest.mark.parametrize("name", FAMILIES)
def test_folder_and_bytes_give_the_same_encoder(name, tmp_path):
    model = new_model(name)
    encoder = Encoder(model, VOCABULARY)
    save_model(model, tmp_path)
    VOCABULARY.save(tmp_path)
    given = histories(30, seed=4)
    files = read_bundle(tmp_path)
    assert sorted(files) == sorted(BUNDLE_FILES)
    for other in (Encoder.load(tmp_path), Encoder.load(str(tmp_path)), Encoder.from_bytes(files)):
        assert np.array_equal(other.encode(given), encoder.encode(given))
        assert other.next_items(given, 3) == encoder.next_items(given, 3)
        assert other.vocabulary == VOCABULARY


@pytest.mark.parametrize("missing", BUNDLE_FILES)
def test_an_incomplete_folder_is_refused(model, tmp_path, missing):
    save_model(model, tmp_path)
    VOCABULARY.save(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(DataRefused, match="train again"):
        Encoder.load(tmp_path)
    with pytest.raises(DataRefused, match="no whole model"):
        read_bundle(tmp_path)


@pytest.mark.parametrize("change", [{"dimension": 8}, {"depth": 2}])
def test_a_model_of_other_code_is_refused_in_one_sentence(model, tmp_path, change):
    save_model(model, tmp_path)
    VOCABULARY.save(tmp_path)
    description = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps({**description, **change}))
    with pytest.raises(DataRefused, match="the model does not fit this version of the code") as refused:
        Encoder.load(tmp_path)
    assert "\n" not in str(refused.value)


def test_a_model_of_another_vocabulary_is_refused(model):
    with pytest.raises(DataRefused, match="the model knows items that have no name"):
        Encoder(model, Vocabulary.from_pairs([("only", 3)], []))

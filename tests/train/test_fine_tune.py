"""Fine-tuning on planted labels: a frozen and a trained encoder learn them, and nothing else changes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from behavior_lib.data.histories import Histories, unknown_times
from behavior_lib.errors import TrainingFailed
from behavior_lib.evaluation.probes_folds import TEST_FOLD, TRAIN_FOLD, VALIDATION_FOLD
from behavior_lib.inference.encoder import Encoder
from behavior_lib.inference.labels import LABEL_BUNDLE_FILES, LabelPredictor
from behavior_lib.inference.vocabulary import Vocabulary
from behavior_lib.models.base import ModelSpec
from behavior_lib.models.build import build_model, save_model
from behavior_lib.train.fine_tune import FineTuneSettings, LabelledUsers, fine_tune, vectors_of

pytestmark = pytest.mark.usefixtures("one_thread")

N, N_ITEMS = 160, 12
SETTINGS = FineTuneSettings(
    encoder="frozen",
    epochs=60,
    patience=8,
    batch_size=16,
    learning_rate=0.03,
    encoder_learning_rate=0.001,
    weight_decay=0.0,
    hidden=0,
    seed=5,
)


def new_model():
    torch.manual_seed(1)
    spec = ModelSpec("gru", length=6, n_items=N_ITEMS, n_event_types=4, window=6, dimension=12, layers=1)
    return build_model(spec, torch.arange(N_ITEMS)).eval()


@pytest.fixture(scope="module")
def users():
    """Whose newest item is 7 or more; how many of the six events have item 3; and a label that is known of a few."""
    random = np.random.default_rng(2)
    items = random.integers(3, N_ITEMS, (N, 6)).astype(np.int32)
    zeros, length = np.zeros((N, 6), np.int32), np.full(N, 6, np.int32)
    histories = Histories(
        items, np.full((N, 6), 3, np.int32), zeros, zeros.astype(np.float32), length, unknown_times(N)
    )
    newest, threes = items[:, -1] >= 7, (items == 3).sum(1)
    values = np.stack([newest, threes, np.where(np.arange(N) % 3 == 0, newest, np.nan)], 1).astype(np.float32)
    fold = np.where(np.arange(N) % 4 == 0, TEST_FOLD, np.where(np.arange(N) % 4 == 1, VALIDATION_FOLD, TRAIN_FOLD))
    return LabelledUsers(histories, ("newest", "threes", "some"), np.array([True, False, True]), values, fold)


def test_a_frozen_encoder_tells_what_was_planted_and_stays_as_it_was(users):
    model = new_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tuned = fine_tune(model, users, SETTINGS)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    answers, test = tuned.answers, users.of(TEST_FOLD)
    for label, least in ((0, 0.85), (2, 0.75)):  # of the second a third is known
        right = (answers[test, label] > 0.5) == (users.values[test, 0] == 1)
        assert right.mean() >= least
    assert tuned.losses.validation[tuned.losses.best - 1] == min(tuned.losses.validation)


def test_a_trained_encoder_learns_what_its_vectors_did_not_tell(users):
    frozen, trained = new_model(), new_model()
    settings = replace(SETTINGS, encoder="trained")
    one, other = fine_tune(frozen, users, SETTINGS), fine_tune(trained, users, settings)
    assert min(other.losses.validation) < 0.7 * min(one.losses.validation)
    assert not torch.equal(trained.items.weight, frozen.items.weight)
    assert not trained.training
    # An item that nobody of train has, and what has no part in vectors, stays.
    assert torch.equal(trained.items.weight[:3], frozen.items.weight[:3])
    assert torch.equal(trained.bias, frozen.bias)


@pytest.mark.parametrize("rate", [0.001, 1.0])
def test_the_best_epoch_is_kept_and_patience_ends_it(users, rate):
    """At a rate that breaks the encoder, what the head alone had learned is kept."""
    model, alone = new_model(), new_model()
    frozen = fine_tune(alone, users, replace(SETTINGS, patience=3))
    assert len(frozen.losses.train) == frozen.losses.best + 3 < SETTINGS.epochs
    settings = replace(SETTINGS, encoder="trained", encoder_learning_rate=rate, patience=3)
    tuned = fine_tune(model, users, settings)
    assert tuned.losses.train[: len(frozen.losses.train)] == frozen.losses.train
    rows = users.of(VALIDATION_FOLD)
    loss = tuned.head.loss(vectors_of(model, users.histories.rows(rows)), torch.from_numpy(users.values[rows]))
    assert float(loss.detach()) == pytest.approx(min(tuned.losses.validation), abs=1e-6)
    assert torch.equal(tuned.before, frozen.before)
    if rate == 1.0:
        assert tuned.losses.best == frozen.losses.best
        assert len(tuned.losses.train) == len(frozen.losses.train) + 3
        assert torch.equal(model.items.weight, alone.items.weight)
        np.testing.assert_array_equal(tuned.answers, frozen.answers)
    else:
        assert tuned.losses.best > len(frozen.losses.train)


@pytest.mark.parametrize("mode", ["frozen", "trained"])
def test_one_seed_gives_one_model_and_nothing_outside_is_drawn(users, mode):
    settings = replace(SETTINGS, encoder=mode, epochs=2, hidden=4)
    found = [fine_tune(new_model(), users, one).answers for one in (settings, settings)]
    assert np.array_equal(*found)
    other = fine_tune(new_model(), users, replace(settings, seed=6)).answers
    assert not np.array_equal(found[0], other)
    model, drawn = new_model(), []
    for is_between in (False, True):
        torch.manual_seed(0)
        if is_between:
            fine_tune(model, users, settings)
        drawn.append(torch.rand(3))
    assert torch.equal(*drawn)


def test_test_users_are_not_looked_at(users):
    values = users.values.copy()
    values[users.of(TEST_FOLD)] = 1 - values[users.of(TEST_FOLD)]
    found = [
        fine_tune(new_model(), each, replace(SETTINGS, epochs=3)).answers
        for each in (users, replace(users, values=values))
    ]
    assert np.array_equal(*found)


def test_a_loss_that_is_no_number_ends_it(users):
    with pytest.raises(TrainingFailed, match=r"the loss is not a number in epoch 1: .*; lower fine_tune.learning_rate"):
        fine_tune(new_model(), users, replace(SETTINGS, learning_rate=float("inf")))


def test_what_was_saved_gives_the_same_answers(users, tmp_path):
    model = new_model()
    tuned = fine_tune(model, users, replace(SETTINGS, encoder="trained", epochs=2))
    save_model(model, tmp_path)
    tuned.head.save(tmp_path)
    Vocabulary.from_pairs([(f"item {index}", index) for index in range(3, N_ITEMS)], [("view", 3)]).save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(LABEL_BUNDLE_FILES)
    predictor = LabelPredictor.load(tmp_path)
    assert predictor.names == users.names
    np.testing.assert_allclose(predictor.predict(users.histories), tuned.answers, rtol=0, atol=1e-5)
    without = users.histories.rows(np.arange(2))
    without.length[0] = 0
    told = predictor.predict(without)
    assert np.isnan(told[0]).all()
    assert np.isfinite(told[1]).all()
    assert isinstance(predictor.encoder, Encoder)

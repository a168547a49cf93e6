"""What holds for every history: padding, the future, unseen items and order inside an instant do no harm."""

import json

import numpy as np
import pytest
import torch

from behavior_lib.errors import ConfigError, DataRefused
from behavior_lib.models.base import ModelSpec
from behavior_lib.models.batch import Batch
from behavior_lib.models.build import build_model, load_model, save_model
from behavior_lib.models.causal import START
from behavior_lib.models.repeat import own_items
from behavior_lib.models.transformer import CausalTransformer
from tests.sequences_example import histories

pytestmark = pytest.mark.usefixtures("one_thread")

N_ITEMS, LENGTH = 20, 16
COUNTS = torch.tensor([0, 5, 5, *[4] * 15, 0, 4])  # item 18 is not in train


def model(seed=0, **changes):
    values = {"name": "transformer_repeat", "length": LENGTH, "n_items": N_ITEMS, "n_event_types": 5}
    values |= {"window": 8, "dimension": 16, "layers": 2, "heads": 2, "negatives": 32, "boundaries": 3}
    torch.manual_seed(seed)
    built = build_model(ModelSpec(**{**values, **changes}), COUNTS).eval()
    if built.repeat is not None:
        torch.nn.init.normal_(built.repeat.propensity.weight)
    return built


def random_rows(seed, n=6, longest=LENGTH):
    random = np.random.default_rng(seed)
    lists = [[int(item) for item in random.integers(3, N_ITEMS, random.integers(1, longest + 1))] for _ in range(n)]
    gaps = [[0, *(int(gap) for gap in random.choice([0, 60, 86_400], len(items) - 1))] for items in lists]
    return lists, gaps


def batch_of(lists, gaps, length=LENGTH):
    return Batch.from_histories(histories(lists, length, gaps))


@pytest.mark.parametrize("seed", range(5))
def test_padding_never_changes_a_result(seed):
    lists, gaps = random_rows(seed)
    built = model(seed)
    narrow, wide = batch_of(lists, gaps), batch_of(lists, gaps, 3 * LENGTH)
    noise = ~wide.present
    for tensor in (wide.item_index, wide.event_type, wide.gap_seconds):
        tensor[noise] = 7
    wide.value[noise] = 7.0
    torch.testing.assert_close(built.scores(wide), built.scores(narrow))
    torch.testing.assert_close(built.user_vectors(wide), built.user_vectors(narrow))
    for row in range(len(lists)):
        alone = batch_of([lists[row]], [gaps[row]], len(lists[row]))
        torch.testing.assert_close(built.scores(alone)[0], built.scores(narrow)[row], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_the_future_never_changes_a_past_state(seed):
    lists, gaps = random_rows(seed, n=4)
    built = model(seed)
    encoder: CausalTransformer = built.encoder
    whole = encoder(batch_of(lists, gaps), built.items.weight)
    for row, items in enumerate(lists):
        for cut in range(1, len(items) + 1):
            past = encoder(batch_of([items[:cut]], [gaps[row][:cut]]), built.items.weight)
            torch.testing.assert_close(past[0, :cut], whole[row, :cut], rtol=1e-4, atol=1e-5)


def test_training_states_are_those_of_each_window_on_its_own():
    lists, gaps = random_rows(3, n=3)
    built = model()
    states = built.states(batch_of(lists, gaps))
    for row, items in enumerate(lists):
        for start in range(0, len(items), 8):
            window = batch_of([items[start : start + 8]], [[0, *gaps[row][start + 1 : start + 8]]], 8)
            alone = built.encoder(window, built.items.weight)[0, : int(window.length)]
            torch.testing.assert_close(states[row, start : start + 8][: len(alone)], alone, rtol=1e-4, atol=1e-5)


def test_only_the_newest_length_events_count():
    lists, _ = random_rows(1, n=1, longest=1)
    tail, tail_gaps = [5, 6, 7, 5] * 4, [0, *[3600] * 15]
    built = model()
    long = batch_of([lists[0] * 9 + tail], [[0] * 9 + tail_gaps], 40)
    torch.testing.assert_close(built.scores(long), built.scores(batch_of([tail], [tail_gaps])))


def test_unseen_indexes_are_read_as_unknown_and_never_recommended():
    built = model(use_value=False)  # the example's values follow the items
    unknown, unseen, beyond = (batch_of([[4, item, 5]], [[0, 9, 9]]) for item in (2, 18, 500))
    torch.testing.assert_close(built.scores(unseen), built.scores(unknown))
    torch.testing.assert_close(built.scores(beyond), built.scores(unknown))
    candidates = torch.isfinite(built.scores(unknown)[0]).nonzero().squeeze(1).tolist()
    assert candidates == [*range(3, 18), 19]
    assert built.known_items.nonzero().squeeze(1).tolist() == candidates


def test_an_event_type_beyond_train_is_unknown():
    built = model()
    known, strange = batch_of([[4, 5]], [[0, 9]]), batch_of([[4, 5]], [[0, 9]])
    known.event_type[:], strange.event_type[:] = 2, 77
    known.event_type[0, 2:], strange.event_type[0, 2:] = 0, 0
    torch.testing.assert_close(built.scores(strange), built.scores(known))


def test_the_repeat_path_does_not_see_order_inside_an_instant():
    gaps = [[0, 0, 0, 86_400, 0]]
    first, second = (own_items(batch_of([items], gaps)) for items in ([3, 4, 5, 6, 7], [5, 3, 4, 7, 6]))
    assert torch.equal(first.item, second.item)
    assert torch.equal(first.features, second.features)


def test_an_empty_history_has_the_zero_vector():
    built = model()
    assert built.user_vectors(batch_of([[]], [[]])).abs().sum() == 0
    assert torch.isfinite(built.scores(batch_of([[]], [[]]))[0, 3:18]).all()


def loss_of(built, batch, seed=0):
    prepared = built.prepare(batch)
    return built.loss(prepared, built.draw(prepared, torch.Generator().manual_seed(seed)))


def test_the_loss_is_decided_by_the_generator_alone():
    lists, gaps = random_rows(2)
    built = model()
    losses = [float(loss_of(built, batch_of(lists, gaps), seed)) for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


def test_rows_of_one_instant_teach_nothing():
    loss = loss_of(model(), batch_of([[3, 4], [5]], [[0, 0], [0]]))
    loss.backward()
    assert float(loss) == 0.0


@pytest.mark.parametrize("repeat_path", [True, False])
def test_the_loss_reaches_every_parameter(repeat_path):
    lists, gaps = random_rows(4)
    built = model(repeat_path=repeat_path)
    loss_of(built, batch_of(lists, gaps)).backward()
    assert [name for name, parameter in built.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("flag", ["use_event_type", "use_gap", "use_value"])
def test_each_input_can_be_left_out(flag):
    first = batch_of([[3, 4, 5]], [[0, 60, 60]])
    second = batch_of([[3, 4, 5]], [[0, 60, 60]])
    {"use_event_type": second.event_type, "use_gap": second.gap_seconds, "use_value": second.value}[flag][0, 1] = 4
    with_it, without = model(), model(**{flag: False})
    assert not torch.equal(with_it.user_vectors(first), with_it.user_vectors(second))
    torch.testing.assert_close(without.user_vectors(first), without.user_vectors(second))


def test_a_saved_model_scores_the_same(tmp_path):
    built, batch = model(), batch_of(*random_rows(9))
    for parameter in built.repeat.parameters():
        torch.nn.init.normal_(parameter)  # so that every feature counts, the items' shares in train among them
    save_model(built, tmp_path)
    loaded = load_model(tmp_path)
    assert torch.equal(loaded.item_counts, built.item_counts)
    assert loaded.spec == built.spec
    assert torch.equal(loaded.scores(batch), built.scores(batch))
    assert torch.equal(loaded.known_items, built.known_items)


OLDER_KEYS = ("name", "length", "n_items", "n_event_types", "window", "dimension", "layers", "heads", "dropout")
OLDER_KEYS += ("repeat_path", "use_event_type", "use_gap", "use_value", "negatives", "boundaries")
BLOCK = ("attention_norm.weight", "attention_norm.bias", "query_key_value.weight", "out.weight")
BLOCK += tuple(f"feed_forward.{part}.{kind}" for part in (0, 1, 3) for kind in ("weight", "bias"))
OLDER_WEIGHTS = [
    *("bias", "item_counts", "items.weight"),
    *(f"encoder.input.{part}.weight" for part in ("event_type", "gap", "value")),
    *(f"encoder.blocks.{layer}.{part}" for layer in (0, 1) for part in BLOCK),
    *("encoder.norm.weight", "encoder.norm.bias"),
    *(f"repeat.network.{part}.{kind}" for part in (0, 2) for kind in ("weight", "bias")),
    "repeat.propensity.weight",
]


def test_a_model_saved_when_it_was_the_only_one_is_still_the_same(tmp_path):
    built, batch = model(), batch_of(*random_rows(9))
    assert list(built.state_dict()) == OLDER_WEIGHTS
    save_model(built, tmp_path)
    description = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps({key: description[key] for key in OLDER_KEYS}))
    assert torch.equal(load_model(tmp_path).scores(batch), built.scores(batch))
    # The loss that these weights and draws had when this was the only model, and parts of events were not small.
    with torch.no_grad():
        for part in (built.encoder.input.event_type, built.encoder.input.gap, built.encoder.input.value):
            part.weight /= START
    assert float(loss_of(built, batch).detach()) == pytest.approx(6.0574322, rel=1e-5)


def test_transformer_is_another_name_of_it():
    batch = batch_of(*random_rows(9))
    assert torch.equal(model().scores(batch), model(name="transformer").scores(batch))


def test_an_unknown_model_and_a_torn_file_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="known: transformer_repeat, transformer, gru"):
        model(name="word2vec")
    save_model(model(), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(DataRefused, match="no whole model"):
        load_model(tmp_path)

"""What holds for every encoder: padding does not count nor, where it is causal, the future; it learns what it can."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from behavior_lib.layout import conf_root
from behavior_lib.models.batch import Batch
from behavior_lib.models.build import build_model, load_model, save_model
from behavior_lib.models.encoders import ENCODERS
from tests.encoders_example import CAUSAL, N_ITEMS, VARIANTS, WINDOW, encoder_of, fill, noise, replaced, rows, spec_of
from tests.sequences_example import MONDAY, histories

pytestmark = pytest.mark.usefixtures("one_thread")

COUNTS = torch.tensor([0, 0, 5, *[4] * (N_ITEMS - 3)])
MEANS = ["mean", "mean, discounted"]
SETS = ["transformer", "transformer, learned", "transformer, time", "hstu", "mean"]


def model_of(variant, seed=0, **changes):
    torch.manual_seed(seed)
    model = build_model(spec_of(variant, negatives=64, boundaries=3, **changes), COUNTS)
    fill(model.item_graph())
    return model


def loss_of(model, batch):
    prepared = model.prepare(batch)
    return model.loss(prepared, model.draw(prepared, torch.Generator().manual_seed(1)))


def test_every_encoder_has_its_file_of_configuration():
    assert {path.stem for path in (conf_root() / "models").glob("*.yaml")} == set(ENCODERS)


@pytest.mark.parametrize("variant", VARIANTS)
def test_there_is_a_state_after_every_event_at_any_width(variant):
    encoder, vectors = encoder_of(variant)
    for columns in range(1, WINDOW + 1):
        batch = rows(columns, n=3, columns=columns)
        states = encoder(batch, vectors)
        assert states.shape == (3, columns, 8)
        assert states.isfinite().all()
        assert encoder(batch.rows(torch.arange(0)), vectors).shape == (0, columns, 8)


def test_what_is_known_of_time_is_small_beside_the_item_at_the_start():
    torch.manual_seed(0)
    parts = build_model(spec_of("mean", dimension=64), COUNTS).encoder.input
    for part in (parts.gap, parts.hour, parts.weekday):
        assert float(part.weight[1:].std()) == pytest.approx(0.02, rel=0.2)
    assert parts.event_type.weight.abs().max() < 0.1
    assert parts.value.weight.abs().max() <= 0.02
    assert not parts.hour.weight[0].any()
    assert not parts.weekday.weight[0].any()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_changes_no_bit(variant, seed):
    encoder, vectors = encoder_of(variant, seed)
    batch = rows(seed)
    states = encoder(batch, vectors)
    padding = encoder(replaced(batch, noise(seed + 100, 5), ~batch.present), vectors)
    assert torch.equal(padding[batch.present], states[batch.present])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("variant", CAUSAL)
def test_what_comes_later_changes_no_bit(variant, seed):
    encoder, vectors = encoder_of(variant, seed)
    batch, other = rows(seed), noise(seed + 100, 5)
    states = encoder(batch, vectors)
    for cut in range(WINDOW):
        later = (torch.arange(WINDOW) >= cut).expand(5, WINDOW)
        changed = encoder(replaced(batch, other, later), vectors)
        assert torch.equal(changed[:, :cut], states[:, :cut])
        assert not torch.equal(changed[1, cut], states[1, cut])


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_state_does_not_depend_on_the_width_or_on_other_rows(variant):
    encoder, vectors = encoder_of(variant)
    batch = rows(7)
    states = encoder(batch, vectors)
    for row in range(1, len(batch)):
        whole = int(batch.length[row])
        for length in range(1, whole + 1) if variant in CAUSAL else [whole] * (whole > 0):
            alone = batch.rows(torch.tensor([row])).cut(torch.tensor([length])).newest(length)
            torch.testing.assert_close(encoder(alone, vectors)[0], states[row, :length], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variant", SETS)
def test_the_order_of_what_came_before_inside_an_instant_does_not_count(variant):
    encoder, vectors = encoder_of(variant, layers=1, use_gap=False)
    batch = noise(3, 1, 7)
    batch.gap_seconds[0] = torch.tensor([0, 60, 0, 0, 0, 86_400, 0])
    swapped = batch.rows(torch.tensor([0]))
    order = torch.tensor([0, 3, 1, 2, 4, 5, 6])
    for tensor in (swapped.item_index, swapped.event_type, swapped.value, swapped.hour_of_week):
        tensor[0] = tensor[0, order]
    before, after = encoder(batch, vectors)[0], encoder(swapped, vectors)[0]
    torch.testing.assert_close(after[[0, 4, 5, 6]], before[[0, 4, 5, 6]], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(after[1], before[1])


@pytest.mark.parametrize("columns", [WINDOW, 2 * WINDOW])
@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_that_fill_their_windows_have_the_states_that_they_have_beside_others(variant, columns):
    model, batch = model_of(variant).eval(), noise(4, 3, columns)
    beside = batch.cut(torch.tensor([columns, 1, columns]))
    states = model.states(batch)
    torch.testing.assert_close(states[[0, 2]], model.states(beside)[[0, 2]], rtol=1e-5, atol=1e-5)
    if variant in CAUSAL:
        torch.testing.assert_close(states[1, :1], model.states(beside)[1, :1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("repeat_path", [True, False])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_loss_reaches_every_weight(variant, repeat_path):
    model = model_of(variant, repeat_path=repeat_path, dropout=0.0)
    for parameter in model.encoder.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.4)
    loss_of(model, rows(5, n=40)).backward()
    assert [name for name, parameter in model.named_parameters() if not (parameter.grad != 0).any()] == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_saved_model_gives_the_same_vectors(variant, tmp_path):
    model = model_of(variant).eval()
    batch = rows(6)
    vectors = model.user_vectors(batch)
    assert vectors[0].tolist() == [0.0] * 8  # an empty history
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.spec == model.spec
    assert torch.equal(loaded.user_vectors(batch), vectors)
    assert torch.equal(loaded.scores(batch), model.scores(batch))


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_seed_decides_weights_and_dropout(variant):
    def states(seed, dropout=0.5):
        model = model_of(variant, seed, dropout=dropout).train()
        torch.manual_seed(seed)
        return model.states(rows(2))

    assert torch.equal(states(1), states(1))
    assert not torch.equal(states(1), states(2))
    assert not torch.equal(states(1), states(1, dropout=0.0))


def cycles(n, length):
    """Six items in a ring: each event says what the next one is, and how often each was seen says nothing of it."""
    return [[3 + (start + step) % 6 for step in range(length)] for start in range(6) for _ in range(n // 6)]


def tastes(n, length):
    """Users of six items in two halves, who buy one of their own three: the history says which, its order nothing."""
    draws = torch.randint(3, (n, length), generator=torch.Generator().manual_seed(4))
    return (3 + draws + 3 * (torch.arange(n) % 2)[:, None]).tolist()


def learned(variant, item_lists, steps=60):
    """The loss after so many steps on these rows; without a history's help it cannot be below log(6)."""
    batch = Batch.from_histories(histories(item_lists, WINDOW))
    return float(loss_of(taught(variant, batch, steps, use_hour=False, use_weekday=False), batch).detach())


def taught(variant, batch, steps, **changes):
    """A small model after so many steps on these rows."""
    model = model_of(variant, seed=1, dimension=16, layers=1, dropout=0.0, repeat_path=False, **changes)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        optimizer.step()
    return model


@pytest.mark.parametrize("variant", [variant for variant in CAUSAL if variant not in MEANS])
def test_it_learns_what_follows_what(variant):
    assert learned(variant, cycles(24, 10)) < 0.1 * math.log(6)


@pytest.mark.parametrize("variant", MEANS)
def test_a_mean_learns_whose_items_they_are_and_no_order(variant):
    assert math.log(3) - 0.2 < learned(variant, tastes(24, 10)) < (math.log(3) + math.log(6)) / 2
    assert learned(variant, cycles(24, 10)) > 0.5 * math.log(6)


STEP = {"use_hour": np.timedelta64(8, "h"), "use_weekday": np.timedelta64(2, "D")}


@pytest.mark.parametrize("planted", STEP)
@pytest.mark.parametrize("variant", VARIANTS)
def test_what_only_the_clock_tells_is_learned_by_who_can_read_it(variant, planted):
    """All rows begin with one item; what comes a day later goes by the hour, or by the weekday, of that beginning."""
    kinds = np.arange(12) % 3
    items = [[3, 4 + int(kind)] for kind in kinds]
    batch = Batch.from_histories(histories(items, 2, starts=MONDAY + kinds * STEP[planted]))
    right = {}
    for read in ((), *((name,) for name in STEP)):
        model = taught(variant, batch, 60, **{name: name in read for name in STEP}).eval()
        scores = model.scores(batch.cut(torch.ones(12, dtype=torch.int64)))[:, 4:7]
        right[read] = int((scores.argmax(1) == torch.from_numpy(kinds)).sum())
    assert right == {read: 12 if read == (planted,) else 4 for read in right}


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_event_whose_hour_is_not_known_adds_nothing(variant):
    torch.manual_seed(1)
    encoder, batch = ENCODERS[spec_of(variant).name](spec_of(variant)), rows(3)
    for table in (encoder.input.hour, encoder.input.weekday):
        assert not table.weight[0].any()
        assert table.weight[1:].any(1).all()
    encoder.input(batch, torch.randn(N_ITEMS, 8)).sum().backward()
    assert not encoder.input.hour.weight.grad[0].any()
    assert not encoder.input.weekday.weight.grad[0].any()


@pytest.mark.parametrize("variant", VARIANTS)
def test_without_them_hours_change_nothing_and_no_weight_is_another(variant):
    off = {"use_hour": False, "use_weekday": False, "dropout": 0.0}
    model, other = model_of(variant, **off), model_of(variant, use_hour=True, use_weekday=False, dropout=0.0)
    added = {"encoder.input.hour.weight"}
    assert {name for name, _ in other.named_parameters()} - {name for name, _ in model.named_parameters()} == added
    batch = rows(5)
    assert torch.equal(model.states(replaced_hours(batch)), model.states(batch))
    assert not torch.equal(other.states(replaced_hours(batch)), other.states(batch))


def replaced_hours(batch):
    return replace(batch, hour_of_week=noise(9, len(batch)).hour_of_week * batch.present)

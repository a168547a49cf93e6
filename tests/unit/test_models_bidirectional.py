"""An encoder that looks both ways: what it may be asked, what it is asked at a history's end, and what it learns."""

import math
from dataclasses import replace

import pytest
import torch

from behavior_lib.config import load
from behavior_lib.data.snapshot import TrainCounts
from behavior_lib.errors import ConfigError
from behavior_lib.models.base import ModelSpec
from behavior_lib.models.batch import Batch
from behavior_lib.models.build import build_model
from behavior_lib.models.objectives.chosen import OBJECTIVES
from behavior_lib.tables.items import MASK_INDEX
from behavior_lib.train.plan import plan
from tests.encoders_example import BOTH_WAYS, N_ITEMS, WINDOW, noise, replaced, rows, spec_of
from tests.sequences_example import histories

pytestmark = pytest.mark.usefixtures("one_thread")

COUNTS = torch.tensor([0, 0, 0, *[4] * (N_ITEMS - 3)])
CAUSAL_ONLY = ("next_item", "next_session", "later_items", "next_type", "next_time", "next_value")


def model_of(variant="bidirectional", **changes):
    torch.manual_seed(1)
    changes = {"length": 3 * WINDOW, "dropout": 0.0, "negatives": 64, "boundaries": 2, **changes}
    return build_model(spec_of(variant, **changes), COUNTS)


def test_a_hidden_event_comes_after_the_newest():
    batch = Batch.from_histories(histories([[5, 6, 7], [8], []], 4, [[0, 60, 60], [0], []]))
    asked = batch.with_hidden_next()
    assert asked.item_index.tolist() == [[5, 6, 7, 1, 0], [8, 1, 0, 0, 0], [1, 0, 0, 0, 0]]
    assert asked.event_type.tolist() == [[3, 3, 3, 1, 0], [3, 1, 0, 0, 0], [1, 0, 0, 0, 0]]
    assert asked.gap_seconds.tolist() == [[0, 60, 60, 1, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0]]
    assert asked.value[0].tolist() == [5 / 8, 6 / 8, 7 / 8, 0, 0]
    assert asked.length.tolist() == [4, 2, 1]


@pytest.mark.parametrize("variant", BOTH_WAYS)
def test_the_user_is_the_state_of_the_hidden_event_behind_the_newest_of_the_window(variant):
    model = model_of(variant).eval()
    batch = model.prepare(rows(5, n=6, columns=3 * WINDOW))
    assert batch.length.tolist()[:2] == [0, 3 * WINDOW]
    users = model.user_vectors(batch)
    assert users[0].tolist() == [0.0] * 8
    for row in batch.length.nonzero().flatten().tolist():
        alone = batch.rows(torch.tensor([row])).newest(WINDOW - 1).with_hidden_next()
        assert alone.columns <= WINDOW
        expected = model.encoder(alone, model.items.weight)[0, -1]
        torch.testing.assert_close(users[row], expected, rtol=1e-5, atol=1e-5)


def test_every_place_that_is_asked_at_a_history_s_end_is_taught():
    model = model_of("bidirectional, learned")
    lists = [[4 + place % 5 for place in range(3 * WINDOW)]] * 4
    gaps = [[0, *[60] * (3 * WINDOW - 1)]] * 4
    batch = model.prepare(Batch.from_histories(histories(lists, 3 * WINDOW, gaps)))
    model.loss(batch, model.draw(batch, torch.Generator().manual_seed(0))).backward()
    assert model.encoder.learned.weight.grad.abs().sum(1).gt(0).tolist() == [True] * WINDOW


@pytest.mark.parametrize("variant", BOTH_WAYS)
def test_what_a_reader_leaves_behind_the_end_of_a_history_changes_no_score(variant):
    model = model_of(variant).eval()
    batch = rows(6)
    for cut in range(WINDOW):
        length = batch.length.clamp(max=cut)
        behind = (torch.arange(WINDOW) >= cut).expand(len(batch), WINDOW)
        unclean = replace(replaced(batch, noise(7, len(batch)), behind), length=length)
        assert torch.equal(model.scores(unclean), model.scores(batch.cut(length)))


@pytest.mark.parametrize("variant", BOTH_WAYS)
def test_the_repeat_path_learns_on_histories_that_are_cut_at_their_ends(variant):
    """With no hidden event the loss is the repeat path's alone; its logits must come from the past of each end."""
    model = model_of(variant).eval()
    batch = model.prepare(Batch.from_histories(histories([[5, 6, 7, 5, 6, 9, 8], [9, 4, 9]], WINDOW)))
    drawn = dict(model.draw(batch, torch.Generator().manual_seed(1)))
    drawn["masked_items.masked"] = torch.zeros_like(drawn["masked_items.masked"])
    drawn["boundaries"] = torch.tensor([2])
    loss = model.loss(batch, drawn)
    own = [5, 6, 7]
    past = Batch.from_histories(histories([own], WINDOW))
    scores = model.scores(past)[0]
    expected = scores.logsumexp(0) - scores[5]  # the item after the third event
    used = model.repeat.propensity.weight[own].square().mean()
    torch.testing.assert_close(loss, expected + 0.3 * used, rtol=1e-4, atol=1e-5)
    batch.item_index[0, 4:7], batch.item_index[1, :3] = 10, 11
    torch.testing.assert_close(model.loss(batch, drawn), loss)


def between():
    """Three events; both neighbours decide the middle one, and one of them leaves three that are alike."""
    return [[3 + first, 6 + 3 * first + last, 3 + last] for first in range(3) for last in range(3)]


@pytest.mark.parametrize(("name", "learns"), [("bidirectional", True), ("transformer", False)])
def test_it_learns_what_stands_between_two_events_and_a_causal_one_does_not(name, learns):
    spec = {"dimension": 16, "layers": 1, "repeat_path": False, "objectives": {"next_item": 0.0, "masked_items": 1.0}}
    model = model_of(name, loss="softmax", use_hour=False, use_weekday=False, **spec)
    batch = model.prepare(Batch.from_histories(histories(between(), 3)))
    drawn = dict(model.draw(batch, torch.Generator().manual_seed(1)))
    drawn["masked_items.masked"] = torch.tensor([[False, True, False]]).expand(len(batch), -1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(200):
        optimizer.zero_grad()
        loss = model.loss(batch, drawn)
        loss.backward()
        optimizer.step()
    assert (float(loss.detach()) < 0.1 * math.log(3)) == learns
    assert learns or float(loss.detach()) > math.log(3) - 1e-3


def test_a_hidden_event_at_the_end_is_filled_with_what_comes_next():
    """Learned from rings whose hidden events lie anywhere; asked behind histories of other lengths."""
    model = model_of(dimension=16, layers=1, repeat_path=False, loss="softmax")
    rings = [[3 + (start + step) % 6 for step in range(10)] for start in range(6)]
    batch = model.prepare(Batch.from_histories(histories(rings * 4, WINDOW)))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(300):
        optimizer.zero_grad()
        model.loss(batch, model.draw(batch, torch.Generator().manual_seed(step))).backward()
        optimizer.step()
    asked = Batch.from_histories(histories([ring[:length] for ring in rings for length in (4, 6, 9)], WINDOW))
    expected = torch.tensor([3 + (start + length) % 6 for start in range(6) for length in (4, 6, 9)])
    assert (model.eval().scores(asked).argmax(1) == expected).sum() >= 16


def test_it_hides_the_whole_newest_instant_where_it_hides_the_end_alone():
    lists, gaps = [[3, 4, 5, 6, 7]] * 4_000, [[0, 0, 60, 0, 0]] * 4_000
    batch = Batch.from_histories(histories(lists, 5, gaps))
    ends = {}
    for name in ("bidirectional", "transformer"):
        objective = OBJECTIVES["masked_items"](ModelSpec(name, 5, N_ITEMS, 6), COUNTS)
        masked = objective.draw(batch, torch.Generator().manual_seed(2))["masked"]
        ends[name] = float((masked == torch.tensor([False, False, True, True, True])).all(1).float().mean())
    assert ends["bidirectional"] == pytest.approx(0.1, abs=0.03)
    assert ends["transformer"] < 0.02


@pytest.mark.parametrize("name", CAUSAL_ONLY)
def test_what_it_would_have_seen_it_is_not_asked(name):
    assert [key for key, each in OBJECTIVES.items() if each.needs_causal] == list(CAUSAL_ONLY[1:])
    sentence = (
        rf"the objective {name} asks for what the encoder bidirectional has seen.*model\.objectives\.{name}: 0\.5"
    )
    with pytest.raises(ConfigError, match=sentence + r".*--set model\.objectives\.masked_items=1"):
        model_of(objectives={"next_item": 0.0, "masked_items": 1.0, name: 0.5})
    assert model_of("transformer", objectives={"next_item": 0.0, "masked_items": 1.0, name: 0.5}).is_causal


def planned(tmp_path, *changes):
    paths = [f"paths.{name}={tmp_path / name}" for name in ("raw", "warehouse", "var")]
    return plan(load("test", "train", [*paths, *changes]).config, TrainCounts(COUNTS.numpy(), 4, 8, 30, 10), tmp_path)


def test_its_file_says_what_it_learns_and_more_can_be_added(tmp_path):
    run = planned(tmp_path, "model.name=bidirectional", "model.objectives.sub_sequences=0.1")
    assert run.spec.objectives == {"next_item": 0.0, "masked_items": 1.0, "sub_sequences": 0.1}
    with pytest.raises(ConfigError, match="the objective next_time asks for what the encoder bidirectional has seen"):
        planned(tmp_path, "model.name=bidirectional", "model.objectives.next_time=0.1")


def test_a_window_without_room_beside_the_hidden_event_is_refused():
    with pytest.raises(ConfigError, match="needs a window of 2: 1; --set model.window=2"):
        model_of(window=1)


def test_all_that_it_may_learn_reaches_every_weight():
    objectives = {name: 0.1 for name, each in OBJECTIVES.items() if not each.needs_causal}
    model = model_of(objectives=objectives)
    batch = model.prepare(rows(5, n=20))
    model.loss(batch, model.draw(batch, torch.Generator().manual_seed(1))).backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []
    assert model.items.weight.grad[MASK_INDEX].abs().sum() > 0


def test_a_batch_of_one_user_has_a_loss_that_can_be_learnt_from():
    """What sets users apart has nothing to say of one; training goes on all the same."""
    for name in ("bidirectional", "transformer"):
        model = model_of(name, objectives={"sub_sequences": 1.0}, repeat_path=False)
        batch = model.prepare(rows(5, n=2))
        loss = model.loss(batch, model.draw(batch, torch.Generator().manual_seed(1)))
        loss.backward()
        assert (float(loss.detach()), float(model.items.weight.grad.abs().sum())) == (0.0, 0.0)


def test_a_hidden_event_does_not_show_its_hour():
    model = model_of(objectives={"masked_items": 1.0}, repeat_path=False).eval()
    batch = model.prepare(rows(5, n=6))
    drawn = model.draw(batch, torch.Generator().manual_seed(1))
    other = torch.where(drawn["masked_items.masked"], 1 + batch.hour_of_week % 168, batch.hour_of_week)
    assert not torch.equal(other, batch.hour_of_week)
    assert torch.equal(model.loss(replace(batch, hour_of_week=other), drawn), model.loss(batch, drawn))
    shown = torch.where(drawn["masked_items.masked"], batch.hour_of_week, 1 + batch.hour_of_week % 168)
    assert not torch.equal(model.loss(replace(batch, hour_of_week=shown), drawn), model.loss(batch, drawn))

"""What each objective draws and asks, against numpy and by hand; what it learns: test_models_objectives_planted.py."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from behavior_lib.errors import ConfigError
from behavior_lib.models.base import ModelSpec
from behavior_lib.models.batch import Batch
from behavior_lib.models.build import build_model, load_model, save_model
from behavior_lib.models.objectives.base import Task
from behavior_lib.models.objectives.chosen import OBJECTIVES
from behavior_lib.models.objectives.contrastive import contrastive_loss, nt_xent
from tests.sequences_example import histories

pytestmark = pytest.mark.usefixtures("one_thread")
N_ITEMS, DIMENSION = 12, 8
COUNTS = torch.tensor([0, 0, 0, 8, 4, 2, 1, 1, 1, 1, 1, 1])
SPEC = ModelSpec(name="stub", length=16, n_items=N_ITEMS, n_event_types=6, dimension=DIMENSION)
LISTS = [[3, 4, 5, 6, 7, 8, 9, 10], [5], [], [11, 3, 11, 3, 4], [6, 7]]
GAPS = [[0, 60, 0, 86_400, 60, 0, 0, 60], [0], [], [0, 60, 60, 60, 60], [0, 60]]


class Stub(nn.Module):
    """A state is the running mean of the items' vectors so far; the loss is the full softmax."""

    def __init__(self):
        super().__init__()
        self.items = nn.Embedding(N_ITEMS, DIMENSION)

    def states(self, batch):
        vectors = self.items(batch.item_index) * batch.present[..., None]
        return vectors.cumsum(1) / torch.arange(1, batch.columns + 1)[:, None]

    def newest_states(self, batch):
        newest = (batch.length - 1).clamp(min=0)
        return self.states(batch)[torch.arange(len(batch)), newest] * (batch.length > 0)[:, None]

    def item_vectors(self):
        return self.items.weight

    def item_logits(self, states, items):
        return torch.einsum("md,mcd->mc", states, self.items.weight[items])

    def item_loss(self, states, owner, targets, drawn):
        logits = states[owner] @ self.items.weight.T
        return nn.functional.cross_entropy(logits, targets, reduction="sum") / max(1, len(targets))


def batch_of(lists=LISTS, gaps=GAPS):
    return Batch.from_histories(histories(lists, 8, gaps))


def prepared(name, lists=LISTS, gaps=GAPS, seed=0):
    """A fresh objective, and its task on the batch."""
    torch.manual_seed(seed)
    model, objective, batch = Stub(), OBJECTIVES[name](SPEC, COUNTS), batch_of(lists, gaps)
    drawn = objective.draw(batch, torch.Generator().manual_seed(seed))
    return objective, Task(model, batch, model.states(batch), drawn)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_what_is_drawn_follows_from_the_generator_alone(name):
    objective, task = prepared(name, seed=3)
    again = objective.draw(task.batch, torch.Generator().manual_seed(3))
    assert task.drawn.keys() == again.keys()
    assert all(torch.equal(task.drawn[key], again[key]) for key in again)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_padding_does_not_matter(name):
    objective, task = prepared(name)
    noisy = batch_of()
    for tensor in (noisy.item_index, noisy.event_type, noisy.gap_seconds, noisy.value, noisy.hour_of_week):
        tensor[~noisy.present] = 5
    drawn = {key: value.clone() for key, value in task.drawn.items()}
    other = Task(task.model, noisy, task.model.states(noisy), drawn)
    torch.testing.assert_close(objective(other), objective(task))


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("lists", [[[]], [[3]], [[3], [4]]])
def test_a_batch_with_nothing_to_learn_from_has_a_finite_loss(name, lists):
    objective, task = prepared(name, lists, [[0] * len(items) for items in lists])
    assert math.isfinite(float(objective(task).detach()))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_part_of_it_has_a_gradient_and_the_loss_of_one_draw_falls(name):
    starts = np.random.default_rng(0).integers(3, N_ITEMS, 24)
    lists = [[3 + int(start + step) % 9 for step in range(8)] for start in starts]
    objective, task = prepared(name, lists, [[0, *[7200] * 7] for _ in lists])
    optimizer = torch.optim.Adam([*objective.parameters(), *task.model.parameters()], lr=0.05)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = objective(Task(task.model, task.batch, task.model.states(task.batch), task.drawn))
        loss.backward()
        assert all(each.grad is not None for each in objective.parameters())
        assert float(task.model.items.weight.grad.abs().sum()) > 0
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.05


def test_pieces_of_one_user_are_alike_by_numpy():
    random = np.random.default_rng(1)
    vectors, owner = random.normal(size=(8, 3)), np.array([0, 1, 2, 3, 0, 1, 2, 3])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    near, apart = [], []
    for a in range(8):
        others = sorted(np.linalg.norm(unit[a] - unit[b]) for b in range(8) if owner[b] != owner[a])
        apart += [max(0.0, 0.5 - distance) ** 2 for distance in others[:5]]
        near += [np.sum((unit[a] - unit[b]) ** 2) for b in range(8) if owner[b] == owner[a] and b != a]
    found = contrastive_loss(torch.from_numpy(vectors), torch.from_numpy(owner))
    assert float(found) == pytest.approx(np.mean(near) + np.mean(apart))
    two = contrastive_loss(torch.eye(2).repeat(2, 1), torch.tensor([0, 1, 0, 1]))
    assert float(two) == pytest.approx(0, abs=1e-9)


def test_changes_of_one_user_are_alike_by_numpy():
    random = np.random.default_rng(2)
    first, second = random.normal(size=(2, 3, 4))
    unit = np.concatenate([first, second])
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    expected = []
    for a in range(6):
        similar = np.exp(unit @ unit[a] / 0.2)
        expected.append(-np.log(similar[(a + 3) % 6] / (similar.sum() - similar[a])))
    found = nt_xent(torch.from_numpy(first), torch.from_numpy(second), 0.2)
    assert float(found) == pytest.approx(np.mean(expected))


def covered_by_spans(position):
    """How likely one of the spans that begin at or before a position of a row reaches it."""
    begins = 0.2 / sum(0.8**length for length in range(10))
    return 1 - math.prod(1 - begins * 0.8**before for before in range(min(position + 1, 10)))


@pytest.mark.parametrize(("name", "chosen"), [("masked_items", lambda _: 0.2), ("masked_spans", covered_by_spans)])
def test_hidden_events_are_a_fifth_single_or_in_runs(name, chosen):
    lists = [[3] * 8 for _ in range(4_000)]
    _, task = prepared(name, lists, [[0] * 8 for _ in lists])
    masked = task.drawn["masked"]
    assert masked.any(1).all()
    for position in range(7):
        # One event of each row is hidden whatever is chosen; a tenth of the rows hide the newest alone.
        expected = 0.9 * (1 - (1 - chosen(position)) * 7 / 8)
        assert float(masked[:, position].float().mean()) == pytest.approx(expected, abs=0.03)
    in_runs = float((masked[:, 1:7] & masked[:, :6]).float().mean())
    assert (in_runs > 0.08) == (name == "masked_spans")


def test_a_hidden_event_keeps_its_time_and_loses_item_and_value(monkeypatch):
    objective, task = prepared("masked_items")
    task.batch.value[:] = 2.0
    task.drawn["masked"].zero_()
    task.drawn["masked"][0, 2:4] = task.drawn["masked"][3, 4] = True
    read, asked = [], []
    monkeypatch.setattr(task.model, "states", lambda batch: read.append(batch) or task.states)
    monkeypatch.setattr(task.model, "item_loss", lambda *told: asked.append(told) or torch.zeros(()))
    objective(task)
    assert read[0].item_index[0].tolist() == [3, 4, 1, 1, 7, 8, 9, 10]
    assert read[0].value[0].tolist() == [2, 2, 0, 0, 2, 2, 2, 2]
    assert torch.equal(read[0].gap_seconds, task.batch.gap_seconds)
    states, owner, targets, _ = asked[0]
    assert (targets.tolist(), owner.tolist()) == ([5, 6, 4], [0, 1, 2])
    torch.testing.assert_close(states, task.states[[0, 0, 3], [2, 3, 4]])


@pytest.mark.parametrize("seed", range(10))
def test_sub_sequences_are_pieces_of_a_quarter_to_three_quarters(seed):
    _, task = prepared("sub_sequences", seed=seed)
    row, start, length = (task.drawn[key] for key in ("row", "start", "length"))
    assert row.tolist() == [0, 3, 4, 0, 3, 4]
    size = task.batch.length[row]
    assert bool((start >= 0).all() and (start + length <= size).all())
    assert bool((length >= (size / 4).ceil()).all() and (length <= torch.maximum(size * 3 / 4, size * 0 + 1)).all())


@pytest.mark.parametrize("seed", range(10))
def test_augmentations_crop_mask_or_reorder(seed):
    _, task = prepared("augmentations", seed=seed)
    row, column, length, masked = (task.drawn[key] for key in ("row", "column", "length", "masked"))
    assert row.tolist() == [0, 1, 3, 4, 0, 1, 3, 4]
    for view in range(len(row)):
        size, kept = len(LISTS[row[view]]), int(length[view])
        places = column[view, :kept].tolist()
        moved = [place for place, source in enumerate(places) if place != source]
        if kept < size:
            assert kept == math.ceil(0.6 * size)
            assert places == list(range(places[0], places[0] + kept))
        elif moved:
            assert moved[-1] - moved[0] < math.ceil(0.6 * size)
            assert sorted(places) == list(range(size))
        assert not (masked[view].any() and (kept < size or moved))


def test_later_items_are_told_from_those_of_other_anchors_by_numpy():
    objective, task = prepared("later_items")
    row, column = task.drawn["row"].tolist(), task.drawn["column"].tolist()
    assert sorted(zip(row, column, strict=True)) == [(0, 0), (0, 1), (0, 2), (0, 3), (3, 0)]
    states, vectors = task.states.detach().numpy(), task.model.items.weight.detach().numpy()
    surprises = []
    for ahead in range(1, 5):
        form = objective.forms[ahead - 1].weight.detach().numpy()
        items = [LISTS[r][c + ahead] for r, c in zip(row, column, strict=True)]
        for anchor, (r, c) in enumerate(zip(row, column, strict=True)):
            logits = [form @ states[r, c] @ vectors[item] for item in items]
            others = [value for value, item in zip(logits, items, strict=True) if item != items[anchor]]
            surprises.append(np.log(np.exp([logits[anchor], *others]).sum()) - logits[anchor])
    assert float(objective(task).detach()) == pytest.approx(np.mean(surprises), rel=1e-5)


def test_later_events_of_no_known_item_are_neither_asked_nor_candidates():
    lists = [[3, 2, 2, 4, 2, 5, 6, 2], [7, 8, 2, 9, 3, 4, 2, 2]]
    objective, task = prepared("later_items", lists, [[0] * len(row) for row in lists])
    row, column = task.drawn["row"].tolist(), task.drawn["column"].tolist()
    states, vectors = task.states.detach().numpy(), task.model.items.weight.detach().numpy()
    means = []
    for ahead in range(1, 5):
        form = objective.forms[ahead - 1].weight.detach().numpy()
        told = [(r, c) for r, c in zip(row, column, strict=True) if lists[r][c + ahead] != 2]
        items = [lists[r][c + ahead] for r, c in told]
        logits = np.array([[form @ states[r, c] @ vectors[item] for item in items] for r, c in told])
        logits[(np.array(items)[:, None] == items) & ~np.eye(len(items), dtype=bool)] = -np.inf
        means.append(np.mean(np.log(np.exp(logits).sum(1)) - logits.diagonal()))
    assert float(objective(task).detach()) == pytest.approx(np.mean(means), rel=1e-5)
    objective, task = prepared("later_items", [[3, 2, 2, 2, 2, 2], [4, 2, 2, 2, 2]], [[0] * 6, [0] * 5])
    assert float(objective(task).detach()) == 0


def test_the_next_session_is_a_set_behind_a_silence_longer_than_the_gap():
    lists = [[3, 4, 3, 5, 2, 5, 7, 6], [7, 8]]
    objective, task = prepared("next_session", lists, [[0, 0, 1800, 1801, 0, 60, 0, 86_400], [0, 60]])
    logits = task.model.items(torch.arange(N_ITEMS)).detach().numpy() @ task.states[0].detach().numpy().T
    surprise = np.log(np.exp(logits).sum(0)) - logits
    # The 5 counts once, the unknown item not at all; 1,800 seconds are still one session, and 60 always are.
    expected = (surprise[5, 2] + surprise[7, 2] + surprise[6, 6]) / 3
    assert float(objective(task).detach()) == pytest.approx(expected, rel=1e-5)


def test_time_and_value_of_the_next_instant_are_normal_logarithms():
    lists, gaps = [[3, 4, 5], [6, 7]], [[0, 86_400, 0], [0, 3 * 86_400]]
    for name, targets in (("next_time", np.log([2, 4])), ("next_value", np.log([8, 4]))):
        objective, task = prepared(name, lists, gaps)
        task.batch.value[:] = torch.tensor([[1.0, 2, 5] + [0] * 5, [9.0, 3, 0] + [0] * 5])
        head, states = objective.head, task.states[[0, 1], [0, 0]]
        mean, scale = head(states).detach().numpy().T
        scale = np.log1p(np.exp(scale)) + 1e-3
        density = np.exp(-(((targets - mean) / scale) ** 2) / 2) / scale / np.sqrt(2 * np.pi)
        assert float(objective(task).detach()) == pytest.approx(-np.log(density).mean(), rel=1e-4)


def test_types_of_the_next_instant_count_once_an_event():
    objective, task = prepared("next_type", [[3, 4, 5], [6, 7]], [[0, 60, 0], [0, 60]])
    task.batch.event_type[:2, :3] = torch.tensor([[3, 4, 5], [3, 2, 0]])  # the second row's next type is unknown
    logits = objective.head(task.states[0, 0]).detach().numpy()
    expected = np.log(np.exp(logits).sum()) - (logits[4] + logits[5]) / 2
    assert float(objective(task).detach()) == pytest.approx(expected, rel=1e-5)


def test_what_is_foretold_is_the_likeliest_type_and_the_medians():
    states = torch.eye(DIMENSION)[:3]
    told = {name: OBJECTIVES[name](SPEC, COUNTS) for name in ("next_type", "next_time", "next_value")}
    with torch.no_grad():
        for objective in told.values():
            objective.head.weight.zero_()
            objective.head.bias.zero_()
        # Reserved numbers are no types, however likely; of the normal distributions the scale says nothing.
        kinds = [[9, 9, 9, 1, 2, 0], [0, 0, 0, 3, 1, 2], [0, 0, 0, 0, 0, 1.0]]
        told["next_type"].head.weight[:, :3] = torch.tensor(kinds).T
        for name in ("next_time", "next_value"):
            told[name].head.weight[:, :3] = torch.tensor([[math.log(4), math.log(2), -math.log(3)], [5, 6, 7]])
    said = {name: objective.foretold(states).tolist() for name, objective in told.items()}
    assert said["next_type"] == [4, 3, 5]
    assert said["next_time"] == pytest.approx([3, 1, 0], abs=1e-6)
    assert said["next_value"] == pytest.approx([3, 1, -2], abs=1e-6)


@pytest.mark.parametrize("pooling", ["newest", "mean"])
def test_a_model_foretells_from_the_states_that_taught_it(pooling):
    weights = {"next_item": 1.0, "next_type": 0.0, "next_time": 1.0, "next_value": 0.5}
    spec = replace(SPEC, name="gru", window=16, pooling=pooling, objectives=weights)
    torch.manual_seed(2)
    model, batch = build_model(spec, COUNTS).eval(), batch_of()
    asked = []
    heads = model.objectives.foretelling()
    assert list(heads) == ["next_time", "next_value"]  # what weighs nothing was not learned
    heads["next_time"].forward = lambda task: asked.append(task.states) or task.states.sum() * 0
    with torch.inference_mode():
        model.loss(batch, model.draw(batch, torch.Generator().manual_seed(0)))
        said = model.foretold(batch)
        newest = asked[0][[0, 1, 3, 4], batch.length[[0, 1, 3, 4]] - 1]
        for name, head in heads.items():
            torch.testing.assert_close(said[name][[0, 1, 3, 4]], head.foretold(newest), rtol=0, atol=1e-5)
    assert build_model(replace(spec, objectives={"next_item": 1.0}), COUNTS).foretold(batch) == {}


def test_a_history_is_told_backwards_from_the_vector(monkeypatch):
    objective, task = prepared("reconstruction")
    asked = []
    monkeypatch.setattr(task.model, "item_loss", lambda *told: asked.append(told) or torch.zeros(()))
    objective(task)
    states, owner, targets, _ = asked[0]
    assert targets.tolist() == [item for items in LISTS for item in reversed(items)]
    assert owner.tolist() == list(range(16))
    with torch.no_grad():
        vector = task.model.newest_states(task.batch)[3]
        hidden, cell = objective.begin(vector).tanh().chunk(2)
        read = task.model.items(torch.tensor([0, 4, 3, 11, 3]))
        alone, _ = objective.decoder(read, (hidden[None], cell[None]))
    torch.testing.assert_close(states[9:14].detach(), alone)


def test_the_variational_loss_adds_the_divergence_from_a_standard_normal():
    objective, task = prepared("variational")
    task.drawn["noise"].zero_()
    mean, log_variance = objective.spread(objective.vectors(task)).detach().double().chunk(2, dim=1)
    standard = torch.distributions.Normal(0.0, 1.0)
    drawn = torch.distributions.Normal(mean, (log_variance / 2).exp())
    divergence = torch.distributions.kl_divergence(drawn, standard).sum() / 16
    told = objective.told(mean.float(), task)
    assert float(objective(task).detach()) == pytest.approx(float(told.detach() + 0.2 * divergence), rel=1e-5)
    # In a run its weight grows over the first fifth of the steps.
    for done, weight in ((0.0, 0.0), (0.05, 0.05), (0.1, 0.1), (0.2, 0.2), (0.7, 0.2)):
        task.drawn["done"] = torch.tensor(done)
        assert float(objective(task).detach()) == pytest.approx(float(told.detach() + weight * divergence), rel=1e-5)


def test_an_event_of_no_known_item_is_not_told():
    objective, task = prepared("variational", [[3, 2, 4, 2]], [[0] * 4])
    task.drawn["noise"].zero_()
    mean, log_variance = objective.spread(objective.vectors(task)).chunk(2, dim=1)
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
    expected = float((objective.told(mean, task) + 0.2 * divergence / 2).detach())
    assert float(objective(task).detach()) == pytest.approx(expected, rel=1e-6)


def whole_model(**weights):
    """The default family with these objectives, and a batch as training prepares it."""
    torch.manual_seed(0)
    spec = ModelSpec("transformer", 8, N_ITEMS, 6, window=8, dimension=8, negatives=16, dropout=0.0, objectives=weights)
    model = build_model(spec, COUNTS)
    batch = model.prepare(batch_of())
    return model, batch, model.draw(batch, torch.Generator().manual_seed(5))


def test_objectives_are_added_by_weight():
    def loss(**weights):
        model, batch, drawn = whole_model(**weights)
        # Parts of their own are drawn after all others, so that the rest of the model is the same.
        return float(model.loss(batch, drawn).detach())

    alone, time, order = loss(next_item=1.0), loss(next_item=0.0, next_time=1.0), loss(order=2.0)
    nothing = loss(next_item=0.0, next_time=0.0, later_items=1e-30)
    assert loss(next_item=1.0, next_time=0.5) == pytest.approx(alone + 0.5 * (time - nothing), rel=1e-5)
    assert order > nothing
    assert loss(next_item=0.5) == pytest.approx(nothing + 0.5 * (alone - nothing), rel=1e-5)


def test_the_default_learns_the_next_item_alone_and_has_no_other_part():
    model, _, drawn = whole_model(next_item=1.0)
    assert not [name for name in model.state_dict() if name.startswith("objectives")]
    assert drawn.keys() == {"negatives", "boundaries"}
    assert ModelSpec("transformer", 8, N_ITEMS, 6).objectives == {"next_item": 1.0}


def test_all_objectives_at_once_reach_every_weight_and_survive_a_folder(tmp_path):
    model, batch, drawn = whole_model(next_item=1.0, **dict.fromkeys(OBJECTIVES, 0.1))
    assert {name.split(".")[0] for name in drawn} - {"negatives", "boundaries"} < OBJECTIVES.keys()
    model.loss(batch, drawn).backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    assert torch.equal(again.user_vectors(batch), model.eval().user_vectors(batch))
    assert again.spec == model.spec


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ({"nextitem": 1.0}, r"unknown objective in model\.objectives: 'nextitem'; known: next_item, masked_items, "),
        ({"order": -1.0}, r"weighs less than nothing in model\.objectives\.order: -1\.0; give 0 or more"),
        ({"next_item": 0.0}, r"no objective has a weight in model\.objectives: .*--set model\.objectives\.next_item=1"),
    ],
)
def test_weights_that_cannot_be_are_refused(weights, sentence):
    with pytest.raises(ConfigError, match=sentence):
        whole_model(**weights)

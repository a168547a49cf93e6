"""Histories with a fault in them: what is hidden, what stands in its place, and what the model is shown of it."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from behavior_lib.models.base import ModelSpec
from behavior_lib.models.batch import Batch
from behavior_lib.models.build import build_model
from behavior_lib.models.objectives.base import Task
from behavior_lib.models.objectives.corrupted import CANDIDATES, REACH, Generator, ReplacedItems
from behavior_lib.tables.items import FIRST_INDEX
from tests.sequences_example import histories
from tests.unit.test_models_objectives import COUNTS, DIMENSION, N_ITEMS, SPEC, Stub, prepared

pytestmark = pytest.mark.usefixtures("one_thread")


def test_events_of_known_items_are_hidden_and_candidates_are_popular():
    lists = [[9, 9, 9, 2, 9, 9, 9, 9] for _ in range(500)]
    _, task = prepared("replaced_items", lists, [[0] * 8 for _ in lists])
    hidden, candidates = task.drawn["hidden"], task.drawn["candidates"]
    assert int(hidden.sum()) / 3500 == pytest.approx(0.15, abs=0.02)
    assert not hidden[:, 3].any()
    assert candidates.shape == task.drawn["noise"].shape == (int(hidden.sum()), CANDIDATES)
    share = torch.bincount(candidates.flatten(), minlength=N_ITEMS) / candidates.numel()
    np.testing.assert_allclose(share, COUNTS / COUNTS.sum(), atol=0.01)


def test_replacements_come_by_the_softmax_of_the_generator():
    """Of many draws at one state, whose logits are far from popularity."""
    torch.manual_seed(0)
    model, objective = Stub(), ReplacedItems(SPEC, COUNTS)
    batch = Batch.from_histories(histories([[9] * 8] * 20_000, 8))
    drawn = objective.draw(batch, torch.Generator().manual_seed(1))
    state = torch.randn(DIMENSION) / 3
    told = state.expand(len(drawn["candidates"]), -1)
    items = objective.replacements(told, Task(model, batch, batch.value, drawn))
    found = torch.bincount(items, minlength=N_ITEMS) / len(items)
    expected = (model.items.weight.detach() @ state).masked_fill(torch.arange(N_ITEMS) < FIRST_INDEX, -torch.inf)
    share = expected.softmax(0)
    assert float((share - COUNTS / COUNTS.sum()).abs().max()) > 0.1
    # Of 32 candidates, so a little on the side of popularity.
    np.testing.assert_allclose(found, share, atol=0.02)


def test_the_loss_is_the_generator_s_and_that_of_finding_what_it_replaced(monkeypatch):
    objective, task = prepared("replaced_items", [[3, 4, 5, 6, 7, 8, 9, 10]] * 6, [[0, *[60] * 7]] * 6)
    batch, hidden = task.batch, task.drawn["hidden"]
    assert 0 < int(hidden.sum()) < 48
    read, states = [], torch.randn(6, 8, DIMENSION)
    monkeypatch.setattr(task.model, "states", lambda batch: read.append(batch) or states)
    loss = objective(task)
    weight = task.model.items.weight.detach().numpy()
    told = objective.generator(task.model.items(batch.item_index.masked_fill(hidden, 1)), batch.present)[hidden]
    logits, targets = told.detach().numpy() @ weight.T, batch.item_index[hidden].numpy()
    taught = np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(targets)), targets])
    candidates, noise = task.drawn["candidates"].numpy(), task.drawn["noise"].numpy()
    share = (COUNTS / COUNTS.sum()).numpy()
    chance = np.take_along_axis(logits, candidates, 1) - np.log(share[candidates]) + noise
    item = batch.item_index.numpy().copy()
    item[hidden.numpy()] = np.take_along_axis(candidates, chance.argmax(1)[:, None], 1)[:, 0]
    (shown,) = read
    assert shown.item_index.tolist() == item.tolist()
    assert not shown.value.any()
    assert all(torch.equal(vars(shown)[key], vars(batch)[key]) for key in ("event_type", "gap_seconds", "hour_of_week"))
    fault = item != batch.item_index.numpy()
    assert fault.any()
    odds = (states @ objective.head.weight[0] + objective.head.bias).detach().numpy()
    found = np.where(fault, np.log1p(np.exp(-odds)), np.log1p(np.exp(odds))).mean()
    assert float(loss.detach()) == pytest.approx(taught + found, rel=1e-5)


def test_the_generator_sees_what_stands_around_and_no_padding():
    torch.manual_seed(0)
    generator = Generator(DIMENSION)
    vectors, present = torch.randn(1, 14, DIMENSION), torch.arange(14)[None] < 12
    states = generator(vectors, present)
    moved = []
    for place in range(14):
        other = vectors.clone()
        other[0, place] += 1
        moved.append((generator(other, present) != states).any(2)[0, :12].nonzero().flatten().tolist())
    near = [list(range(max(0, place - 2 * REACH), min(12, place + 2 * REACH + 1))) for place in range(12)]
    assert moved == [*near, [], []]


def test_the_generator_learns_what_stands_between():
    """Of a cycle of nine items; by popularity a ninth of the replacements would be right at best."""
    torch.manual_seed(0)
    random, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    model, objective = Stub(), ReplacedItems(SPEC, COUNTS)
    optimizer = torch.optim.Adam([*objective.parameters(), *model.parameters()], lr=0.02)

    def task():
        starts = random.integers(0, 9, 64)
        lists = [[3 + int(start + step) % 9 for step in range(8)] for start in starts]
        batch = Batch.from_histories(histories(lists, 8))
        return Task(model, batch, batch.value, objective.draw(batch, generator))

    for _ in range(60):
        optimizer.zero_grad()
        objective(task()).backward()
        optimizer.step()
    fresh = task()
    hidden, present = fresh.drawn["hidden"], fresh.batch.present
    told = objective.generator(model.items(fresh.batch.item_index.masked_fill(hidden, 1)), present)[hidden]
    right = objective.replacements(told, fresh) == fresh.batch.item_index[hidden]
    assert float(right.float().mean()) > 0.8


def test_a_generator_s_logits_are_those_of_the_model_s_loss():
    """By the full softmax, which has no correction: its loss of one state and item."""
    spec = ModelSpec("mean", 8, N_ITEMS, 6, dimension=DIMENSION, loss="softmax", similarity="cosine")
    model = build_model(spec, COUNTS).eval()
    states, items = torch.randn(2, DIMENSION), torch.arange(FIRST_INDEX, N_ITEMS).expand(2, -1)
    logits = model.item_logits(states, items)
    targets = torch.tensor([5, 7])
    loss = model.item_loss(states, torch.arange(2), targets, {"negatives": targets[:0]})
    torch.testing.assert_close(F.cross_entropy(logits, targets - FIRST_INDEX), loss)


def test_exchanged_halves_are_read_the_other_way_round(monkeypatch):
    objective, task = prepared("order")
    task.drawn["exchanged"][:] = torch.tensor([True, False, False, True, False])
    read = []
    monkeypatch.setattr(task.model, "newest_states", lambda batch: read.append(batch) or torch.zeros(3, DIMENSION))
    objective(task)
    items = [row[: int(size)].tolist() for row, size in zip(read[0].item_index, read[0].length, strict=True)]
    assert items == [[7, 8, 9, 10, 3, 4, 5, 6], [11, 3, 4, 11, 3], [6, 7]]
    # Gaps that go along and hours would tell it too.
    assert torch.equal(read[0].gap_seconds, task.batch.gap_seconds[[0, 3, 4]])
    assert [int(batch.hour_of_week.count_nonzero()) for batch in (task.batch, read[0])] == [16, 0]


def test_what_is_hidden_is_the_item_and_not_its_hour(monkeypatch):
    objective, task = prepared("masked_items")
    read = []
    monkeypatch.setattr(task.model, "states", lambda batch: read.append(batch) or torch.zeros(5, 8, DIMENSION))
    objective(task)
    assert not torch.equal(read[0].item_index, task.batch.item_index)
    assert all(torch.equal(vars(read[0])[key], vars(task.batch)[key]) for key in ("event_type", "hour_of_week"))

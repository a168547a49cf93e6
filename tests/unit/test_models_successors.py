"""What follows a user's newest items elsewhere: features by their definition, and a row that never sees its future."""

import math

import numpy as np
import pytest
import torch

from behavior_lib.models.base import ModelSpec
from behavior_lib.models.batch import Batch
from behavior_lib.models.build import build_model, load_model, save_model
from behavior_lib.models.successors import DECAYS, FOLDS, N_FEATURES, SOURCES, SuccessorCounts, SuccessorPath, fold_of
from tests.sequences_example import histories

pytestmark = pytest.mark.usefixtures("one_thread")

N_ITEMS, KEPT, DAY = 14, 3, 86_400
COUNTS = torch.tensor([0, 0, 0, *range(1, N_ITEMS - 2)])


def counts_at_random(seed):
    """Of every item but the first three: up to KEPT distinct successors, with a count in each fold."""
    random = np.random.default_rng(seed)
    item, by_fold = np.zeros((N_ITEMS, KEPT), np.int64), np.zeros((FOLDS, N_ITEMS, KEPT), np.float32)
    for source in range(3, N_ITEMS):
        n = random.integers(0, KEPT + 1)
        item[source, :n] = random.choice(np.arange(3, N_ITEMS), n, replace=False)
        by_fold[:, source, :n] = random.choice([0.0, 0.5, 1.0, 2.5], (FOLDS, n))
    by_fold = torch.from_numpy(by_fold)
    return SuccessorCounts(torch.from_numpy(item), by_fold.sum(0), by_fold)


def path_with(counts):
    path = SuccessorPath(N_ITEMS, KEPT)
    path.prepare_for_counts()
    path.take(counts)
    return path


def slow_features(counts, items, gaps, fold):
    """{item: features} of one history, event by event."""
    instants = np.cumsum([gap > 0 for gap in gaps])
    sums = {}
    for item, instant in list(zip(items, instants, strict=True))[-SOURCES:]:
        for follower, count, own in zip(
            counts.item[item].tolist(),
            counts.count[item].tolist(),
            counts.by_fold[0 if fold is None else fold, item].tolist(),
            strict=True,
        ):
            left = count - (0 if fold is None else own)
            if left < 1e-3 or follower in items:
                continue
            n = int(COUNTS[item])
            ago = int(instants[-1] - instant)
            weights = [1 / (1 + ago), *(decay**ago for decay in DECAYS)]
            parts = [*(left / math.sqrt(n) * weight for weight in weights), left / n, 1.0]
            sums[follower] = [a + b for a, b in zip(sums.get(follower, [0.0] * len(parts)), parts, strict=True)]
    return {
        item: [*(math.log(part + 1e-4) for part in parts[:-1]), math.log1p(parts[-1]), math.log1p(len(items))]
        for item, parts in sums.items()
    }


@pytest.mark.parametrize("seed", range(12))
def test_features_are_those_of_the_definition(seed):
    random = np.random.default_rng(seed)
    lists = [[int(item) for item in random.integers(2, N_ITEMS, n)] for n in (1, 4, SOURCES + 7)]
    gaps = [[0, *(int(gap) for gap in random.choice([0, 0, 3600, DAY], len(items) - 1))] for items in lists]
    counts = counts_at_random(seed)
    batch = Batch.from_histories(histories(lists, 40, gaps))
    fold = None if seed % 2 else torch.tensor([0, 2, 1])
    slots = path_with(counts).slots(batch, COUNTS, fold)
    assert slots.features.shape[2] == N_FEATURES
    for row, (items, seconds) in enumerate(zip(lists, gaps, strict=True)):
        expected = slow_features(counts, items, seconds, None if fold is None else int(fold[row]))
        places = slots.present[row].nonzero().squeeze(1).tolist()
        assert [int(slots.item[row, place]) for place in places] == sorted(expected)
        for place in places:
            wanted = expected[int(slots.item[row, place])]
            np.testing.assert_allclose(slots.features[row, place].numpy(), wanted, rtol=1e-4, atol=1e-5)


def test_what_only_the_own_fold_counted_is_not_there():
    item = torch.zeros(N_ITEMS, KEPT, dtype=torch.long)
    item[5] = torch.tensor([6, 7, 8])
    by_fold = torch.zeros(FOLDS, N_ITEMS, KEPT)
    by_fold[1, 5, 0], by_fold[1, 5, 1], by_fold[2, 5, 1], by_fold[3, 5, 2] = 4.0, 1.0, 1.0, 1.0
    path = path_with(SuccessorCounts(item, by_fold.sum(0), by_fold))
    batch = Batch.from_histories(histories([[5]], 4))

    def found(fold):
        slots = path.slots(batch, COUNTS, fold)
        return sorted(slots.item[slots.present].tolist())

    assert found(None) == [6, 7, 8]
    assert found(torch.tensor([1])) == [7, 8]
    assert found(torch.tensor([3])) == [6, 7]


def test_the_fold_of_a_row_is_its_items_at_their_places_and_the_gaps():
    rows, gaps = [[3, 4, 5], [5, 4, 3], [5, 4, 3], [3], []], [[0, 2, 3], [0, 2, 3], [0, 3, 3], [0], []]
    narrow, wide = (Batch.from_histories(histories(rows, columns, gaps)) for columns in (3, 9))
    wide.item_index[~wide.present] = 7
    sums = [sum(item * place for place, item in enumerate(items, 1)) for items in rows]
    expected = [(total + sum(seconds)) % FOLDS for total, seconds in zip(sums, gaps, strict=True)]
    assert fold_of(narrow).tolist() == fold_of(wide).tolist() == expected
    assert len(set(expected)) > 1


def model_with(counts, **changes):
    spec = ModelSpec("transformer", 8, N_ITEMS, 4, window=8, dimension=8, layers=1, successors=KEPT, **changes)
    torch.manual_seed(3)
    model = build_model(spec, COUNTS).eval()
    model.successors.prepare_for_counts()
    model.successors.take(counts)
    return model


def test_before_it_learned_it_adds_nothing_and_then_to_successors_alone():
    counts, batch = counts_at_random(1), Batch.from_histories(histories([[5, 9], []], 8))
    model = model_with(counts, repeat_path=False)
    plain = build_model(ModelSpec(**{**model.spec.as_json(), "successors": 0}), COUNTS).eval()
    plain.load_state_dict(model.state_dict(), strict=False)
    before = plain.scores(batch)
    assert torch.equal(model.scores(batch), before)
    torch.nn.init.ones_(model.successors.network[2].bias)
    expected = {int(item) for source in (5, 9) for item in counts.item[source][counts.count[source] > 0]} - {5, 9}
    changed = (model.scores(batch) != before).nonzero().tolist()
    assert changed == [[0, item] for item in sorted(expected)]
    assert len(expected) >= 3


def test_a_saved_model_has_the_counts_and_not_those_of_the_folds(tmp_path):
    model, batch = model_with(counts_at_random(2)), Batch.from_histories(histories([[5, 9, 12], [4]], 8))
    for parameter in model.successors.parameters():
        torch.nn.init.normal_(parameter)
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert torch.equal(loaded.scores(batch), model.scores(batch))
    assert [name for name in model.state_dict() if name.startswith("successors.") and "network" not in name] == [
        "successors.successor",
        "successors.count",
    ]


@pytest.mark.parametrize("repeat_path", [True, False])
def test_the_loss_teaches_it(repeat_path):
    model = model_with(counts_at_random(3), repeat_path=repeat_path, dropout=0.0)
    torch.nn.init.normal_(model.successors.network[2].weight)
    batch = model.prepare(Batch.from_histories(histories([[3, 4, 5, 6], [7, 8, 9, 10, 11], [12, 13, 3]], 8)))
    model.loss(batch, model.draw(batch, torch.Generator().manual_seed(0))).backward()
    assert all(float(parameter.grad.abs().sum()) > 0 for parameter in model.successors.parameters())

"""Counting what follows what: pair by pair, in bounded memory; and a model that learns from it what vectors cannot."""

from collections import Counter

import numpy as np
import pytest
import torch

from behavior_lib.data.snapshot import Snapshot
from behavior_lib.models.batch import Batch
from behavior_lib.models.successors import FOLDS, fold_of
from behavior_lib.train.communicator import SingleProcess
from behavior_lib.train.loop import fit
from behavior_lib.train.store import FolderStore
from behavior_lib.train.successors import REACH, SuccessorCounter
from tests.sequences_example import frame, histories, write
from tests.train.test_fit import SETTINGS, Watcher, new_model

N_ITEMS = 12


def rows_at_random(seed, n=30):
    random = np.random.default_rng(seed)
    lists = [[int(item) for item in random.integers(2, N_ITEMS, random.integers(0, 31))] for _ in range(n)]
    gaps = [[0, *(int(gap) for gap in random.choice([0, 60, 86_400], max(len(row) - 1, 0)))] for row in lists]
    return lists, [row[: max(len(items), 1)] for row, items in zip(gaps, lists, strict=True)]


def slow_counts(lists, gaps, folds):
    """{(fold, item, follower): weight}, by the definition."""
    found = Counter()
    for items, seconds, fold in zip(lists, gaps, folds, strict=True):
        baskets = {}
        for item, instant in zip(items, np.cumsum([gap > 0 for gap in seconds]), strict=False):
            if item > 2:
                baskets.setdefault(int(instant), set()).add(item)
        for first, here in baskets.items():
            for second, there in baskets.items():
                if 0 < second - first <= REACH:
                    for one in here:
                        for other in there - {one}:
                            found[fold, one, other] += 1 / (second - first)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_counts_are_those_of_the_definition_whatever_comes_together(seed):
    lists, gaps = rows_at_random(seed)
    batch = Batch.from_histories(histories(lists, 30, gaps))
    folds = fold_of(batch).tolist()
    expected = slow_counts(lists, gaps, folds)
    counter = SuccessorCounter(N_ITEMS)
    for part in (slice(0, 7), slice(7, 8), slice(8, 30)):
        counter.add(batch.rows(torch.arange(30)[part]))
    counts = counter.best(N_ITEMS)
    assert counts.by_fold.shape == (FOLDS, N_ITEMS, N_ITEMS)
    torch.testing.assert_close(counts.by_fold.sum(0), counts.count)
    found = {
        (fold, item, int(counts.item[item, place])): float(counts.by_fold[fold, item, place])
        for fold, item, place in counts.by_fold.nonzero().tolist()
    }
    assert found.keys() == expected.keys()
    for key, weight in expected.items():
        assert found[key] == pytest.approx(weight, rel=1e-5), key


def test_the_best_are_those_that_follow_most():
    lists = [[3, 4], [3, 4], [3, 5], [3, 5], [3, 6], [3, 6], [3, 6], [7, 8]]
    counter = SuccessorCounter(N_ITEMS)
    counter.add(Batch.from_histories(histories(lists, 4)))
    counts = counter.best(2)
    # Of two that follow as often the lower index is kept.
    assert (counts.item[3].tolist(), counts.count[3].tolist()) == ([6, 4], [3.0, 2.0])
    assert (counts.item[7].tolist(), counts.count[7].tolist()) == ([8, 0], [1.0, 0.0])
    assert SuccessorCounter(N_ITEMS).best(2).count.abs().sum() == 0


def test_beyond_the_bound_what_is_rare_is_forgotten_first():
    lists = [*([3, 4] for _ in range(64)), *([item, item + 1] for item in range(5, 11))]
    counter = SuccessorCounter(N_ITEMS, most=3)
    counter.add(Batch.from_histories(histories(lists, 4)))
    counts = counter.best(1)
    assert counts.count[3].tolist() == [64.0]
    assert int((counts.count > 0).sum()) == 1


def test_pairs_that_a_few_rows_share_are_learned_from_counts(tmp_path):
    """Each of 150 items is followed by one other, twice in all: too seldom for vectors."""
    follower = np.random.default_rng(0).permutation(150) + 3
    lists = [[item + 3, int(follower[item])] for item in range(150) for _ in range(2)]
    gaps = [[0, 1 + row] for row in range(300)]  # equal rows would be of one fold
    wanted = [[int(follower[item])] for item in range(150)]
    train = frame(histories(lists, 2, gaps), "train")
    validation = frame(histories([[item + 3] for item in range(150)], 2), "validation", wanted)
    version = write(tmp_path / "sequences", train, validation)
    snapshot = Snapshot.resolve(str(tmp_path / "sequences"), version)
    reached = {}
    for kept in (0, 4):
        model = new_model(snapshot, successors=kept)
        store = FolderStore(str(tmp_path / f"store {kept}"))
        result = fit(model, snapshot, SETTINGS, SingleProcess(), Watcher(), store)
        reached[kept] = result.best.validation_ndcg
    assert reached[4] > 0.9
    assert reached[0] < 0.5

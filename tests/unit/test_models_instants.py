"""Instants are sets: where they end, and what the next one holds."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from behavior_lib.models.batch import Batch
from behavior_lib.models.instants import instant_ends, instant_numbers
from tests.sequences_example import histories

GAPS = [[0, 0, 60, 0, 0, 5], [0, 7], [0, 0, 0]]
BATCH = Batch.from_histories(histories([[3, 4, 5, 6, 7, 8], [9, 9], [4, 5, 6]], 7, GAPS))


def test_events_without_a_gap_belong_to_one_instant():
    assert instant_numbers(BATCH).tolist() == [[0, 0, 1, 1, 1, 2, 7], [0, 1, 7, 7, 7, 7, 7], [0, 0, 0, 7, 7, 7, 7]]


def test_a_gap_before_the_first_event_opens_no_instant():
    batch = Batch.from_histories(histories([[3, 4]], 2, [[0, 0]]))
    batch.gap_seconds[0, 0] = 999
    assert instant_numbers(batch).tolist() == [[0, 0]]


def test_only_ends_of_instants_that_have_a_next_one_count():
    ends = instant_ends(BATCH)
    assert list(zip(ends.row.tolist(), ends.column.tolist(), strict=True)) == [(0, 1), (0, 4), (1, 0)]
    assert ends.end.tolist() == [5, 6, 2]


def test_the_targets_of_an_end_are_all_items_of_the_next_instant():
    owner, target = instant_ends(BATCH).targets(BATCH.item_index)
    assert owner.tolist() == [0, 0, 0, 1, 2]
    assert target.tolist() == [5, 6, 7, 8, 9]


def test_a_selection_keeps_its_order():
    owner, target = instant_ends(BATCH).select(torch.tensor([2, 0])).targets(BATCH.item_index)
    assert (owner.tolist(), target.tolist()) == ([0, 1, 1, 1], [9, 5, 6, 7])


@pytest.mark.parametrize("longest_gap", [0, 10])
@pytest.mark.parametrize("seed", range(20))
def test_ends_are_those_of_a_loop(seed, longest_gap):
    random = np.random.default_rng(seed)
    length = [int(size) for size in random.integers(0, 20, 6)]
    gaps = [[0, *(int(gap) for gap in random.choice([0, 0, 1, 50], size - 1))] if size else [] for size in length]
    batch = Batch.from_histories(histories([[3] * size for size in length], 19, gaps))
    expected = []
    for row, own in enumerate(gaps):
        begins = [0, *(place for place, gap in enumerate(own) if place and gap > longest_gap), len(own)]
        expected += [(row, begin - 1, begin, end) for begin, end in pairwise(begins[1:])]
    ends = instant_ends(batch, longest_gap)
    found = zip(ends.row.tolist(), ends.column.tolist(), ends.start.tolist(), ends.end.tolist(), strict=True)
    assert list(found) == expected

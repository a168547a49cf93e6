"""Rows, cuts and windows of a batch."""

import torch

from behavior_lib.models.batch import Batch
from tests.sequences_example import histories

BATCH = Batch.from_histories(histories([[3, 4, 5, 6, 7], [8], [9, 10, 11]], 6))


def test_the_newest_events_are_kept_and_the_first_gap_is_dropped():
    newest = BATCH.newest(3)
    assert newest.item_index.tolist() == [[5, 6, 7], [8, 0, 0], [9, 10, 11]]
    assert newest.gap_seconds.tolist() == [[0, 86400, 86400], [0, 0, 0], [0, 86400, 86400]]
    assert newest.length.tolist() == [3, 1, 3]


def test_columns_that_are_padding_everywhere_go():
    assert BATCH.newest(100).columns == 5
    assert BATCH.rows(torch.tensor([1])).newest(100).item_index.tolist() == [[8]]


def test_a_batch_of_empty_histories_keeps_one_column():
    empty = Batch.from_histories(histories([[], []], 4)).newest(4)
    assert (empty.columns, empty.length.tolist(), bool(empty.present.any())) == (1, [0, 0], False)


def test_a_cut_keeps_the_oldest_events():
    cut = BATCH.rows(torch.tensor([0, 0, 2])).cut(torch.tensor([2, 4, 1]))
    assert cut.item_index.tolist() == [[3, 4, 0, 0, 0, 0], [3, 4, 5, 6, 0, 0], [9, 0, 0, 0, 0, 0]]
    assert (cut.value > 0).sum(1).tolist() == [2, 4, 1]


def test_windows_are_pieces_without_those_that_are_padding():
    pieces, place = BATCH.windows(4)
    assert pieces.item_index.tolist() == [[3, 4, 5, 6], [7, 0, 0, 0], [8, 0, 0, 0], [9, 10, 11, 0]]
    assert place.tolist() == [0, 1, 2, 4]
    assert pieces.length.tolist() == [4, 1, 1, 3]
    assert pieces.gap_seconds[:, 0].tolist() == [0, 0, 0, 0]


def test_rows_shorter_than_a_window_are_not_padded_to_it():
    pieces, place = BATCH.newest(100).windows(256)
    assert pieces.item_index.tolist() == [[3, 4, 5, 6, 7], [8, 0, 0, 0, 0], [9, 10, 11, 0, 0]]
    assert (place.tolist(), pieces.length.tolist()) == ([0, 1, 2], [5, 1, 3])

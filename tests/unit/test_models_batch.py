"""Rows, cuts and windows of a batch, and the hours of its events."""

from datetime import datetime, timedelta

import numpy as np
import torch
from hypothesis import given
from hypothesis.strategies import integers, lists

from behavior_lib.models.batch import Batch
from behavior_lib.models.causal import hours, weekdays
from tests.sequences_example import MONDAY, histories

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


def test_a_row_without_events_is_no_piece():
    pieces, place = Batch.from_histories(histories([[3, 4], [], [5]], 2)).windows(256)
    assert (pieces.item_index.tolist(), place.tolist()) == ([[3, 4], [5, 0]], [0, 2])
    assert pieces.length.tolist() == [2, 1]


DAY, WEEK = 86_400, 7 * 86_400
# Hours 1, 25, 49, … of the week, then 6, then 11, 35, 59: each row starts five hours after the one before.
HOURS = [[1, 25, 49, 73, 97, 0], [6, 0, 0, 0, 0, 0], [11, 35, 59, 0, 0, 0]]


@given(
    start=integers(-3_000_000_000, 5_000_000_000),
    before=integers(0, WEEK),
    gaps=lists(integers(0, WEEK) | integers(0, 2**31 - 1), max_size=8),
)
def test_hours_and_weekdays_are_those_of_the_calendar(start, before, gaps):
    """The first gap counts from an event of an earlier chunk; the first time is that of the chunk's own first event."""
    n = 1 + len(gaps)
    rows = histories([[3] * n], n + 2, [[0, *gaps]], [np.datetime64(start, "s")])
    rows.gap_seconds[0, 0] = before
    batch = Batch.from_histories(rows)
    times = [datetime(1970, 1, 1) + timedelta(seconds=start + sum(gaps[:at])) for at in range(n)]
    assert hours(batch.hour_of_week).tolist() == [[*(1 + time.hour for time in times), 0, 0]]
    assert weekdays(batch.hour_of_week).tolist() == [[*(time.isoweekday() for time in times), 0, 0]]


def test_the_week_ends_at_midnight_after_sunday():
    rows = histories([[3, 4, 5]], 3, [[0, 1, DAY]], [MONDAY - 1])
    assert Batch.from_histories(rows).hour_of_week.tolist() == [[168, 1, 25]]


def test_without_a_first_time_no_hour_is_known():
    rows = histories([[3, 4], [5]], 3, starts=["NaT", "2019-07-01T05:00:00"])
    assert Batch.from_histories(rows).hour_of_week.tolist() == [[0, 0, 0], [6, 0, 0]]


def test_events_take_their_hours_along():
    assert BATCH.hour_of_week.tolist() == HOURS
    assert BATCH.newest(2).hour_of_week.tolist() == [[73, 97], [6, 0], [35, 59]]
    assert BATCH.rows(torch.tensor([2, 0])).hour_of_week.tolist() == [HOURS[2], HOURS[0]]
    assert BATCH.cut(torch.tensor([2, 0, 1])).hour_of_week.tolist() == [
        [1, 25, 0, 0, 0, 0],
        [0] * 6,
        [11, 0, 0, 0, 0, 0],
    ]
    assert BATCH.windows(4)[0].hour_of_week.tolist() == [[1, 25, 49, 73], [97, 0, 0, 0], [6, 0, 0, 0], [11, 35, 59, 0]]
    arranged = BATCH.arrange(torch.tensor([2, 0]), torch.tensor([[2, 0], [4, 1]]), torch.tensor([2, 1]))
    assert arranged.hour_of_week.tolist() == [[59, 11], [97, 0]]
    assert BATCH.with_hidden_next().hour_of_week.tolist() == [[*row, 0] for row in HOURS]

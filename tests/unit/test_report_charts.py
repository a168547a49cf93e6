"""Charts as percentages, and numbers as people read them."""

from datetime import date, datetime, timedelta

import pytest

from behavior_lib.report import charts, numbers
from behavior_lib.report.data import Batch, Epoch

MONDAY = date(2017, 5, 1)


def daily(days, start=MONDAY):
    return {start + timedelta(days=number): 1 for number in range(days)}


@pytest.mark.parametrize(
    ("days", "unit", "columns"), [(1, "day", 1), (120, "day", 120), (365, "week", 53), (1200, "month", 40)]
)
def test_the_period_grows_with_the_span(days, unit, columns):
    chart = charts.over_time(daily(days), {})
    assert (chart.unit, len(chart.columns)) == (unit, columns)


def test_days_without_events_keep_their_place():
    chart = charts.over_time({MONDAY: 10, MONDAY + timedelta(days=3): 5}, {})
    assert [column.amount for column in chart.columns] == ["10", "0", "0", "5"]
    assert [column.height for column in chart.columns] == [100.0, 0.0, 0.0, 50.0]
    assert chart.columns[0].tip == "1 May 2017: 10 events"


def test_weeks_begin_on_monday_and_sum_their_days():
    chart = charts.over_time(daily(130, MONDAY + timedelta(days=2)), {})
    assert chart.columns[0].label == "1 May 2017"
    assert chart.columns[0].amount == "5"
    assert chart.columns[1].tip == "Week from 8 May 2017: 7 events"


def test_a_cut_is_marked_where_it_lies():
    chart = charts.over_time(daily(10), {"test": datetime(2017, 5, 6), "elsewhere": datetime(2018, 1, 1)})
    assert chart.marks == (charts.Tick(50.0, "test from 6 May 2017"),)


def test_the_axis_ends_at_a_round_number_above_the_highest():
    chart = charts.over_time({MONDAY: 31_234}, {})
    assert [tick.text for tick in chart.y_ticks] == ["0", "10k", "20k", "30k", "40k"]
    assert chart.columns[0].height == 78.08


def test_small_values_have_a_bin_each():
    assert charts.binned({1: 5, 3: 2}) == (("1", 5), ("2", 0), ("3", 2))


def test_larger_values_share_bins_that_grow():
    bins = charts.binned({0: 1, 1: 2, 4: 3, 14: 4, 161: 1})
    assert bins[:4] == (("0", 1), ("1", 2), ("2", 0), ("3–4", 3))
    assert ("10–14", 4) in bins
    assert bins[-1] == ("150–161", 1)
    assert sum(number for _, number in bins) == 11


@pytest.mark.parametrize(
    ("counts", "expected"), [({5: 1}, 5), ({1: 1, 3: 1}, 2), ({1: 2, 9: 1}, 1), ({1: 1, 2: 1, 9: 2}, 5.5)]
)
def test_median_of_counted_values(counts, expected):
    assert charts.median(counts) == expected


def test_the_best_epoch_is_the_lowest_loss_and_the_highest_validation():
    epochs = [Epoch(1, 5.0, 0.1), Epoch(2, 4.0, 0.3), Epoch(3, 3.0, 0.2)]
    loss, validation = charts.training(epochs, "loss", "Loss"), charts.training(epochs, "validation", "NDCG")
    assert loss is not None
    assert validation is not None
    assert loss.best.tip == "Epoch 3: Loss 3.0000"
    assert validation.best.tip == "Epoch 2: NDCG 0.3000"
    assert [point.x for point in loss.points] == [0.0, 50.0, 100.0]
    assert loss.path == "M0.0 0.0 L50.0 50.0 L100.0 100.0"


@pytest.mark.parametrize(
    ("losses", "texts"),
    [
        ((7.9, 7.0), ["7.00", "7.25", "7.50", "7.75", "8.00"]),
        ((0.15, 0.06), ["0.050", "0.075", "0.100", "0.125", "0.150"]),
        ((10.0, 0.5), ["0.0", "2.5", "5.0", "7.5", "10.0"]),
        ((80.0, 0.0), ["0", "20", "40", "60", "80"]),
    ],
)
def test_the_labels_of_an_axis_are_its_places(losses, texts):
    line = charts.training([Epoch(n, loss, None) for n, loss in enumerate(losses)], "loss", "Loss")
    assert [tick.text for tick in line.y_ticks] == texts
    low, high = float(texts[0]), float(texts[-1])
    assert [tick.at for tick in line.y_ticks] == [pytest.approx(100 * (float(t) - low) / (high - low)) for t in texts]


def test_epochs_without_a_figure_are_left_out():
    assert charts.training([Epoch(1, None, 0.1), Epoch(2, float("nan"), 0.2)], "loss", "Loss") is None
    line = charts.training([Epoch(1, 0.5, None)], "loss", "Loss")
    assert line is not None
    assert [point.x for point in line.points] == [50.0]


def test_the_parts_of_a_batch_fill_its_bar():
    parts = charts.flow(Batch("b", datetime(2017, 1, 1), 1000, 900, 60, 30, 10))
    assert [(part.kind, part.percent) for part in parts] == [
        ("accepted", 90.0),
        ("duplicate", 6.0),
        ("quarantined", 3.0),
        ("late", 1.0),
    ]
    assert charts.flow(Batch("empty", datetime(2017, 1, 1), 0, 0, 0, 0, 0)) == ()


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (numbers.count(1_469_307), "1,469,307"),
        (numbers.short_count(1_469_307), "1.47M"),
        (numbers.short_count(950), "950"),
        (numbers.share(1, 3), "33.3 %"),
        (numbers.share(1, 100_000), "< 0.1 %"),
        (numbers.share(99_999, 100_000), "> 99.9 %"),
        (numbers.share(0, 5), "0 %"),
        (numbers.share(5, 5), "100 %"),
        (numbers.share(0, 0), "–"),
        (numbers.seconds(0.44), "0.4 s"),
        (numbers.seconds(59.7), "1 min 0 s"),
        (numbers.seconds(200), "3 min 20 s"),
        (numbers.seconds(7500), "2 h 5 min"),
        (numbers.day(date(2017, 11, 1)), "1 Nov 2017"),
        (numbers.moment(datetime(2018, 1, 1, 4, 1)), "1 Jan 2018, 04:01"),
        (numbers.plural(1, "session"), "1 session"),
        (numbers.plural(2000, "batch", "batches"), "2,000 batches"),
    ],
)
def test_numbers_are_written_for_people(shown, expected):
    assert shown == expected

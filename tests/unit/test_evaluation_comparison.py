"""Versions beside each other: paired differences, and the table that a person reads."""

from io import StringIO

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import ttest_1samp

from behavior_lib.evaluation.comparison import Comparison, drawn, signed
from behavior_lib.evaluation.judge import rank_methods
from behavior_lib.evaluation.metrics import Metric

CATALOGUE = np.arange(8) > 2
TARGETS = np.array([[3], [4], [5], [6]])


def first_places(*items):
    """A method that puts one item on each user's first place, and all others on one of the rest."""

    def scores(rows):
        result = np.zeros((rows.stop - rows.start, 8))
        result[np.arange(len(result)), np.asarray(items)[rows]] = 1
        return result

    return scores


def printed(comparison):
    console = Console(width=200, file=StringIO())
    console.print(comparison.as_table())
    return console.file.getvalue().splitlines()


@pytest.fixture
def comparison():
    methods = {"champion": first_places(3, 7, 7, 7), "2": first_places(3, 4, 5, 7), "3": first_places(3, 7, 7, 7)}
    return Comparison("test", rank_methods("test", methods, TARGETS, CATALOGUE, 1, 2))


def test_differences_are_paired_and_from_the_first(comparison):
    differences = comparison.differences()
    assert list(differences) == ["2", "3"]
    found = differences["2"]["hit_rate@1"]
    assert (found.value, found.n_users) == (0.5, 4)
    assert found.standard_error == pytest.approx(np.std([0, 1, 1, 0], ddof=1) / 2)
    same = differences["3"]["mrr"]
    assert (same.value, same.standard_error) == (0, 0)
    assert "coverage@1" not in differences["2"]


def test_the_table_has_figures_and_differences(comparison):
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed(comparison)]
    rows = {cells[0]: cells[1:] for cells in lines if len(cells) == 6}
    error = np.std([0, 1, 1, 0], ddof=1) / 2
    assert rows["hit_rate@1"] == [
        "0.2500 ± 0.2500", "0.7500 ± 0.2500", f"+0.5000 ± {error:.4f}", "0.2500 ± 0.2500", "+0.0000 ± 0.0000"
    ]  # fmt: skip
    assert rows["coverage@1"] == ["0.4000", "0.8000", "", "0.4000", ""]
    assert printed(comparison)[0].strip() == "test, 4 users"


@pytest.mark.parametrize(
    ("value", "error", "line"),
    [
        (0.5, 0.25, 15 * " " + "├───────●──────┤"),  # from 0 to 1: 0, 7.5 and 15 of 15 to the right
        (0.2, 0.025, 15 * " " + "│        ├──●──┤"),  # from .15 to .25: 9, 12 and 15
        (-0.2, 0.025, "├──●──┤        │               "),
        (0.1, 0.2, "      ├────────┼──●───────────┤"),  # from -.3 to .5: 9 to the left, 3 and 15 to the right
        (0.0, 0.1, "├──────────────●──────────────┤"),
        (-0.3, 0.0, "●              │               "),
        (0.0, 0.0, ""),
        (0.5, None, ""),
    ],
)
def test_a_difference_is_drawn_with_two_errors_to_either_side(value, error, line):
    assert drawn(Metric(value, error, 9)) == line
    assert drawn(None) == ""


def test_the_chart_has_a_line_a_metric_that_differs(comparison):
    console = Console(width=200, file=StringIO())
    console.print(comparison.as_chart())
    lines = [line for line in console.file.getvalue().splitlines() if "●" in line]
    assert [line.split()[1] for line in lines[:2]] == ["hit_rate@1", "recall@1"]
    assert not any("coverage" in line for line in lines)


@pytest.mark.parametrize(
    ("values", "has_star"),
    [
        ([0.010, 0.012], False),  # eleven errors, and 12.706 are needed
        ([0.01199, 0.012], True),
        ([0.004, 0.012, 0.020], False),  # 2.6 errors of 4.303
        ([0.010, 0.012, 0.014], True),  # 10.4 errors
        ([-0.010, -0.012, -0.014], True),
        ([0.5, 0.5], False),
        ([0.1, 0.1, 0.1], False),  # their deviation is 1.7e-17
        ([0.5, np.nan], False),
        ([np.nan], False),
        ([1.0] * 10 + [0.0] * 30, True),  # 3.6 errors of 2.023
    ],
)
def test_a_star_is_at_what_student_s_t_tells_from_zero(values, has_star):
    difference = Metric.over_users(np.array(values))
    assert signed(difference).endswith(" *") is has_star
    known = np.array(values)[~np.isnan(values)]
    if len(set(known)) > 1:
        assert (ttest_1samp(known, 0).pvalue < 0.05) == has_star


def test_the_legend_says_what_the_star_is(comparison):
    told = " ".join(line.strip() for line in printed(comparison))
    assert "*: told from 0 by Student's t at 95 %; never from one value, or from values that are all alike" in told


def test_what_is_beyond_two_errors_has_a_star():
    methods = {"one": first_places(*[7] * 40), "other": first_places(*[3] * 20, *[7] * 20)}
    result = Comparison("test", rank_methods("test", methods, np.full((40, 1), 3), CATALOGUE, 1, 40))
    line = next(line for line in printed(result) if "hit_rate@1" in line)
    assert "+0.5000 ± 0.0801 *" in line

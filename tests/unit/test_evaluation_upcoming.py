"""The next instant: guesses of histories by hand, and figures by their definitions."""

import math

import numpy as np
import pytest

from behavior_lib.data.histories import Histories, unknown_times
from behavior_lib.evaluation.judge import MODEL, Verdict, rank_methods
from behavior_lib.evaluation.metrics import Metric
from behavior_lib.evaluation.upcoming import Foretold, guesses

DAY = 86_400


def histories(kinds, gaps, values):
    width = max(map(len, kinds)) + 1
    padded = [np.array([row + [0] * (width - len(row)) for row in rows]) for rows in (kinds, gaps, values)]
    kind, gap, value = padded
    length = np.array([len(row) for row in kinds], np.int32)
    item = np.where(kind > 0, 3, 0).astype(np.int32)
    return Histories(
        item, kind.astype(np.int32), gap.astype(np.int32), value.astype(np.float32), length, unknown_times(len(length))
    )


def test_guesses_by_hand():
    found = guesses(
        histories(
            # Instants of three users: 1 + 2 + 1 events, one event, 2 + 1 events.
            [[3, 4, 4, 5], [4], [5, 5, 3]],
            [[0, 2 * DAY, 0, 6 * DAY], [0], [0, 0, DAY // 2]],
            [[1, 2, 3, 10], [7], [2, 2, 0.5]],
        )
    )
    # Gaps: 2, 6 and a half; values of instants: 1, 5, 10, 7, 4, .5.
    expected = {
        "typical": ([4, 4, 4], [2, 2, 2], [4.5, 4.5, 4.5]),
        "own_typical": ([4, 4, 5], [4, 2, 0.5], [5, 7, 2.25]),
        "previous": ([5, 4, 3], [6, 2, 0.5], [10, 7, 0.5]),
    }
    told = {name: tuple(values.tolist() for values in said.values()) for name, said in found.items()}
    assert told == expected
    assert [list(said) for said in found.values()] == [["next_type", "next_time", "next_value"]] * 3


def test_without_any_gap_no_time_is_the_guess():
    found = guesses(histories([[3, 3], [4]], [[0, 0], [0]], [[1, 2], [7]]))
    assert [said["next_time"].tolist() for said in found.values()] == [[0, 0]] * 3


TRUTH = {
    "next_type": np.array([3, 3, 4, 5]),
    "next_time": np.array([1.0, 2.0, 3.0, 4.0]),
    "next_value": np.array([5.0, 0.0, 0.0, 1.0]),
}
GUESS = {
    "next_type": np.array([3, 4, 4, 4]),
    "next_time": np.array([1.0, 1.0, 1.0, 1.0]),
    "next_value": np.array([5.0, 5.0, 0.0, 0.0]),
}


def test_figures_by_hand():
    model = {"next_type": np.array([3, 3, 3, 5]), "next_time": np.array([1.5, 2.0, 3.0, 2.0])}
    found = Foretold(TRUTH, {MODEL: model, "typical": GUESS})
    metrics = found.metrics()
    assert set(metrics["typical"]) == {"next_type_accuracy", "next_type_f1", "next_time_mae", "next_time_rmse"}
    right = np.array([1, 1, 0, 1])
    assert metrics[MODEL]["next_type_accuracy"] == Metric(0.75, pytest.approx(right.std(ddof=1) / 2), 4)
    # F1 of the types: 3 said thrice and right twice, 4 never said, 5 right; and 3 half, 4 once of thrice, 5 never.
    assert metrics[MODEL]["next_type_f1"] == Metric(pytest.approx((4 / 5 + 0 + 1) / 3), None, 4)
    assert metrics["typical"]["next_type_f1"].value == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert metrics[MODEL]["next_time_mae"].value == pytest.approx((0.5 + 2) / 4)
    assert metrics[MODEL]["next_time_rmse"] == Metric(pytest.approx(math.sqrt((0.25 + 4) / 4)), None, 4)
    assert metrics["typical"]["next_time_mae"].value == pytest.approx(6 / 4)
    errors = found.lead_errors("typical")
    own, theirs = np.array([0.5, 0, 0, 2]), np.array([0, 1, 2, 3])
    assert errors["next_time_mae"] == pytest.approx((own - theirs).std(ddof=1) / 2)
    assert set(errors) == {"next_type_accuracy", "next_time_mae"}


def test_the_verdict_tells_what_was_foretold():
    ranked = {MODEL: lambda rows: np.array([[0, 0, 0, 2, 1.0]] * 2)[rows], "other": lambda rows: np.zeros((2, 5))[rows]}
    results = rank_methods("test", ranked, np.array([[3], [4]]), np.arange(5) > 2, 1, 2)
    value = {"next_value": np.array([5.0, 2.0, 0.0, 0.0])}
    verdict = Verdict("test", results, foretold=Foretold(TRUTH, {MODEL: value, "typical": GUESS}))
    without = Verdict("test", results)
    flat = verdict.as_flat_metrics()
    assert flat.items() - without.as_flat_metrics().items() == {
        ("test.model.next_value_mae", 0.75),
        ("test.model.next_value_rmse", math.sqrt(5 / 4)),
        ("test.typical.next_value_mae", 1.5),
        ("test.typical.next_value_rmse", math.sqrt(26 / 4)),
    }
    rows = {(row["method"], row["metric"]): row for row in verdict.as_rows(model_version=7)}
    assert len(rows) == len(without.as_rows()) + 4
    row = rows["typical", "next_value_mae"]
    assert (row["split"], row["value"], row["n_users"], row["model_version"]) == ("test", 1.5, 4, 7)
    assert row["lead_standard_error"] == pytest.approx(np.array([0, -3, 0, 0]).std(ddof=1) / 2)
    assert rows[MODEL, "next_value_mae"]["lead_standard_error"] is None
    assert rows["typical", "next_value_rmse"]["standard_error"] is None
    lines = verdict.as_lines()
    assert lines[-4:-1] == [
        "the next instant".ljust(28) + "next_value_mae".ljust(20) + "next_value_rmse",
        "model".ljust(28) + "0.7500 ± 0.4787".ljust(20) + "1.1180",
        "typical".ljust(28) + "1.5000 ± 1.1902".ljust(20) + "2.5495",
    ]
    assert lines[-1] == without.as_lines()[-1]
    untold = "of the next instant nothing is told: of next_type, next_time and next_value the model learned none"
    assert without.as_lines()[-2] == untold not in lines

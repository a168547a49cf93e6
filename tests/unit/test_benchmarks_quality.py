"""What `make bench-quality` reports: the choice is made on validation, and the test figure is told with its error."""

import pytest

from benchmarks.quality import as_markdown, best, mean, parse, settings_of, write_reviews

RUNS = {
    "gru": [
        {"seed": 1, "seconds": 3.0, "validation": 0.3, "validation_error": 0.1, "test": 0.10, "test_error": 0.01}
        | {"refit_test": 0.12, "refit_test_error": 0.01}
    ],
    "default": [
        {"seed": seed, "seconds": 5.0, "validation": 0.4, "validation_error": 0.1, "test": test, "test_error": 0.01}
        | {"refit_test": test + 0.01, "refit_test_error": 0.01}
        for seed, test in ((1, 0.05), (2, 0.07), (3, 0.09))
    ],
    "popularity": [
        {"is_baseline": True, "validation": 0.2, "validation_error": 0.02, "test": 0.25, "test_error": 0.03}
    ],
    "ease": [{"is_baseline": True, "validation": 0.35, "validation_error": 0.02, "test": 0.2, "test_error": 0.03}],
}


def test_a_mean_has_the_error_over_seeds_or_where_there_is_one_over_users():
    assert mean(RUNS["gru"], "test") == (0.10, 0.01)
    # Values 5, 7, 9 hundredths: their standard deviation is 2.
    assert mean(RUNS["default"], "test") == (pytest.approx(0.07), pytest.approx(0.02 / 3**0.5))


def test_the_best_of_each_kind_is_chosen_on_validation():
    assert best(RUNS) == {
        "model": {"name": "default", "ndcg@10": 0.08, "standard_error": 0.0115},
        "baseline": {"name": "ease", "ndcg@10": 0.2, "standard_error": 0.03},
    }


def test_a_name_of_a_model_says_its_objectives_too():
    assert settings_of("default") == ()
    assert settings_of("gru") == ("model.name=gru",)
    assert settings_of("vectors_alone+order+next_time") == (
        *("model.repeat_path=false", "model.successors=0"),
        *("model.objectives.order=0.1", "model.objectives.next_time=0.1"),
    )


def test_without_a_refit_the_figure_is_that_of_the_first_training():
    once = {name: [{key: run[key] for key in run if "refit" not in key} for run in runs] for name, runs in RUNS.items()}
    assert best(once)["model"] == {"name": "default", "ndcg@10": 0.07, "standard_error": 0.0115}


def test_the_table_has_the_best_on_validation_first():
    lines = as_markdown("shop", RUNS)
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| default", "| ease", "| gru", "| popularity"]
    assert lines[2] == "| default | 3 | 0.4000 ± 0.0000 | 0.0700 ± 0.0115 | 0.0800 ± 0.0115 | 5 |"
    assert lines[3] == "| ease |  | 0.3500 ± 0.0200 | 0.2000 ± 0.0300 |  |  |"


def test_a_file_of_sequences_becomes_one_row_an_event(tmp_path):
    (tmp_path / "reviews.txt").write_text("7 3 1\n9 3\n")
    write_reviews(tmp_path / "reviews.txt", tmp_path / "raw")
    assert (tmp_path / "raw" / "events.csv").read_text().split() == ["user,item,position", "7,3,0", "7,1,1", "9,3,0"]
    with pytest.raises(SystemExit, match="--reviews FILE"):
        write_reviews(None, tmp_path / "raw")
    assert parse(["--data", "reviews", "--models", "gru", "--seeds", "4"]).seeds == [4]

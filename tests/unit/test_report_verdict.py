"""The sentence that says who wins, and the table under it."""

from dataclasses import replace

from behavior_lib.config.schema import EvaluateConfig
from behavior_lib.evaluation.baselines import ALS
from behavior_lib.report.verdict import headline, method_name, metric_name, split_tables, verdict, wins
from tests.report_example import scores


def test_a_clear_win_is_said_with_its_figures():
    assert verdict(scores(0.2271)) == (
        "The model wins on the test split: NDCG@10 0.2271\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}0.0060 over 1,890 users, "
        "against 0.1981\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}0.0060 for the "
        "best baseline, “user's own most frequent” (+15 %). "
        "The difference is more than twice its standard error, taken user by user."
    )
    assert wins(scores(0.2271))


def test_a_lost_comparison_names_the_baseline_that_won():
    assert verdict(scores(0.15)) == (
        "The model does not win on the test split: the baseline “user's own most frequent” ranks best with NDCG@10 "
        "0.1981\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}0.0060 over 1,890 users; "
        "the model reaches 0.1500\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}0.0060 (−24 %). "
        "The difference is more than twice its standard error, taken user by user."
    )
    assert not wins(scores(0.15))


def test_every_baseline_has_a_name_that_is_not_its_key():
    for name in (*EvaluateConfig().baselines, ALS):
        assert method_name(name) != name.replace("_", " ").capitalize()
    lost = [replace(score, method="tifu_knn") if score.method == "own_frequency" else score for score in scores(0.15)]
    assert "the baseline “habits of the user and of similar ones (TIFU-KNN)” ranks best" in verdict(lost)


def test_a_lead_that_could_be_chance_is_called_so():
    expected = "The difference is within twice its standard error, taken user by user, so it may be chance."
    assert verdict(scores(0.2000)).endswith(expected)
    assert wins(scores(0.2000))


def test_a_tie_is_no_win():
    assert "level" in verdict(scores(0.1981))
    assert not wins(scores(0.1981))


def test_validation_speaks_where_there_is_no_test():
    assert "on the validation split" in verdict(scores(split="validation"))
    assert "on the test split" in verdict((*scores(split="validation"), *scores(split="test")))


def test_without_a_model_or_a_baseline_nothing_is_claimed():
    assert verdict(()) == ""
    assert verdict([score for score in scores() if score.method == "model"]) == ""
    assert verdict([score for score in scores() if score.method != "model"]) == ""


def test_the_champion_is_no_baseline():
    champion = [replace(score, method="champion", value=0.9) for score in scores() if score.method == "model"]
    assert verdict((*scores(), *champion)) == verdict(scores())


def test_a_lone_user_has_no_error():
    alone = [replace(score, standard_error=None, lead_error=None, n_users=1) for score in scores()]
    assert "NDCG@10 0.2271 over 1 user," in verdict(alone)
    assert verdict(alone).endswith("The error of the difference is not known.")


def test_the_table_has_the_best_method_first_and_marks_the_best_of_each_metric():
    (table,) = split_tables(scores())
    assert [row.method for row in table.rows] == ["Model", "User's own most frequent", "Most popular"]
    assert table.metrics == ("NDCG@10", "Hit rate@10", "Recall@10", "MRR", "Coverage@10")
    assert [[cell.best for cell in row.cells] for row in table.rows] == [
        [True, True, True, True, False],
        [False, False, False, False, True],
        [False] * 5,
    ]
    assert table.rows[0].cells[0].text == "0.2271"
    assert table.rows[0].cells[0].error == "± 0.0060"
    assert table.rows[0].cells[4].error == ""


def test_whiskers_end_inside_the_box():
    (table,) = split_tables(scores())
    assert (table.rows[0].percent, table.rows[0].low, table.rows[0].high) == (94.98, 89.96, 100.0)
    assert all(0 <= row.low <= row.percent <= row.high <= 100 for row in table.rows)


def test_figures_of_groups_and_of_other_places_are_not_on_the_page():
    other = [replace(score, metric=score.metric.replace("@10", "@20"), value=1.0) for score in scores()[:3]]
    group = [replace(score, metric=f"{score.metric}|novel", value=1.0) for score in scores()[:3]]
    extra = [replace(score, metric="novelty@10") for score in scores()[:1]]
    assert headline([*other, *group, *scores(), *extra], 10) == scores()
    assert [score.metric for score in headline([*other, *scores()], 20)][:2] == ["hit_rate@20", "recall@20"]


def test_test_comes_before_validation():
    assert [table.split for table in split_tables((*scores(split="validation"), *scores()))] == ["test", "validation"]


def test_unknown_methods_and_metrics_get_readable_names():
    assert method_name("nearest_shop") == "Nearest shop"
    assert metric_name("gini@20") == "gini@20"

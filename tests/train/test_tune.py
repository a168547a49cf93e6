"""A search: exactly its trials, each as it would be without what interrupts, in the study and in MLflow alike."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow.tracking import MlflowClient

from behavior_lib.config.schema import PrunerName, TuneConfig
from behavior_lib.errors import ConfigError, DataRefused, EnvironmentProblem, TrainingFailed
from behavior_lib.registry import Registry
from behavior_lib.train.settings import EpochResult, FitResult
from behavior_lib.train.store import FolderStore
from behavior_lib.tune.runs import StudyRuns
from behavior_lib.tune.search import Search, TrialRun
from behavior_lib.tune.space import Between, OneOf, Space
from behavior_lib.tune.study import Attempt, Best, Study
from tests.train.test_tracking import SETTINGS as RUN

EPOCHS = 3
SETTINGS = replace(RUN, fit=replace(RUN.fit, epochs=EPOCHS))
SPACE = Space({"model.dropout": Between(0.0, 0.9), "model.heads": OneOf((1, 2, 4))})


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Studies, and MLflow's address and experiment, for all tests: making the tables takes seconds."""
    root = tmp_path_factory.mktemp("stores")
    uri = f"sqlite:///{root / 'mlflow.db'}"
    return str(root / "new" / "tune.db"), (uri, Registry(uri, "encoder").experiment("tests", str(root / "artifacts")))


class Training:
    """Trains nothing: the epochs of a trial follow from what it chose, by `curve`. Remembers what it was given."""

    def __init__(self, root, curve=lambda run: [run.chosen["model.dropout"]] * EPOCHS):
        self.root, self.curve, self.seen = root, curve, []

    def __call__(self, run):
        states = self.root / "states" / str(run.number)
        run.begin(SETTINGS, str(states))
        self.seen.append((run.number, dict(run.chosen)))
        (self.root / "model").mkdir(exist_ok=True)
        (self.root / "model" / "weights").write_text(str(run.number))
        FolderStore(str(states)).put("step-1", self.root / "model")
        epochs = tuple(EpochResult(number, 2.0, ndcg, 1.0, 9.0, 4) for number, ndcg in enumerate(self.curve(run)))
        for epoch in epochs:
            run.epoch(epoch)
        best = max(epochs, key=lambda epoch: epoch.validation_ndcg).number
        return FitResult(str(self.root / "model"), best, 12, 3.0, 100.0, epochs, is_stopped=run.is_pruned)


@pytest.fixture
def shop(tmp_path, stores, request):
    return Shop(tmp_path, *stores, request.node.name)


class Shop:
    """One study, named after its test."""

    def __init__(self, root: Path, storage: str, store: tuple[str, str], name: str):
        self.root, self.storage, self.store, self.name, self.said = root, storage, store, name, []

    def study(self, seed=1, pruner=PrunerName.none, subject="s", suffix=""):
        return Study(self.storage, self.name + suffix, subject, SPACE, seed, pruner)

    def search(self, train, trials, study=None, minutes=None, should_stop=lambda: False):
        study = study or self.study()
        runs = StudyRuns(*self.store, study, {"sequences_version": 4})
        search = Search(study, runs, train, 10, self.said.append)
        found = search.run(TuneConfig(trials=trials, minutes=minutes), should_stop)
        runs.end(found, 10, found.ended >= trials)
        return found

    def mlflow(self):
        """The study's run, and those of its trials by number."""
        uri, experiment = self.store
        client = MlflowClient(uri)
        runs = [run for run in client.search_runs([experiment]) if run.data.tags["study"] == self.name]
        (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
        children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
        assert len(runs) == 1 + len(children)
        return parent, {int(run.data.tags["trial"]): run for run in children}

    def epochs_in_mlflow(self, run):
        history = MlflowClient(self.store[0]).get_metric_history(run.info.run_id, "validation_ndcg_at_10")
        return [(metric.step, metric.value) for metric in history]


def by_number(*curves):
    return lambda run: curves[run.number]


def test_three_trials_are_three_trainings_in_the_study_and_below_one_run_of_mlflow(shop):
    train = Training(shop.root, by_number([0.1, 0.3, 0.2], [0.2, 0.5, 0.4], [0.3, 0.5, 0.3]))
    found = shop.search(train, 3)
    assert [number for number, _ in train.seen] == [0, 1, 2]
    assert (found.complete, found.pruned, found.failed) == (3, 0, 0)
    assert found.best == Best(1, 0.5, train.seen[1][1])  # the first of equal ones
    parent, trials = shop.mlflow()
    assert (parent.info.status, parent.info.run_name) == ("FINISHED", shop.name)
    assert parent.data.tags["best_trial"] == "1"
    assert parent.data.tags["best.model.heads"] == str(train.seen[1][1]["model.heads"])
    figures = {"best_validation_ndcg_at_10": 0.5, "trials_complete": 3, "trials_pruned": 0, "trials_failed": 0}
    assert parent.data.metrics == figures
    assert sorted(trials) == [0, 1, 2]
    for number, run in trials.items():
        assert (run.info.status, run.data.tags["trial_state"]) == ("FINISHED", "complete")
        assert run.info.run_name == f"trial {number}"
        assert run.data.params["model.dropout"] == str(train.seen[number][1]["model.dropout"])
        assert (run.data.params["train.epochs"], run.data.tags["sequences_version"]) == ("3", "4")
    assert shop.epochs_in_mlflow(trials[0]) == [(0, 0.1), (1, 0.3), (2, 0.2)]
    assert [path.name for path in (shop.root / "states").iterdir()] == ["1"]
    assert shop.said[-1] == "trial 2: validation NDCG@10 0.5000"


def test_an_interrupted_search_goes_on_in_the_trial_that_was_at_work(shop):
    def fall(run):
        for number in (0, 1):
            run.epoch(EpochResult(number, 2.0, 0.5, 1.0, 9.0, 4))
        raise KeyboardInterrupt

    train = Training(shop.root, lambda run: fall(run) if run.number == 1 else [0.1] * EPOCHS)
    with pytest.raises(KeyboardInterrupt):
        shop.search(train, 3)
    assert shop.mlflow()[1][1].info.status == "KILLED"
    assert shop.study().found().ended == 1
    again = Training(shop.root, lambda run: [0.5, 0.5, 0.6])
    found = shop.search(again, 3)
    assert (found.complete, found.pruned, found.failed) == (3, 0, 0)
    assert [number for number, _ in again.seen] == [1, 2]
    assert train.seen[1] == again.seen[0]
    parent, trials = shop.mlflow()
    assert (parent.info.status, [trials[number].info.status for number in sorted(trials)]) == (
        "FINISHED",
        ["FINISHED"] * 3,
    )
    assert shop.epochs_in_mlflow(trials[1]) == [(0, 0.5), (1, 0.5), (2, 0.6)]


def drawn(study, trials):
    """What each trial is given, where its value is its dropout."""
    given = []
    for _ in range(trials):
        attempt = study.next()
        given.append(dict(attempt.chosen))
        study.complete(attempt, attempt.chosen["model.dropout"])
    return given


def test_what_a_trial_is_given_follows_from_the_seed_its_number_and_the_trials_before(shop):
    """From the eleventh on what TPE learned decides."""
    whole = drawn(shop.study(), 13)
    assert drawn(shop.study(suffix=" again"), 11) == whole[:11]
    begun = shop.study(suffix=" again").next()
    assert begun.chosen == whole[11]
    assert drawn(shop.study(suffix=" again"), 2) == whole[11:]
    assert drawn(shop.study(seed=2, suffix=" of another seed"), 1) != whole[:1]
    first, later = whole[:10], whole[10:]
    assert len({values["model.dropout"] for values in first}) == 10
    assert min(values["model.dropout"] for values in later) > sorted(values["model.dropout"] for values in first)[4]


def test_enough_is_enough_and_more_can_be_asked_for(shop):
    assert shop.search(Training(shop.root), 2).ended == 2
    nothing, more = Training(shop.root), Training(shop.root)
    assert shop.search(nothing, 2).ended == shop.search(nothing, 1).ended == 2
    assert nothing.seen == []
    assert shop.search(more, 3).ended == 3
    assert [number for number, _ in more.seen] == [2]


def test_a_trial_below_the_median_of_five_is_pruned_at_that_epoch(shop):
    """At the first epoch the five have .1, .2, .3, .4, .5. After the last epoch nothing is pruned any more."""
    five = [[first, first, 0.9] for first in (0.1, 0.2, 0.3, 0.4, 0.5)]
    late = [0.3, 0.2, 0.1]  # as good as the median; its best stays so, and the median of the last epoch is .9
    train = Training(shop.root, by_number(*five, [0.29, 0.99, 0.99], late))
    found = shop.search(train, 7, shop.study(pruner=PrunerName.median))
    assert (found.complete, found.pruned, found.failed) == (6, 1, 0)
    _, trials = shop.mlflow()
    assert (trials[5].info.status, trials[5].data.tags["trial_state"]) == ("KILLED", "pruned")
    assert shop.epochs_in_mlflow(trials[5]) == [(0, 0.29)]
    assert shop.epochs_in_mlflow(trials[6]) == [(0, 0.3), (1, 0.2), (2, 0.1)]
    assert shop.said[-3] == "trial 5: pruned"


@pytest.mark.parametrize(
    ("change", "last"),
    [
        ({"stop_after": 2}, 2),
        ({"max_steps": 5}, 2),
        ({"patience": 1}, 2),
        ({}, 3),
        ({"patience": 1, "keeps_newest": True}, 3),
    ],
)
def test_the_pruner_is_not_asked_after_the_epoch_that_training_ends_with(shop, monkeypatch, change, last):
    """Of three epochs of three steps, of which the first is the best."""
    asked, fit = [], replace(SETTINGS.fit, **{"epochs": 3, "patience": 3, **change})
    run = TrialRun(shop.study().next(), SimpleNamespace(parameters=lambda told: None, epoch=lambda result, k: None))
    monkeypatch.setattr(Attempt, "report", lambda attempt, result, is_last: asked.append(is_last))
    run.begin(replace(SETTINGS, fit=fit), "states")
    for number, ndcg in enumerate((0.3, 0.2, 0.1)[:last]):
        run.epoch(EpochResult(number, 2.0, ndcg, 1.0, 9.0, 3))
    assert asked == [False] * (last - 1) + [True]


def tell(attempt, curve):
    """Report the epochs until the trial is pruned. Returns after how many, or None."""
    for number, ndcg in enumerate(curve):
        attempt.report(EpochResult(number, 2.0, ndcg, 1.0, 9.0, 4), is_last=number + 1 == EPOCHS)
        if attempt.is_pruned:
            return number + 1
    return None


def test_the_better_half_goes_on(shop):
    """After 1 epoch and after 2 a trial must be among the better half of those that came so far."""
    study, ends = shop.study(pruner=PrunerName.halving), []
    for curve in ([0.5, 0.5, 0.5], [0.4, 0.9, 0.9], [0.6, 0.4, 0.9], [0.45, 0.9, 0.9], [0.55, 0.6, 0.3]):
        attempt = study.next()
        ends.append(tell(attempt, curve))
        if attempt.is_pruned:
            study.prune(attempt)
        else:
            study.complete(attempt, max(curve))
    assert ends == [None, 1, 2, 1, None]
    found = study.found()
    assert (found.complete, found.pruned, found.best.trial) == (2, 3, 4)


def test_what_the_pruner_let_pass_is_not_asked_again_after_a_kill(shop):
    """Once killed after its last epoch, where others have .9; once after its first, where they have .1."""
    study = shop.study(pruner=PrunerName.median)
    for _ in range(5):
        attempt = study.next()
        tell(attempt, [0.1, 0.1, 0.9])
        study.complete(attempt, 0.9)
    late = [0.2, 0.2, 0.2]
    assert tell(study.next(), late) is None
    again = shop.study(pruner=PrunerName.median).next()
    assert (again.number, tell(again, late)) == (5, None)
    study.complete(again, 0.2)
    assert tell(study.next(), [0.05]) == 1
    again = shop.study(pruner=PrunerName.median).next()
    assert (again.number, tell(again, [0.05, 0.9, 0.9])) == (6, 1)


def test_a_failed_trial_counts_and_the_search_goes_on(shop):
    def curve(run):
        if run.number == 0:
            raise TrainingFailed("the loss is not a number")
        if run.number == 1:
            raise ConfigError("model.dimension does not split")
        return [0.1] * EPOCHS

    found = shop.search(Training(shop.root, curve), 3)
    assert (found.complete, found.failed, found.reason) == (1, 2, "model.dimension does not split")
    _, trials = shop.mlflow()
    assert [trials[number].info.status for number in range(3)] == ["FAILED", "FAILED", "FINISHED"]
    # What a person may want to look at stays.
    assert sorted(path.name for path in (shop.root / "states").iterdir()) == ["0", "1", "2"]


def test_an_error_that_is_not_of_the_trial_ends_the_search_and_the_trial_goes_on_later(shop):
    def curve(run):
        raise DataRefused("there is no validation row")

    with pytest.raises(DataRefused):
        shop.search(Training(shop.root, curve), 2)
    train = Training(shop.root)
    assert shop.search(train, 1).complete == 1
    assert [number for number, _ in train.seen] == [0]


def test_a_stopped_training_ends_the_search_and_goes_on_with_the_next_call(shop):
    class Stopped(Training):
        def __call__(self, run):
            return replace(super().__call__(run), is_stopped=run.number == 1)

    found = shop.search(Stopped(shop.root), 4)
    assert found.ended == 1
    parent, trials = shop.mlflow()
    assert [parent.info.status, trials[1].info.status] == ["KILLED", "KILLED"]
    train = Training(shop.root)
    assert shop.search(train, 2).complete == 2
    assert [number for number, _ in train.seen] == [1]
    assert shop.mlflow()[0].info.status == "FINISHED"


def test_no_trial_begins_after_the_time_or_once_asked_to_end(shop):
    assert shop.search(Training(shop.root), 3, minutes=0.0).ended == 0
    assert shop.search(Training(shop.root), 3, should_stop=lambda: True).ended == 0
    asked = iter([False, False, True])
    assert shop.search(Training(shop.root), 3, should_stop=lambda: next(asked)).ended == 2


def test_the_first_trial_is_the_configuration_as_it_stands_where_the_space_holds_it(shop):
    study = shop.study()
    assert not study.begin_with({"model.dropout": 0.95, "model.heads": 2})
    assert study.begin_with({"model.dropout": 0.125, "model.heads": 2})
    assert not study.begin_with({"model.dropout": 0.125, "model.heads": 2})
    train = Training(shop.root)
    shop.search(train, 2, study)
    assert train.seen[0] == (0, {"model.dropout": 0.125, "model.heads": 2})
    assert train.seen[1][1]["model.dropout"] != 0.125


def test_a_name_stands_for_one_subject(shop):
    shop.study(subject="one")
    shop.study(subject="one")
    with pytest.raises(ConfigError) as error:
        shop.study(subject="other")
    assert str(error.value) == (
        f"the study has another space, other sequences or other settings: {shop.name!r}; choose another tune.study, "
        "or leave it out"
    )


@pytest.mark.parametrize("storage", ["in/the/way/tune.db", "nosuch://me:secret@host/x"])
def test_a_storage_that_cannot_be_opened_is_told_without_its_password(shop, storage):
    (shop.root / "in").write_text("a file")
    where = storage if "://" in storage else str(shop.root / storage)
    with pytest.raises(EnvironmentProblem, match=r"^studies cannot be stored in tune\.storage; \w+: give the") as error:
        Study(where, shop.name, "s", SPACE, 1, PrunerName.none)
    assert "secret" not in str(error.value)

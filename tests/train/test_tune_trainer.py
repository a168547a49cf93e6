"""A trial trains what `behavior train` would with the same settings, and `behavior train` takes up what it left."""

import pytest

from behavior_lib.config import load
from behavior_lib.data.snapshot import Snapshot, count_train
from behavior_lib.errors import ConfigError
from behavior_lib.models.build import as_tensors
from behavior_lib.train.communicator import SingleProcess
from behavior_lib.train.plan import plan
from behavior_lib.train.worker import train_rank
from behavior_lib.tune.space import Between, OneOf, Space
from behavior_lib.tune.trainer import Trainer, subject_of
from tests.sequences_example import frame, habits, histories, write
from tests.train.test_fit import Watcher

CHANGES = [
    "train.epochs=3",
    "train.batch_size=8",
    "train.communicator=single",
    "train.reader=pyarrow",
    "train.threads=1",
]
CHANGES += ["model.window=8", "train.negatives=32", "evaluate.k=3", "train.patience=9", "model.dimension=16"]
SPACE = Space({"train.learning_rate": Between(0.001, 0.1)})


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("tables") / "sequences"
    lists, own = habits(40, 12, 30, 1)
    version = write(
        path,
        frame(histories(lists, 12), "train"),
        frame(histories(lists, 12), "validation", [sorted(items) for items in own]),
    )
    return path, Snapshot.resolve(str(path), version)


def loaded(tmp_path, *more):
    paths = [f"paths.{name}={tmp_path / name}" for name in ("raw", "warehouse", "var")]
    return load("test", "tune", [*paths, *CHANGES, "run.show_progress=false", *more])


class Rank:
    """In the launcher's place: the one rank that it would start, in this process."""

    def __init__(self):
        self.watchers = []

    def __call__(self, settings, snapshot, counts, listen, should_stop=lambda: False):
        watcher = Watcher()
        watcher.epoch = listen
        self.watchers.append(watcher)
        items = as_tensors(counts.arrays())
        return train_rank(settings, snapshot, items, SingleProcess(), watcher, should_stop)


class Heard:
    """In the place of a trial: pruned after so many epochs."""

    def __init__(self, chosen, epochs=9):
        self.number, self.chosen, self.states, self.told, self.limit = 5, chosen, None, [], epochs

    @property
    def is_pruned(self):
        return len(self.told) >= self.limit

    def begin(self, settings, states):
        self.settings, self.states = settings, states

    def epoch(self, result):
        self.told.append(result.validation_ndcg)


def test_train_finds_a_finished_trial_and_has_nothing_left_to_do(table, tmp_path):
    _, snapshot = table
    counts, rank = count_train(snapshot), Rank()
    trainer = Trainer(loaded(tmp_path), snapshot, counts, tmp_path / "var" / "tune" / "shop", lambda: False, rank)
    trial = Heard({"train.learning_rate": 0.0234567890123, "model.dropout": 0.2})
    result = trainer(trial)
    assert [epoch.validation_ndcg for epoch in result.epochs] == trial.told
    assert (trial.settings.fit.learning_rate, trial.settings.spec.dropout) == (0.0234567890123, 0.2)
    typed = loaded(tmp_path, "train.learning_rate=0.0234567890123", "model.dropout=0.2").for_job("train")
    settings = plan(typed.config, counts, tmp_path / "var" / "train" / "shop")
    assert settings.checkpoints_of(snapshot) == trial.states
    heard = []
    again = rank(settings, snapshot, counts, heard.append)
    assert (again.epochs, heard, rank.watchers[-1].steps) == (result.epochs, list(result.epochs), [])


def test_a_pruned_trial_ends_in_the_epoch_after_it_and_so_does_one_of_a_search_that_is_to_end(table, tmp_path):
    _, snapshot = table
    asked = []
    folder = tmp_path / "var" / "tune" / "shop"
    trainer = Trainer(loaded(tmp_path), snapshot, count_train(snapshot), folder, lambda: bool(asked), Rank())
    result = trainer(Heard({"train.learning_rate": 0.02}, epochs=1))
    assert (result.is_stopped, len(result.epochs), result.steps) == (True, 1, 5 + 1)
    asked.append("SIGTERM")
    assert trainer(Heard({"train.learning_rate": 0.03})).steps == 1


def test_choices_that_do_not_fit_together_are_told(table, tmp_path):
    _, snapshot = table
    trainer = Trainer(loaded(tmp_path), snapshot, count_train(snapshot), tmp_path, lambda: False, Rank())
    with pytest.raises(ConfigError, match="does not split into heads"):
        trainer(Heard({"model.heads": 3}))


def test_a_study_is_of_its_space_its_files_and_what_is_fixed(table, tmp_path):
    path, snapshot = table

    def subject(*more, space=SPACE, files=snapshot, attributes=""):
        return subject_of(loaded(tmp_path, *more).for_job("train"), space, files, attributes)

    same = subject()
    assert len(same) == 12
    # What varies has no fixed value, and what changes no result is free to change.
    assert {subject("train.learning_rate=0.5"), subject("train.timeout_minutes=9", "train.threads=2")} == {same}
    others = [
        subject("model.layers=2"),
        subject("train.workers=3"),
        subject("seed=4"),
        subject("evaluate.k=5"),
        subject(attributes="what is known of items"),
        subject(space=Space({"train.learning_rate": Between(0.001, 0.2)})),
        subject(space=Space({"train.learning_rate": OneOf((0.001, 0.1))})),
    ]
    version = write(path, frame(histories([[4, 5]], 12), "test"))
    assert subject(files=Snapshot.resolve(str(path), version)) == same  # the test split has no say
    version = write(path, frame(histories([[4, 5]], 12), "train"))
    others.append(subject(files=Snapshot.resolve(str(path), version)))
    assert len({same, *others}) == 9

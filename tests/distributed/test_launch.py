"""The real launcher: two processes, one result; and one sentence where it cannot be."""

import os
import re
import signal
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
import torch

from behavior_lib.config import load
from behavior_lib.data.loader import Loader
from behavior_lib.data.snapshot import Snapshot, count_train
from behavior_lib.errors import ConfigError, DataRefused, EnvironmentProblem, TrainingFailed
from behavior_lib.models.build import load_model
from behavior_lib.train import launch as launching
from behavior_lib.train.communicator import SingleProcess
from behavior_lib.train.launch import last_words, launch
from behavior_lib.train.messages import MemoryMessage, Note, StepMessage
from behavior_lib.train.plan import plan
from behavior_lib.train.settings import EpochResult
from behavior_lib.train.validation import validation_ndcg
from tests.sequences_example import frame, habits, histories, write

pytestmark = pytest.mark.distributed
LENGTH = 12
OVERRIDES = [
    "train.epochs=2",
    "train.batch_size=8",
    "train.learning_rate=0.02",
    "train.negatives=32",
    "train.threads=1",
    "train.timeout_minutes=3",
    "model.dimension=16",
    "model.window=8",
    "evaluate.k=3",
]


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    path = tmp_path_factory.mktemp("tables") / "sequences"
    lists, own = habits(88, LENGTH, 30, 1)
    # Uneven files and an odd number of batches: one rank has none left for the last step.
    train = [frame(histories(lists[a:b], LENGTH), "train", first_user=a) for a, b in ((0, 48), (48, 88))]
    version = write(path, *train, frame(histories(lists, LENGTH), "validation", [sorted(items) for items in own]))
    return Snapshot.resolve(str(path), version)


def settings(snapshot, tmp_path, *more):
    paths = [f"paths.{name}={tmp_path / name}" for name in ("raw", "warehouse", "var")]
    loaded = load("test", "train", [*paths, *OVERRIDES, *more])
    return plan(loaded.config, count_train(snapshot), tmp_path / "run")


def run(snapshot, tmp_path, *more):
    heard = []
    result = launch(settings(snapshot, tmp_path, *more), snapshot, count_train(snapshot), heard.append)
    return result, heard


def weights(result):
    return load_model(Path(result.checkpoint)).state_dict()


def test_two_horovod_processes_train_one_model_as_two_of_torch_do(snapshot, tmp_path):
    result, heard = run(snapshot, tmp_path / "h")
    assert [epoch.steps for epoch in result.epochs] == [6, 6]
    assert result.best.validation_ndcg > 0.6
    assert [message for message in heard if not isinstance(message, StepMessage | MemoryMessage)] == list(result.epochs)
    assert {message.rank for message in heard if isinstance(message, MemoryMessage)} == {0, 1}
    assert [message for message in heard if isinstance(message, StepMessage)][-1].done == 12
    judged = Loader(snapshot, "validation", 16, "pyarrow")
    again = validation_ndcg(load_model(Path(result.checkpoint)), judged, SingleProcess(), 3)
    assert again == pytest.approx(result.best.validation_ndcg, abs=1e-6)
    other, _ = run(snapshot, tmp_path / "t", "train.communicator=torch", "train.reader=pyarrow")
    first, second = weights(result), weights(other)
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-6, atol=1e-6)


LONG = ("train.epochs=20", "train.patience=20", "train.checkpoint_steps=3")


@pytest.fixture(scope="module")
def uninterrupted(snapshot, tmp_path_factory):
    """What two Horovod processes make of LONG."""
    return weights(run(snapshot, tmp_path_factory.mktemp("whole"), *LONG)[0])


def assert_goes_on_as_if_nothing_had_been(snapshot, folder, uninterrupted):
    result, heard = run(snapshot, folder, *LONG)
    assert next(message.sentence for message in heard if isinstance(message, Note)).startswith("going on after step")
    assert (len(result.epochs), result.is_stopped) == (20, False)
    found = weights(result)
    assert all(torch.equal(found[name], uninterrupted[name]) for name in uninterrupted)


def test_sigterm_stores_the_state_of_two_processes_and_the_next_call_goes_on(snapshot, tmp_path, uninterrupted):
    def ask_to_end(message):
        if isinstance(message, StepMessage):
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    wanted = settings(snapshot, tmp_path, *LONG)
    result = launch(wanted, snapshot, count_train(snapshot), ask_to_end)
    assert result.is_stopped
    assert 0 < result.steps < 120
    assert signal.getsignal(signal.SIGTERM) is before
    assert_goes_on_as_if_nothing_had_been(snapshot, tmp_path, uninterrupted)


def test_who_launches_can_end_the_run_which_keeps_its_state(snapshot, tmp_path):
    heard = []
    wanted = settings(snapshot, tmp_path, "train.communicator=single", "train.epochs=100000", "train.patience=100000")
    result = launch(
        wanted,
        snapshot,
        count_train(snapshot),
        heard.append,
        lambda: any(isinstance(message, EpochResult) for message in heard),
    )
    assert result.is_stopped
    assert 1 <= len(result.epochs) < 100_000
    assert list((tmp_path / "var" / "checkpoints").rglob("step-*"))


def test_sigterm_is_told_to_who_listened_before_as_well():
    told = []
    before = signal.signal(signal.SIGTERM, lambda *_: told.append("before"))
    try:
        with launching.asked_to_end(lambda: told.append("outer")), launching.asked_to_end(lambda: told.append("inner")):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert told == ["inner", "outer", "before", "before"]


def worker(folder, rank):
    """The process of a rank of the run in that folder."""
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if line[1:3] == ["-m", "behavior_lib.train.worker"] and line[3].startswith(str(folder)):
            environment = process.environ()
            if environment.get("HOROVOD_RANK", environment.get("RANK")) == str(rank):
                return process
    raise AssertionError(f"no rank {rank} runs in {folder}")


def test_a_killed_worker_costs_no_more_than_the_steps_since_the_newest_state(snapshot, tmp_path, uninterrupted):
    """Rank 0, which stores the states."""
    heard = []

    def kill_one(message):
        if isinstance(message, EpochResult) and not any(isinstance(each, EpochResult) for each in heard):
            worker(tmp_path, 0).kill()
        heard.append(message)

    wanted = settings(snapshot, tmp_path, *LONG)
    result = launch(wanted, snapshot, count_train(snapshot), kill_one)
    notes = [message.sentence for message in heard if isinstance(message, Note)]
    assert "the workers ended early" in notes[0]
    assert notes[0].endswith("starting again from the newest state")
    assert notes[1].startswith("going on after step")
    found = weights(result)
    assert all(torch.equal(found[name], uninterrupted[name]) for name in uninterrupted)


def steps_of_epochs(batches, epochs, groups):
    """Steps of each epoch where groups of ranks, [size, first step], take over from one another.

    A group cuts what is left of the epoch into a stretch a rank, and so does the next one of what that leaves.
    """
    steps, done, groups = [], 0, [*groups, [0, None]]
    for _ in range(epochs):
        left, began = list(range(batches)), done
        while left:
            (size, _), (_, until) = groups[:2]
            bounds = [len(left) * rank // size for rank in range(size + 1)]
            longest = -(-len(left) // size)
            each = longest if until is None else min(longest, until - done)
            left = [batch for low, high in pairwise(bounds) for batch in left[low:high][each:]]
            done += each
            if done == until:
                groups.pop(0)
        steps.append(done - began)
    return steps


def test_steps_are_those_of_what_each_group_finds_left():
    assert steps_of_epochs(11, 2, [[4, 0]]) == [3, 3]
    # Two steps of 4 ranks leave batches 4, 7 and 10 of 11.
    assert steps_of_epochs(11, 2, [[4, 0], [3, 2]]) == [3, 4]
    assert steps_of_epochs(11, 3, [[4, 0], [3, 3], [2, 5]]) == [3, 5, 6]


@pytest.mark.parametrize(("workers", "killed"), [(2, 0), pytest.param(4, 1, marks=pytest.mark.slow)])
def test_the_workers_that_are_left_go_on(snapshot, tmp_path, workers, killed):
    """They see what is left of the epoch at work, once, and every row of the later ones."""
    heard = []

    def kill_one(message):
        if isinstance(message, EpochResult) and not any(isinstance(each, EpochResult) for each in heard):
            worker(tmp_path, killed).kill()
        heard.append(message)

    elastic = ("train.epochs=6", f"train.workers={workers}", "train.min_workers=1", "train.restarts=0")
    wanted = settings(snapshot, tmp_path, *LONG, *elastic)
    result = launch(wanted, snapshot, count_train(snapshot), kill_one)
    notes = [message.sentence for message in heard if isinstance(message, Note)]
    # Gloo can take another worker down with the killed one, and says so: fewer go on then, at once or one by one.
    lost = [
        re.fullmatch(rf"a worker is lost: (\d) of {workers} go on from the newest state", each) for each in notes[::2]
    ]
    done = [re.fullmatch(r"going on after step (\d+) of \d+", each) for each in notes[1::2]]
    groups = [[int(size[1]), int(first[1])] for size, first in zip(lost, done, strict=True)]
    sizes = [workers, *(size for size, _ in groups)]
    assert sizes == sorted(set(sizes), reverse=True)
    if sizes != [workers, workers - 1]:
        assert "gloo::EnforceNotMet" in (tmp_path / "run" / "workers.log").read_text(encoding="utf-8")
    expected = steps_of_epochs(11, 6, [[workers, 0], *groups])
    assert [each.steps for each in result.epochs] == expected
    assert result.steps == sum(expected)
    assert [each.number for each in heard if isinstance(each, EpochResult)] == list(range(6))


@pytest.mark.slow
def test_what_a_worker_refuses_ends_the_others_though_they_could_go_on(snapshot, tmp_path):
    wanted = settings(snapshot, tmp_path, *LONG, "train.min_workers=1", "train.highest_loss=1e-9")
    with pytest.raises(TrainingFailed, match=r"^the loss is not a number or too high in step 0 \(failed-"):
        launch(wanted, snapshot, count_train(snapshot), lambda message: None)


def test_a_worker_that_hangs_is_named(snapshot, tmp_path):
    def stop_one(message):
        if isinstance(message, EpochResult) and message.number == 0:
            worker(tmp_path, 1).send_signal(signal.SIGSTOP)

    more = ("train.communicator=torch", "train.restarts=0", "train.stall_minutes=0.2")
    wanted = settings(snapshot, tmp_path, *LONG, *more)
    with pytest.raises(
        TrainingFailed, match=r"^training hangs in .*workers\.log: 'rank 1 is stopped by a signal: rank 0"
    ):
        launch(wanted, snapshot, count_train(snapshot), stop_one)


def test_what_a_worker_refuses_is_refused_in_its_words(snapshot, tmp_path):
    wanted = settings(snapshot, tmp_path, "train.communicator=single")
    empty = replace(snapshot, files={"train": snapshot.files["train"]})
    with pytest.raises(DataRefused, match=r"^there is no validation row in .*; move the cuts: split\.days$"):
        launch(wanted, empty, count_train(snapshot), lambda message: None)


def test_a_crash_is_told_in_one_sentence_with_the_log(snapshot, tmp_path):
    wanted = settings(snapshot, tmp_path, "train.communicator=single")
    gone = replace(snapshot, files={**snapshot.files, "train": (replace(snapshot.files["train"][0], path="/gone"),)})
    with pytest.raises(TrainingFailed, match=r"ended early in .*workers\.log: .*OSError: .*/gone"):
        launch(wanted, gone, count_train(snapshot), lambda message: None)


LATE = """
import signal, subprocess, sys
def start(*_):
    waiting = "import signal; print('there', flush=True); signal.pause()"
    for folder in sys.argv[2:]:
        command = [sys.executable, "-c", waiting, sys.argv[1], folder]
        subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE).stdout.readline()
    signal.pause()
signal.signal(signal.SIGTERM, start)
signal.pause()
"""


def test_what_starts_while_others_are_ended_is_ended_too(snapshot, tmp_path, monkeypatch):
    """A launcher that is asked to end may be about to start its next worker, which is nobody's child then."""
    wanted = settings(snapshot, tmp_path, "train.timeout_minutes=0.1")
    neighbour = f"{wanted.folder}2"  # of another run
    command = [sys.executable, "-c", LATE, launching.WORKER, wanted.folder, neighbour]
    monkeypatch.setattr(launching, "commands", lambda _: [command])
    monkeypatch.setattr(launching, "GRACE_SECONDS", 1.0)
    with pytest.raises(TrainingFailed, match=r"did not end in time"):
        launch(wanted, snapshot, count_train(snapshot), lambda message: None)
    named = [(process, process.info["cmdline"] or [""]) for process in psutil.process_iter(["cmdline"])]
    left = [process for process, words in named if words[-1] in (wanted.folder, neighbour)]
    try:
        assert [process.cmdline()[-1] for process in left] == [neighbour]
    finally:
        for process in left:
            process.kill()


def test_the_watchdog_leaves_no_process_behind(snapshot, tmp_path):
    wanted = settings(snapshot, tmp_path, "train.timeout_minutes=0.02")
    with pytest.raises(TrainingFailed, match=r"did not end in time .*train\.timeout_minutes"):
        launch(wanted, snapshot, count_train(snapshot), lambda message: None)
    # Of the whole machine: a worker whose parent died is no descendant any more. The dead have no command line.
    running = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    assert [command for command in running if wanted.folder in command] == []


def test_what_a_killed_run_left_is_not_taken_for_this_run_s(snapshot, tmp_path):
    wanted = settings(snapshot, tmp_path, "train.communicator=single")
    folder = Path(wanted.folder)
    folder.mkdir(parents=True)
    (folder / "result.json").write_text("{}")
    (folder / "failure-1.json").write_text("{}")
    result = launch(replace(wanted, fit=replace(wanted.fit, epochs=1)), snapshot, count_train(snapshot), lambda _: None)
    assert len(result.epochs) == 1


def test_a_worker_ends_with_its_driver(snapshot, tmp_path, monkeypatch):
    # The process that the worker is told to live with is over already.
    finished = psutil.Popen(["true"])
    finished.wait()
    monkeypatch.setattr(os, "getpid", lambda: finished.pid)
    endless = settings(snapshot, tmp_path, "train.communicator=single", "train.epochs=100000", "train.patience=100000")
    with pytest.raises(TrainingFailed, match="ended early"):
        launch(endless, snapshot, count_train(snapshot), lambda message: None)


def test_without_horovod_the_sentence_says_how_to_go_on(snapshot, tmp_path, monkeypatch):
    monkeypatch.setattr(launching, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentProblem, match=r"Horovod is not installed; .*train\.communicator=torch"):
        run(snapshot, tmp_path)


def test_the_log_s_first_cause_is_named_not_its_consequence():
    log = "\n".join(
        [
            "[1]<stderr>:Traceback (most recent call last):",
            "[1]<stderr>:ValueError: the cause",
            "[0]<stderr>:horovod.common.exceptions.HorovodInternalError: Horovod has been shut down. This was",
            "RuntimeError: Horovod detected that one or more processes exited",
            "Exit code: 1",
        ]
    )
    assert last_words(log) == "ValueError: the cause"
    assert last_words("[rank1]: OSError: gone\n") == "OSError: gone"
    assert last_words("Killed\n\n") == "Killed"
    assert last_words("") == "nothing was said"


def test_a_port_in_use_is_the_machine_s_problem(tmp_path):
    (tmp_path / "workers.log").write_text("RuntimeError: [..] bind: Address already in use\n")
    assert isinstance(launching._failure(tmp_path), EnvironmentProblem)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("train.workers=0", r"train\.workers must be above 0: 0"),
        ("model.dimension=18", r"does not split into heads .*18"),
        ("train.min_workers=3", r"train\.min_workers cannot be: 3; choose 1 to train\.workers, which is 2"),
        (
            "train.min_workers=1 train.batch_of=step",
            r"needs another train\.batch_of: 'step'; --set train\.batch_of=worker",
        ),
        ("train.min_workers=1 train.communicator=torch", r"needs another train\.communicator: 'torch'"),
        ("train.min_workers=1 train.launcher=spark", r"needs another train\.launcher: 'spark'"),
    ],
)
def test_settings_that_cannot_be_are_refused(snapshot, tmp_path, override, sentence):
    with pytest.raises(ConfigError, match=sentence):
        settings(snapshot, tmp_path, *override.split())

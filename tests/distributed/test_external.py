"""Ranks that torchrun or horovodrun started train what this package's own launcher trains."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from behavior_lib.config import load
from behavior_lib.data.snapshot import Snapshot, count_train
from behavior_lib.errors import ConfigError, DataRefused, EnvironmentProblem
from behavior_lib.models.build import load_model
from behavior_lib.spark import job as jobs
from behavior_lib.spark.ledger import Summary
from behavior_lib.train import external
from behavior_lib.train.communicator import SingleProcess
from behavior_lib.train.executor import telling_why
from behavior_lib.train.external import Ranks, gather
from behavior_lib.train.launch import launch
from behavior_lib.train.plan import plan
from behavior_lib.train.store import FolderStore
from tests.distributed.external_job import Unwritten
from tests.sequences_example import ATTRIBUTES, VECTORS, frame, habits, histories, with_values, write

pytestmark = pytest.mark.distributed
ROOT = Path(__file__).parents[2]
LIMIT_SECONDS = 240
SETTINGS = (
    "train.launcher=external",
    "train.reader=pyarrow",
    "train.epochs=1",
    "train.batch_size=8",
    "train.negatives=32",
    "train.threads=1",
    "model.dimension=16",
    "model.window=8",
    ATTRIBUTES,
    VECTORS,
)
LAUNCHERS = {
    "torch": ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"],
    "horovod": ["-m", "horovod.runner.launch", "--gloo", "-np", "2", "-H", "localhost:2", sys.executable, "-m"],
}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A sequences table with an odd number of batches, and its version."""
    path = tmp_path_factory.mktemp("tables") / "sequences"
    lists, own = habits(40, 12, 30, 1)
    train = frame(histories(lists, 12), "train")
    version = write(path, train, frame(histories(lists, 12), "validation", [sorted(items) for items in own]))
    return str(path), version


def settings(folder, *more):
    return [*(f"paths.{name}={folder / name}" for name in ("raw", "warehouse", "var")), *SETTINGS, *more]


def started(launcher, folder, *more):
    """The exit code of the launcher, and the JSON lines that all ranks printed."""
    words = [word for each in settings(folder, f"train.communicator={launcher}", *more) for word in ("--set", each)]
    command = [sys.executable, *LAUNCHERS[launcher], "tests.distributed.external_job", "--env", "test", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LIMIT_SECONDS)
    lines = [line[line.index("{") :] for line in done.stdout.splitlines() if '"job"' in line]
    return done.returncode, [json.loads(line) for line in lines]


def weights(checkpoint):
    return load_model(Path(checkpoint)).state_dict()


@pytest.fixture(scope="module")
def wanted(table, tmp_path_factory):
    """The weights that this package's own launcher comes to."""
    folder, snapshot = tmp_path_factory.mktemp("local"), Snapshot.resolve(*table)
    counts = with_values(count_train(snapshot))
    config = load("test", "train", settings(folder, "train.communicator=torch")).config
    return weights(launch(plan(config, counts, folder / "run"), snapshot, counts, lambda message: None).checkpoint)


@pytest.mark.parametrize("launcher", ["torch", "horovod"])
def test_ranks_of_another_launcher_train_the_same_weights(table, wanted, tmp_path, launcher):
    path, version = table
    code, told = started(launcher, tmp_path, f"run.input={path}", f"run.batch_id={version}")
    assert (code, [(each["status"], each.get("error")) for each in told]) == (0, [("succeeded", None)])
    assert told[0]["messages"] >= 3  # a step, the memory and the epoch
    found = weights(told[0]["checkpoint"])
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert int(found["attributes.value_index"].max()) == 7  # rank 1 has them of rank 0
    assert float(found["given.given"].min()) == -(found["item_counts"].numel() - 1) / 4


def test_ranks_end_with_a_rank_0_that_refuses(tmp_path):
    code, told = started("torch", tmp_path, "run.batch_id=refuse")
    assert code != 0
    assert [(each["status"], each["error"]) for each in told] == [("failed", "nothing to train on in this test")]


class Waiting(SingleProcess):
    """A rank of two, and what it was asked."""

    size = 2

    def __init__(self, rank, text=""):
        self.rank, self.text, self.said = rank, text, []

    def share(self, name, text):
        self.said.append(text)
        return self.text

    def close(self):
        self.said.append("closed")


def command(monkeypatch, tmp_path, communicator, run, *more):
    monkeypatch.setattr(external, "connect", lambda *_: communicator)
    monkeypatch.setitem(sys.modules[run.__module__].__dict__, "TRAINS", True)
    monkeypatch.setenv("RANK", "0")
    words = [word for each in settings(tmp_path, "train.communicator=torch", *more) for word in ("--set", each)]
    return jobs.main(run, ["--env", "test", *words])


def test_a_rank_that_is_let_go_does_nothing_and_tells_nothing(monkeypatch, tmp_path, capsys):
    def run(job):
        raise AssertionError("this is rank 0's work")

    rank = Waiting(1)
    assert command(monkeypatch, tmp_path, rank, run) == 0
    assert rank.said == ["", "closed"]
    assert capsys.readouterr().out == ""


def test_rank_0_lets_the_others_go_where_it_does_not_train(monkeypatch, tmp_path, capsys):
    def run(job):
        job.ledger = Unwritten()
        return Summary("unchanged")

    rank = Waiting(0)
    assert command(monkeypatch, tmp_path, rank, run) == 0
    assert rank.said == ["", "closed"]
    assert json.loads(capsys.readouterr().out)["status"] == "unchanged"


def test_another_number_of_ranks_than_configured_is_refused(monkeypatch, tmp_path, capsys):
    rank = Waiting(0)
    assert command(monkeypatch, tmp_path, rank, lambda job: None, "train.workers=3") == 2
    assert rank.said == ["", "closed"]
    assert json.loads(capsys.readouterr().out)["error"].endswith("2; --set train.workers=2, or start 3")


def test_a_rank_that_fails_tells_on_standard_error_alone(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(Waiting, "share", lambda *_: (_ for _ in ()).throw(RuntimeError("closed by peer")))
    assert command(monkeypatch, tmp_path, Waiting(1), lambda job: None) == 1
    told = capsys.readouterr()
    assert (told.out, "closed by peer" in told.err) == ("", True)


def test_why_another_rank_failed_is_told_in_its_words(table, tmp_path, monkeypatch):
    snapshot = Snapshot.resolve(*table)
    run = plan(load("test", "train", settings(tmp_path)).config, count_train(snapshot), tmp_path / "run")
    store = FolderStore(run.checkpoints_of(snapshot))

    def dies(*_):
        with pytest.raises(DataRefused), telling_why(store, 1):
            raise DataRefused("its rows are gone", where="rank 1")
        raise RuntimeError("Connection closed by peer")

    monkeypatch.setattr(external, "train_rank", dies)
    with pytest.raises(DataRefused, match="^its rows are gone in rank 1$"):
        Ranks(Waiting(0)).launch(run, snapshot, count_train(snapshot), print)
    monkeypatch.setattr(external, "train_rank", lambda *_: (_ for _ in ()).throw(RuntimeError("by peer")))
    with pytest.raises(RuntimeError, match="by peer"):
        Ranks(Waiting(0)).launch(run, snapshot, count_train(snapshot), print)


def test_sigterm_is_heard_inside_alone():
    before = signal.getsignal(signal.SIGTERM)
    with external._asked_to_end() as should_stop:
        assert not should_stop()
        signal.raise_signal(signal.SIGTERM)
        assert should_stop()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_command_that_no_launcher_started_is_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    train = load("test", "train", settings(tmp_path, "train.communicator=torch")).config.train
    with pytest.raises(EnvironmentProblem, match=r"no launcher has started .* torchrun"):
        gather(train)
    train = load("test", "train", settings(tmp_path, "train.communicator=single")).config.train
    with pytest.raises(ConfigError, match="needs ranks that talk: 'single'"):
        gather(train)

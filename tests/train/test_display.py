"""What a person sees of a training run."""

import re

import psutil
import pytest

from behavior_lib.train.display import TrainingDisplay
from behavior_lib.train.messages import (
    MemoryMessage,
    MessageReader,
    Note,
    StepMessage,
    Teller,
    memory_of,
    observer,
)
from behavior_lib.train.settings import EpochResult

EPOCH = EpochResult(0, 7.1234, 0.21834, 12.34, 4321.0, 10)
TOLD = [
    MemoryMessage(0, 1024.0, 0.0),
    MemoryMessage(1, 614.4, 0.0),
    StepMessage(5, 20, 7.5, 12_345.6),
    EPOCH,
    MemoryMessage(0, 2048.0, 0.0),
    StepMessage(10, 20, 7.25, 9_876.0),
]


def shown(capsys, told, show=True):
    with TrainingDisplay("train", 10, show) as display:
        for message in told:
            display.show(message)
    return re.sub(r"\x1b\[[\d;?]*\w", "", capsys.readouterr().err)


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")


def test_the_bar_tells_loss_speed_validation_time_left_and_memory(capsys, terminal):
    last = shown(capsys, TOLD).rstrip().splitlines()[-1]
    assert last.startswith("train: training ")
    assert re.search(r" 50% \d:\d\d:\d\d left (\d:\d\d:\d\d|-:--:--) ", last)
    assert last.endswith("loss 7.250, 9,876 tokens/s, validation NDCG@10 0.2183, 2.6 GB")


def test_before_the_first_validation_nothing_is_told_of_it(capsys, terminal):
    last = shown(capsys, TOLD[:3]).rstrip().splitlines()[-1]
    assert last.endswith("loss 7.500, 12,346 tokens/s, 1.6 GB")


def test_memory_of_gpus_is_told_where_there_is_some(capsys, terminal):
    told = [MemoryMessage(0, 1024.0, 512.0), MemoryMessage(1, 1024.0, 1024.0), TOLD[2]]
    assert shown(capsys, told).rstrip().endswith("tokens/s, 2.0 GB and 1.5 GB of GPUs")


def test_elsewhere_an_epoch_is_one_line(capsys):
    line = "train           epoch 1: loss 7.123, validation NDCG@10 0.2183, 4,321 tokens/s (12.3 s), 1.6 GB\n"
    assert shown(capsys, TOLD) == line
    assert (
        shown(capsys, [Note("going on after step 3"), EPOCH], show=False) == "train           going on after step 3\n"
    )


def test_every_rank_tells_its_memory_and_rank_0_the_rest(tmp_path):
    for rank in (0, 1):
        watcher = observer(tmp_path, rank, 2)
        watcher.note("begins")
        watcher.step(3, 3, 0.5, 100)
        watcher.epoch(EPOCH)
    told = list(MessageReader(tmp_path / "messages.jsonl").new())
    assert [type(message) for message in told] == [Note, StepMessage, MemoryMessage, EpochResult, MemoryMessage]
    assert [message.rank for message in told if isinstance(message, MemoryMessage)] == [0, 1]
    assert told[3] == EPOCH
    assert (told[1].done, told[1].total, told[1].loss) == (3, 3, 0.5)


def test_a_step_in_between_is_not_told():
    told = []
    Teller(0, 1, told.append).step(1, 3, 0.5, 100)
    assert told == []


def test_memory_is_that_of_this_process():
    found = memory_of(3)
    assert found.rank == 3
    assert found.resident_mb == pytest.approx(psutil.Process().memory_info().rss / 2**20, rel=0.2)

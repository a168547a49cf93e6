"""Who keeps the others waiting: told from what each rank wrote last."""

from dataclasses import replace
from pathlib import Path

import pytest

from behavior_lib.train.communicator import SingleProcess
from behavior_lib.train.heartbeat import (
    Heartbeat,
    WatchedCommunicator,
    clear_heartbeats,
    read_heartbeats,
    who_hangs,
)


def waits(calls, name="gradients", since=100.0):
    return Heartbeat(calls, name, True, since, 1)


def works(calls, name="gradients", since=100.0):
    return Heartbeat(calls, name, False, since, 2)


@pytest.mark.parametrize(
    ("heartbeats", "sentence"),
    [
        ([waits(7), works(6)], "rank 1 is missing: rank 0 waits in gradients (collective 7), rank 1 works after"),
        ([works(7), works(7), waits(8)], "ranks 0 and 1 are missing"),
        ([waits(8), waits(7, "epoch")], "rank 1 is missing"),
        (
            [waits(8), waits(8, "epoch")],
            "the ranks disagree: rank 0 waits in gradients (collective 8), rank 1 ",
        ),
        ([waits(8), waits(8)], "no rank comes out of gradients"),
        ([works(3)], "rank 0 is missing"),
    ],
)
def test_the_rank_that_does_not_come_is_named(heartbeats, sentence):
    assert who_hangs(heartbeats).startswith(sentence)


def test_a_rank_that_was_stopped_is_named_where_all_wait():
    beats = [waits(8), replace(waits(8), process=77)]
    assert who_hangs(beats, lambda process: process == 77).startswith("rank 1 is stopped by a signal: ")


def test_a_communicator_tells_where_it_is(tmp_path, monkeypatch):
    inner, seen = SingleProcess(), []
    told = WatchedCommunicator(inner, tmp_path)
    monkeypatch.setattr(inner, "sum", lambda name, values: seen.extend(read_heartbeats(tmp_path)) or list(values))
    assert told.sum("a rather long name", [1.0]) == [1.0]
    assert [(beat.calls, beat.name, beat.waits) for beat in seen] == [(1, "a rather long name", True)]
    assert told.minimum("m", 3) == 3
    (now,) = read_heartbeats(tmp_path)
    assert (now.calls, now.name, now.waits) == (2, "m", False)
    told.alive()
    (later,) = read_heartbeats(tmp_path)
    assert (later.calls, later.name, later.waits) == (2, "m", False)
    assert later.since > now.since
    told.close()
    clear_heartbeats(tmp_path)
    assert read_heartbeats(tmp_path) is None


def test_ranks_beyond_a_smaller_group_are_forgotten(tmp_path):
    for rank in (2, 0, 1):
        WatchedCommunicator(Ranked(rank, 3), tmp_path)
    assert len(read_heartbeats(tmp_path)) == 3
    WatchedCommunicator(Ranked(0, 2), tmp_path).sum("again", [])
    assert [beat.name for beat in read_heartbeats(tmp_path)] == ["again", "start"]
    (tmp_path / "heartbeat-1.json").write_text("")
    assert read_heartbeats(tmp_path) is None


class Ranked(SingleProcess):
    """One of several ranks, which talks to nobody."""

    def __init__(self, rank, size):
        self.rank, self.size = rank, size


def test_a_rank_that_stands_still_while_it_tells_is_seen_where_it_was(tmp_path, monkeypatch):
    told = WatchedCommunicator(SingleProcess(), tmp_path)
    (before,) = read_heartbeats(tmp_path)

    def half(path, text, encoding):
        path.write_bytes(text.encode(encoding)[: len(text) // 2])
        raise InterruptedError

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(InterruptedError):
        told.alive()
    assert read_heartbeats(tmp_path) == [before]

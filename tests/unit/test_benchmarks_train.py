"""The training benchmark: the arithmetic of a position, ratios, turns, and the rows that the peers get."""

import json
import sys
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from behavior_lib.data.snapshot import Snapshot, count_train
from benchmarks import train_limit
from benchmarks.train import Point, against_peers
from benchmarks.train_contest import Entry, contest, ratios, shares, speeds, spread
from benchmarks.train_limit import flops_per_position, gemm_speed, most_positions, table_bytes_per_step
from benchmarks.train_pace import CASE, Turn
from benchmarks.train_table import as_case, write_for_peers, write_table

SPEC = Point(length=8, spec={"dimension": 4, "layers": 3, "negatives": 9}).model(103)

# Steps of three positions and one row, each of which takes a quarter of a second by the clock of the process.
CONTESTANT = """
import sys, time
from pathlib import Path
from benchmarks import train_pace

now = 0.0
train_pace.time.perf_counter = train_pace.time.process_time = lambda: now
pace = train_pace.Pace(Path(sys.argv[1]), train_pace.read_case(Path(sys.argv[1]))["warm_up"])
while True:
    now += 0.25
    pace.add("forward", 0.125)
    pace.step(3, 1)
"""


def turn(positions, seconds, **parts):
    return {"positions": positions, "seconds": seconds, "cpu_seconds": seconds / 2, "parts": parts}


def test_the_arithmetic_of_one_position():
    # One block: 12 d² weights and 2 d for each key, two operations each; then ten products of d; all of it three times.
    assert flops_per_position(SPEC, keys=2.5) == 3 * (3 * 2 * (12 * 16 + 2 * 4 * 2.5) + 2 * 4 * 10)
    whole = replace(SPEC, loss="chunked_softmax")
    assert flops_per_position(whole, keys=2.5) == 3 * (3 * 2 * (12 * 16 + 2 * 4 * 2.5) + 2 * 4 * 103)
    assert table_bytes_per_step(SPEC) == 9 * 4 * 103 * 4


def test_the_limit_adds_the_time_of_products_and_of_memory():
    flops, moved = flops_per_position(SPEC, 2.5), table_bytes_per_step(SPEC)
    assert most_positions(SPEC, 2.5, 10, gemm=10 * flops, copy=moved) == pytest.approx(10 / 2)
    assert most_positions(SPEC, 2.5, 10, gemm=10 * flops, copy=moved / 3) == pytest.approx(10 / 4)


def test_the_speed_of_products_counts_each_shape(monkeypatch):
    monkeypatch.setattr(train_limit, "best_seconds", lambda work: work() is not None and 2.0)
    # The four matrices of a block and that of target and negatives; five positions, two operations, 5 times 2 seconds.
    assert gemm_speed(SPEC, 5) == 2 * 5 * (48 + 16 + 64 + 64 + 40) / 10


def test_ratios_are_of_one_round_and_the_peer_is_the_fastest_in_the_median():
    turns = {
        "ours": [turn(100, 1.0), turn(300, 1.0), turn(200, 1.0)],
        "steady": [turn(60, 1.0), turn(60, 1.0), turn(100, 1.0)],
        "lucky": [turn(900, 1.0), turn(50, 1.0), turn(50, 1.0)],
    }
    assert speeds(turns["ours"], "cpu_seconds") == [200.0, 600.0, 400.0]
    assert ratios([6.0, 8.0], [2.0, 16.0]) == [3.0, 0.5]
    found = against_peers(turns)
    assert (found["peer"], found["peer_ratio"]) == ("steady", 2.0)
    assert found["peer_ratios"]["seconds"] == {"median": 2.0, "lowest": 1.67, "highest": 5.0}
    assert against_peers({"ours": turns["ours"]}) == {}


def test_shares_are_of_the_time_of_all_turns():
    found = shares([turn(1, 1.0, loader=1.0, forward=2.0), turn(1, 1.0, forward=4.0, backward=1.0)])
    assert found == {"loader": 0.125, "forward": 0.75, "backward": 0.125}
    assert spread([3.04, 1.0, 2.0], 1) == {"median": 2.0, "lowest": 1.0, "highest": 3.0}


def test_a_point_is_changed_by_words():
    changed = Point().changed("length=16,loss=bce,repeat_path=true").changed("full=true,dimension=8")
    assert (changed.length, changed.full, changed.items) == (16, True, 10_000)
    assert changed.spec == {"loss": "bce", "repeat_path": True, "dimension": 8}


def test_the_peers_get_the_rows_of_the_table(tmp_path):
    made = write_table(tmp_path, length=6, items=50, events=300, full=False, seed=3)
    write_for_peers(made)
    case = as_case(made)
    counts = count_train(Snapshot.resolve(case["table"], case["version"]))
    rows = pq.read_table(made.parquet).column("item_id").to_pylist()
    assert (counts.rows, counts.tokens, len(counts.items)) == (made.rows, made.events, made.n_items)
    assert (len(rows), sum(map(len, rows)), rows[0][0]) == (made.rows, made.events, 52)
    assert min(map(len, rows)) > 1
    assert made.keys == sum(n + 1 for row in rows for n in range(len(row))) / made.events
    assert made.positions(16) == round(16 * (made.events - made.rows) / made.rows)
    lines = (made.atomic / "events.inter").read_text().splitlines()
    events = [f"u{user}\ti{item}\t{place}" for user, row in enumerate(rows) for place, item in enumerate(row)]
    assert lines == ["user_id:token\titem_id:token\ttimestamp:float", *events]


def test_full_rows_have_every_event(tmp_path):
    made = write_table(tmp_path, length=6, items=50, events=300, full=True, seed=3)
    assert (made.rows, made.events, made.keys) == (50, 300, 3.5)


def test_contestants_train_in_turns_and_are_gone_afterwards(tmp_path):
    def entry(name, warm_up):
        return Entry(name, [sys.executable, "-c", CONTESTANT], {"warm_up": warm_up})

    turns = contest([entry("one", 1), entry("other", 4)], tmp_path, rounds=2, seconds=0.75)
    expected = {
        "steps": 3,
        "positions": 9,
        "rows": 3,
        "seconds": 0.75,
        "cpu_seconds": 0.75,
        "parts": {"forward": 0.375},
    }
    for told in [*turns["one"], *turns["other"]]:
        assert told.pop("peak_mb") > 0
        assert told == expected
    assert json.loads((tmp_path / "one" / CASE).read_text()) == {"warm_up": 1}


def test_a_contestant_that_fails_ends_the_contest_with_its_words(tmp_path):
    entry = Entry("broken", [sys.executable, "-c", "raise SystemExit('no such model')"], {})
    with pytest.raises(SystemExit, match=r"(?s)broken ended before its time.*no such model"):
        contest([entry], tmp_path, rounds=1, seconds=1.0)


def test_a_rest_does_not_count(monkeypatch):
    clock = iter([0.0, 0.0, 5.0, 5.0, 6.0, 6.5, 6.0, 6.5])
    monkeypatch.setattr("benchmarks.train_pace.time.perf_counter", lambda: next(clock))
    monkeypatch.setattr("benchmarks.train_pace.time.process_time", lambda: next(clock))
    made = Turn()
    made.rest()
    made.step(7, 2)
    told = made.told()
    assert (told["seconds"], told["cpu_seconds"], told["positions"]) == (1.0, 1.5, 7)

"""Where histories end: at one time for everybody, or before each user's last events."""

from datetime import datetime, timedelta

import pytest
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from behavior_lib.config.schema import EvaluateConfig, SplitConfig
from behavior_lib.config.source import SourceSplit
from behavior_lib.errors import ConfigError
from behavior_lib.evaluation.baselines import POPULARITY
from behavior_lib.spark.evaluation import baselines, judged_users
from behavior_lib.spark.sequences import Shape, Vocabulary, padded
from behavior_lib.spark.sessionize import sessionize
from behavior_lib.spark.splits import cuts, global_rows, leave_one_out_rows
from behavior_lib.tables import ITEMS, SEQUENCES
from behavior_lib.tables.items import UNKNOWN_INDEX
from tests.spark.conftest import event


def test_refit_is_the_train_of_a_later_cut(events, vocabulary):
    days = [*("ab" * 3), "c", "d"]
    frame = events(*(event("u", f"2017-01-{day:02d} 00:00:00", item_id=item) for day, item in enumerate(days, 1)))
    words, sessions = vocabulary(frame), sessionize(frame, timedelta(minutes=30), 0)

    def made(validation: int, test: int, refit: bool) -> DataFrame:
        bounds = (datetime(2017, 1, day) for day in (validation, test))
        return padded(global_rows(frame, sessions, words, Shape(4, 100), *bounds, refit), 4).drop(SEQUENCES.split)

    def rows_of(frame: DataFrame) -> list[str]:
        return sorted(str(row) for row in frame.collect())

    plain = rows_of(made(5, 7, refit=False))
    more = rows_of(made(5, 7, refit=True))
    later = padded(global_rows(frame, sessions, words, Shape(4, 100), datetime(2017, 1, 7), datetime(2017, 1, 8)), 4)
    expected = rows_of(later.where(F.col(SEQUENCES.split) == "train").drop(SEQUENCES.split))
    assert len(expected) == 2
    assert more == sorted([*plain, *expected])


def test_leave_one_out(events, vocabulary):
    frame = events(
        # Of one instant the smaller event_id is the earlier; what comes after the held-out event is nowhere.
        event("u", "2017-01-01 00:00:00", event_id="1", item_id="a", value=1.0),
        event("u", "2017-01-02 00:00:00", event_id="3", item_id="b", value=2.0),
        event("u", "2017-01-02 00:00:00", event_id="4", item_id="c", value=3.0),
        event("u", "2017-01-02 00:00:00", event_id="2", value=4.0),
        event("u", "2017-01-03 00:00:00", event_id="5", value=5.0),
        event("few", "2017-01-05 00:00:00", event_id="6", item_id="a", value=6.0),
        event("few", "2017-01-06 00:00:00", event_id="7", value=7.0),
        event("few", "2017-01-07 00:00:00", event_id="8", item_id="b", value=8.0),
    )
    words = vocabulary(frame)
    index = {r.item_id: r.item_index for r in words.items.collect()}
    rows = padded(leave_one_out_rows(frame, words, Shape(2, 100)), 2).collect()
    told = {
        (r.user_id, r.split, r.chunk_id): (list(r.value), list(r.target_index), str(r.as_of), r.held_out_id)
        for r in rows
    }
    assert len(rows) == 5
    assert told == {
        ("u", "train", 0): ([1.0, 4.0], [0, 0], "2017-01-02 00:00:00", "3"),
        ("u", "validation", 0): ([1.0, 4.0], [index["b"], 0], "2017-01-02 00:00:00", "3"),
        ("u", "test", 0): ([4.0, 2.0], [index["c"], 0], "2017-01-02 00:00:00", "4"),
        ("few", "train", 0): ([7.0, 8.0], [0, 0], "2017-01-07 00:00:00.000001", None),
        ("few", "train", 1): ([6.0, 0.0], [0, 0], "2017-01-07 00:00:00.000001", None),
    }
    again = padded(leave_one_out_rows(frame, words, Shape(2, 100), refit=True), 2)
    again = again.where(F.col(SEQUENCES.split) == "refit")
    assert {(r.user_id, r.chunk_id): (list(r.value), str(r.as_of), r.held_out_id) for r in again.collect()} == {
        ("u", 0): ([4.0, 2.0], "2017-01-02 00:00:00", "4"),
        ("u", 1): ([1.0, 0.0], "2017-01-02 00:00:00", "4"),
        ("few", 0): ([7.0, 8.0], "2017-01-07 00:00:00.000001", None),
        ("few", 1): ([6.0, 0.0], "2017-01-07 00:00:00.000001", None),
    }
    rare = Vocabulary(words.items.where(F.col(ITEMS.item_id) != "b"), words.event_types)
    held = padded(leave_one_out_rows(frame, rare, Shape(2, 100)), 2).where("split = 'validation'").collect()
    assert [list(r.target_index) for r in held] == [[UNKNOWN_INDEX, 0]]


def test_baselines_of_leave_one_out_count_what_is_not_held_out(events, vocabulary):
    frame = events(
        *(event("u", f"2017-01-0{n} 00:00:00", item_id=item) for n, item in enumerate("aabc", 1)),
        *(event("few", f"2017-01-1{n} 00:00:00", item_id="c") for n in range(2)),
    )
    words = vocabulary(frame)
    rows = leave_one_out_rows(frame, words, Shape(4, 100))
    index = {r.item_id: r.item_index for r in words.items.collect()}
    for split, (b, c) in {"validation": (0, 2), "test": (1, 2)}.items():
        own = rows.where(F.col(SEQUENCES.split) == split)
        users = judged_users(own)
        found = baselines(frame, words.items, own, users, 6, EvaluateConfig(baselines=[POPULARITY]))
        scores = found.scorers[POPULARITY](slice(0, 1))
        assert users.user_ids.tolist() == ["u"]
        assert [int(scores[0, index[name]]) for name in "abc"] == [2, b, c]


@pytest.mark.parametrize(
    ("config", "source", "expected"),
    [
        (SplitConfig(), SourceSplit(), ("2017-11-06", "2017-12-04")),
        (SplitConfig(days=7), SourceSplit(), ("2017-12-18", "2017-12-25")),
        (SplitConfig(), SourceSplit("2017-11-01", "2017-12-01"), ("2017-11-01", "2017-12-01")),
        (SplitConfig(test="2017-12-10"), SourceSplit("2017-11-01", "2017-12-01"), ("2017-11-01", "2017-12-10")),
    ],
)
def test_cuts(config: SplitConfig, source: SourceSplit, expected: tuple[str, str]):
    found = cuts(config, source, datetime(2017, 12, 31, 23, 59))
    assert tuple(str(cut.date()) for cut in found) == expected


def test_cuts_with_an_offset_are_told_in_utc():
    config = SplitConfig(validation="2017-11-01T00:00:00+02:00", test="2017-12-01T06:00:00Z")
    assert cuts(config, SourceSplit(), datetime(2017, 12, 31)) == (datetime(2017, 10, 31, 22), datetime(2017, 12, 1, 6))


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (SplitConfig(test="soon"), "split.test is no date or time: 'soon'; write 2017-11-01 or 2017-11-01T06:00:00"),
        (SplitConfig(validation="2018-01-01", test="2017-01-01"), "split.validation is not before split.test"),
    ],
)
def test_wrong_cuts(config: SplitConfig, sentence: str):
    with pytest.raises(ConfigError) as error:
        cuts(config, SourceSplit(), datetime(2017, 12, 31))
    assert str(error.value).startswith(sentence)

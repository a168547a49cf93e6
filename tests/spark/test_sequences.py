import random
import re
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import accumulate, pairwise

import numpy as np
import pytest
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from behavior_lib.config.schema import SequencesConfig, VocabularyConfig
from behavior_lib.errors import ConfigError
from behavior_lib.spark.collected import collect
from behavior_lib.spark.evaluation import as_histories
from behavior_lib.spark.schema import rows_frame
from behavior_lib.spark.sequences import (
    IN_ORDER_OF_USERS,
    Asked,
    Shape,
    histories,
    lay_out,
    padded,
    rows_of_cuts,
    targets,
    without_padding,
)
from behavior_lib.spark.session import session_settings
from behavior_lib.spark.sessionize import sessionize
from behavior_lib.spark.vocabulary import new_event_types, next_number, update_items
from behavior_lib.tables import EVENT_TYPES, EVENTS, ITEMS, SEQUENCES
from behavior_lib.tables.items import FIRST_INDEX
from tests.spark.conftest import event, held

CUT = datetime(2017, 1, 3)
FIELDS = (SEQUENCES.item_index, SEQUENCES.event_type, SEQUENCES.gap_seconds, SEQUENCES.value)


def many_events(seed: int, n: int) -> list[dict]:
    draw = random.Random(seed)
    rows = []
    for number in range(n):
        time = datetime(2017, 1, 1) + timedelta(
            seconds=draw.randrange(4 * 86400), microseconds=draw.choice([0, 500_000])
        )
        item = draw.choice(["a", "b", "c", None])
        value = draw.choice([None, 1.5])
        rows.append(
            event(
                draw.choice("xyz"),
                str(time),
                event_id=f"{number:03}",
                item_id=item,
                event_type=draw.choice("vb"),
                value=value,
            )
        )
    return rows


def second(time: datetime) -> datetime:
    return time.replace(microsecond=0)


def slow_histories(rows: list[dict], items: dict, types: dict, cut: datetime, shape: Shape) -> dict:
    """The definition, in plain Python: newest events first come into chunk 0, each chunk oldest first."""
    found, length = {}, shape.length
    for user in {row["user_id"] for row in rows}:
        own = sorted((r["event_time"].replace(tzinfo=None), r["event_id"], r) for r in rows if r["user_id"] == user)
        own = [entry for entry in own if entry[0] < cut]
        if not own:
            continue
        gaps = [0] + [int((second(b[0]) - second(a[0])).total_seconds()) for a, b in pairwise(own)]
        events = [
            (items.get(r["item_id"], 2), types[r["event_type"]], gap, r["value"] or 0.0)
            for (_, _, r), gap in zip(own, gaps, strict=True)
        ][-shape.max_events :]
        times = [time for time, _, _ in own][-shape.max_events :]
        chunk, end = 0, len(events)
        while end == len(events) or end - length + (shape.stride or length) > 0:
            part = events[max(0, end - length) : end]
            padded = part + [(0, 0, 0, 0.0)] * (length - len(part))
            found[user, chunk] = (*map(list, zip(*padded, strict=True)), len(part), times[max(0, end - length)])
            chunk, end = chunk + 1, end - (shape.stride or length)
    return found


@pytest.mark.parametrize(
    "shape", [Shape(8, 1000), Shape(8, 20), Shape(64, 1000), Shape(8, 1000, stride=3), Shape(8, 16, stride=4)]
)
def test_histories_equal_the_definition(events, vocabulary, shape: Shape):
    rows = many_events(3, 120)
    frame = events(*rows)
    words = vocabulary(frame)
    items = {r.item_id: r.item_index for r in words.items.collect()}
    types = {r.event_type: r.type_index for r in words.event_types.collect()}
    found = {
        (r.user_id, r.chunk_id): (*(list(r[name]) for name in FIELDS), r.length, r.first_event_time)
        for r in histories(frame, words, CUT, shape).collect()
    }
    assert found == slow_histories(rows, items, types, CUT, shape)


@pytest.mark.parametrize("shape", [Shape(5, 1000), Shape(8, 16, stride=3)])
def test_the_first_time_and_the_gaps_are_the_time_of_every_event(events, vocabulary, shape: Shape):
    """Of half seconds too: a sum of gaps that were rounded each by itself would fall behind."""
    frame = events(*(many_events(6, 90)))
    rows = histories(frame, vocabulary(frame), CUT, shape).collect()
    for user in "xyz":
        own = frame.where((F.col(EVENTS.user_id) == user) & (F.col(EVENTS.event_time) < F.lit(CUT)))
        times = [row[0] for row in own.select(F.date_trunc("second", EVENTS.event_time).alias("t")).sort("t").collect()]
        chunks = sorted((row for row in rows if row.user_id == user), key=lambda row: row.chunk_id)
        for row in chunks:
            gaps = [0, *row.gap_seconds[1 : row.length]]
            found = [second(row.first_event_time) + timedelta(seconds=elapsed) for elapsed in accumulate(gaps)]
            end = len(times) - row.chunk_id * shape.step
            assert found == times[end - row.length : end]
        assert len(chunks) > 1


def test_within_a_second_there_is_no_gap_and_past_it_there_is(events, vocabulary):
    times = ["2017-01-02 00:00:00.2", "2017-01-02 00:00:00.9", "2017-01-02 00:00:01.1", "2017-01-02 00:00:03.0"]
    frame = events(*(event("u", f"{time}00000") for time in times))
    (row,) = histories(frame, vocabulary(frame), CUT, Shape(4, 100)).collect()
    assert (list(row.gap_seconds), str(row.first_event_time)) == ([0, 0, 1, 2], "2017-01-02 00:00:00.200000")


def test_overlapping_chunks_end_where_the_oldest_event_is(events, vocabulary):
    """Six events, three a chunk, two on to the next: the oldest is in two chunks as the last one is filled up."""
    frame = events(*(event("u", f"2017-01-02 00:00:0{n}", value=float(n)) for n in range(6)))
    rows = histories(frame, vocabulary(frame), CUT, Shape(3, 100, stride=2)).orderBy(SEQUENCES.chunk_id).collect()
    assert [(r.chunk_id, list(r.value), r.length) for r in rows] == [
        (0, [3.0, 4.0, 5.0], 3),
        (1, [1.0, 2.0, 3.0], 3),
        (2, [0.0, 1.0, 0.0], 2),
    ]
    five = histories(frame.where("value > 0"), vocabulary(frame), CUT, Shape(3, 100, stride=2))
    assert sorted((r.chunk_id, list(r.value)) for r in five.collect()) == [(0, [3.0, 4.0, 5.0]), (1, [1.0, 2.0, 3.0])]


@pytest.mark.parametrize("stride", [0, 4])
def test_a_stride_that_leaves_events_out_is_refused(stride: int):
    with pytest.raises(ConfigError) as error:
        Shape(3, 100, stride)
    sentence = f"sequences.stride would leave events out: {stride}; give 1 to sequences.length (3), or null"
    assert str(error.value) == sentence


def test_order_of_input_changes_nothing(events, vocabulary):
    rows = many_events(4, 60)
    words = vocabulary(events(*rows))
    told = {
        str(sorted(map(str, histories(events(*order), words, CUT, Shape(8, 100)).collect())))
        for order in (rows, rows[::-1])
    }
    assert len(told) == 1


def test_a_future_event_changes_nothing_before_the_cut(events, vocabulary):
    rows = [row for row in many_events(5, 60) if row["event_time"].replace(tzinfo=None) < CUT]
    planted = event("x", "2017-01-03 00:00:00", item_id="new", event_type="new", value=99.0)
    words = vocabulary(events(*rows, planted))
    before = histories(events(*rows), words, CUT, Shape(8, 100))
    after = histories(events(*rows, planted), words, CUT, Shape(8, 100))
    assert sorted(map(str, before.collect())) == sorted(map(str, after.collect()))
    index = {r.item_id: r.item_index for r in words.items.collect()}
    assert index["new"] == max(index.values())


def test_items_keep_their_numbers_and_new_ones_follow(events, spark):
    first = events(event("u", "2017-01-02 00:00:00", item_id="b"), event("u", "2017-01-02 00:00:00", item_id="a"))
    with update_items(rows_frame(spark, ITEMS, []), first, None, FIRST_INDEX, VocabularyConfig()) as rows:
        items = held(ITEMS, rows)
    more = first.unionByName(
        events(
            event("u", "2017-01-01 00:00:00", item_id="z"),
            event("u", "2017-01-05 00:00:00", item_id="a", event_id="again"),
            event("u", "2017-01-06 00:00:00", item_id="c"),
        )
    )
    with update_items(items, more, None, next_number(items, ITEMS.item_index), VocabularyConfig()) as rows:
        later = rows.orderBy(ITEMS.item_index).collect()
    assert [(r.item_id, r.item_index, r.n_events) for r in later] == [
        ("a", 3, 2),
        ("b", 4, 1),
        ("z", 5, 1),
        ("c", 6, 1),
    ]
    assert (str(later[0].first_seen), str(later[0].last_seen)) == ("2017-01-02 00:00:00", "2017-01-05 00:00:00")


def test_types_are_numbered_on_by_name(events, spark):
    known = rows_frame(spark, EVENT_TYPES, [{"event_type": "view", "type_index": 3}])
    frame = events(*(event("u", "2017-01-01", event_type=name) for name in ("view", "play", "buy")))
    with new_event_types(known, frame, next_number(known, EVENT_TYPES.type_index)) as rows:
        assert [tuple(r) for r in rows.collect()] == [("buy", 4), ("play", 5)]


def test_targets_are_the_items_of_the_first_session_after_the_cut(events, vocabulary):
    frame = events(
        event("u", "2017-01-02 23:50:00", item_id="a"),
        event("u", "2017-01-03 00:10:00", item_id="b"),  # the session began before the cut
        event("u", "2017-01-03 09:00:00", item_id="d"),
        event("u", "2017-01-03 09:10:00", item_id="c"),
        event("u", "2017-01-03 09:20:00", item_id="c"),
        event("u", "2017-01-03 20:00:00", item_id="a"),
        event("v", "2017-01-09 00:00:00", item_id="a"),  # after the window
        event("w", "2017-01-03 09:00:00"),  # a session without an item
    )
    items = vocabulary(frame).items
    sessions = sessionize(frame, timedelta(minutes=30), 0)
    index = {r.item_id: r.item_index for r in items.collect()}
    rows = targets(frame, sessions, items, CUT, datetime(2017, 1, 8), 4).collect()
    assert [(r.user_id, list(r.target_index)) for r in rows] == [("u", sorted((index["c"], index["d"])))]


def test_rows_of_a_split(spark, events, vocabulary):
    frame = events(*(event("u", f"2017-01-02 00:00:0{n}", item_id="a") for n in range(5)), event("v", "2017-01-01"))
    target = Asked(spark.sql("select explode(array('u', 'new')) as user_id, array(7) as target_index"), CUT)

    def made(earlier: DataFrame) -> DataFrame:
        both = (target, Asked(target.targets.where("false"), CUT))
        return padded(rows_of_cuts(earlier, frame.where("false"), vocabulary(frame), both, Shape(2, 100)), 2)

    rows = made(frame)
    told = sorted((r.split, r.user_id, r.chunk_id, r.length, *r.item_index, *r.target_index) for r in rows.collect())
    assert told == [
        ("train", "u", 0, 2, 3, 3, 0, 0),
        ("train", "u", 1, 2, 3, 3, 0, 0),
        ("train", "u", 2, 1, 3, 0, 0, 0),
        ("train", "v", 0, 1, 2, 0, 0, 0),
        ("validation", "new", 0, 0, 0, 0, 7, 0),
        ("validation", "u", 0, 2, 3, 3, 7, 0),
    ]
    assert {str(r.as_of) for r in rows.collect()} == {"2017-01-03 00:00:00"}
    judged = rows.where("split = 'validation'")
    assert {r.user_id: r.first_event_time for r in judged.collect()} == {
        "new": None,
        "u": datetime(2017, 1, 2, 0, 0, 3),
    }
    for each, expected in ((judged, ["NaT", "2017-01-02T00:00:03"]), (made(frame.where("false")), ["NaT", "NaT"])):
        collected = as_histories(collect(each.orderBy(SEQUENCES.user_id)))
        np.testing.assert_array_equal(collected.first_event_time, np.array(expected, "datetime64[s]"))


@pytest.mark.parametrize("refit", [False, True])
@pytest.mark.parametrize("shape", [Shape(4, 100), Shape(6, 5), Shape(4, 9, stride=3), Shape(64, 100), Shape(1, 3)])
def test_both_cuts_from_one_pass_are_what_each_alone_gives(spark, events, vocabulary, shape: Shape, refit: bool):
    """Of users with events before both cuts, before one, behind the first alone, and nowhere."""
    cuts = (datetime(2017, 1, 2), CUT)
    rows = many_events(5, 90)
    rows = [row for row in rows if row["user_id"] != "y" or row["event_time"].replace(tzinfo=None) < cuts[0]]
    rows = [row for row in rows if row["user_id"] != "z" or row["event_time"].replace(tzinfo=None) >= cuts[0]]
    rows += [event("x", "2017-01-02 12:00:00", event_id="f", item_id="fresh"), event("late", "2017-01-04")]
    frame = events(*rows)
    words = vocabulary(frame)
    target = spark.sql("select explode(array('x', 'y', 'z', 'late')) as user_id, array(7) as target_index")
    asking = (Asked(target.where("user_id <> 'y'"), cuts[0]), Asked(target.where("user_id <> 'x'"), cuts[1]))
    time = F.col(EVENTS.event_time)
    parts = frame.where(time < F.lit(cuts[0])), frame.where((time >= F.lit(cuts[0])) & (time < F.lit(cuts[1])))
    told = padded(rows_of_cuts(*parts, words, asking, shape, refit), shape.length).collect()
    found = {
        (r.split, r.user_id, r.chunk_id): (*(list(r[name]) for name in FIELDS), r.length, r.first_event_time)
        for r in told
    }
    types = {r.event_type: r.type_index for r in words.event_types.collect()}
    none = (*([0] * shape.length for _ in range(3)), [0.0] * shape.length, 0, None)
    expected = {}
    for cut, taught, judged, users in (
        (cuts[0], "train", "validation", ("x", "z", "late")),
        (cuts[1], "refit" if refit else None, "test", ("y", "z", "late")),
    ):
        # An item has its number from its first event on: `fresh` has one at the second cut.
        items = {r.item_id: r.item_index for r in words.items.collect() if r.first_seen < cut}
        whole = slow_histories(rows, items, types, cut, shape)
        if taught is not None:
            expected |= {(taught, *key): row for key, row in whole.items()}
        expected |= {(judged, user, 0): whole.get((user, 0), none) for user in users}
    assert found == expected
    assert len(told) == len(found)
    assert {(r.split, r.as_of) for r in told if r.split in ("train", "validation")} == {
        ("train", cuts[0]), ("validation", cuts[0])
    }  # fmt: skip
    assert {r.as_of for r in told if r.split in ("test", "refit")} == {cuts[1]}
    assert {tuple(r.target_index[:1]) for r in told if r.split in ("validation", "test")} == {(7,)}
    assert {tuple(r.target_index[:1]) for r in told if r.split in ("train", "refit")} == {(0,)}


def test_padding_that_is_taken_away_comes_back(spark, events, vocabulary):
    frame = events(*(event("u", f"2017-01-02 00:00:0{n}", item_id="a", value=n / 2) for n in range(3)))
    target = Asked(spark.sql("select explode(array('u', 'new')) as user_id, array(4, 7) as target_index"), CUT)
    both = (target, Asked(target.targets.where("false"), CUT))
    rows = padded(rows_of_cuts(frame, frame.where("false"), vocabulary(frame), both, Shape(5, 9)), 5)
    short = without_padding(rows)
    assert sorted(map(len, (r.gap_seconds for r in short.collect()))) == [0, 3, 3]
    assert sorted(map(str, padded(short, 5).collect())) == sorted(map(str, rows.collect()))


def plan_of(frame: DataFrame) -> str:
    return str(frame._jdf.queryExecution().executedPlan().treeString())


def test_an_event_is_shuffled_once_and_sorted_once_behind_it(spark, events, vocabulary):
    frame = events(event("u", "2017-01-01", item_id="a")).repartition(2)
    target = Asked(spark.range(2).selectExpr("concat('u', id) as user_id", "array(7) as target_index"), CUT)
    words = replace(vocabulary(frame), n_items=1)
    with session_settings(spark, {**IN_ORDER_OF_USERS, "spark.sql.autoBroadcastJoinThreshold": "-1"}):
        few, many = (
            plan_of(rows_of_cuts(frame, frame.where("value > 1"), each, (target, target), Shape(2, 100)))
            for each in (words, replace(words, n_items=1_000_001))
        )
    assert "Python" not in few
    assert "Cartesian" not in few
    # Two frames of targets and what they give, the events behind the first cut and what these give, the events before.
    assert few.count("Exchange hashpartitioning(user_id#") == 6
    # Events: each before and behind their shuffle. What has a row a user: one in front of each side of a join.
    events_of, users_of = (
        len(re.findall(rf" Sort \[user_id#\d+ ASC NULLS FIRST{end}", few)) for end in (", ev", "\\]")
    )
    assert (events_of, users_of) == (4, 4)
    assert few.count("BroadcastHashJoin [item_id#") == 2
    # More items than are sent to everybody: the events go to them and come back.
    assert (many.count("BroadcastHashJoin [item_id#"), many.count("SortMergeJoin [item_id#")) == (0, 2)


def test_histories_shuffle_by_user_once(events, vocabulary):
    frame = events(event("u", "2017-01-01", item_id="a")).repartition(2)
    plan = plan_of(histories(frame, vocabulary(frame), CUT, Shape(2, 100)))
    assert "Python" not in plan
    assert plan.count("Exchange hashpartitioning(user_id#") == 1


def test_a_task_shuffles_no_more_than_the_newest_events_of_a_user(events, vocabulary):
    """Whatever a user has: of 10^7 events a task sends on the 4096 that may be kept, and one for the oldest gap."""
    frame = events(event("u", "2017-01-01", item_id="a")).repartition(2)
    most = SequencesConfig().max_events_per_user
    plan = plan_of(histories(frame, vocabulary(frame), CUT, Shape(1024, most)))
    shuffle = plan.index("Exchange hashpartitioning(user_id#")
    limits = [found.start() for found in re.finditer(rf"WindowGroupLimit .*row_number\(\), {most + 1}, ", plan)]
    assert len(limits) == 2
    # The tree is told from the result down to what is read.
    assert limits[0] < shuffle < limits[1]


def test_each_file_holds_the_users_of_one_hash_in_a_total_order(spark):
    rows = spark.range(60).selectExpr("concat('u', id) user_id", "cast(id % 2 as int) chunk_id", "'train' split")
    empty = {name: F.lit(None) for name in SEQUENCES.column_names if name not in rows.columns}
    laid = lay_out(rows.withColumns(empty).repartition(2), 3, 4)
    laid = laid.selectExpr("spark_partition_id() file", "*", "xxhash64(user_id) hash")
    found = [tuple(row) for row in laid.collect()]
    assert {(file, row[-1] % 3) for file, *row in found} == {(0, 0), (1, 1), (2, 2)}
    for file in range(3):
        in_file = [(row[-1], row[1]) for row in found if row[0] == file]
        assert in_file == sorted(in_file)

"""Items and event types keep their numbers, whatever comes later, whoever builds beside, whatever is rare."""

import hashlib
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import numpy as np
import pytest
from pyspark.sql import functions as F

from behavior_lib.config.schema import EvaluateConfig, VocabularyConfig
from behavior_lib.data.histories import Histories
from behavior_lib.errors import ConfigError, Occupied
from behavior_lib.evaluation.baselines import POPULARITY
from behavior_lib.inference.raw import to_histories
from behavior_lib.inference.renumber import Renumbering
from behavior_lib.spark.collected import collect
from behavior_lib.spark.evaluation import as_histories, baselines, judged_users, read_vocabulary
from behavior_lib.spark.forget import recounted
from behavior_lib.spark.numbering import number_rows
from behavior_lib.spark.schema import rows_frame
from behavior_lib.spark.sequences import Asked, Shape, Vocabulary, histories, padded, rows_of_cuts, targets
from behavior_lib.spark.sessionize import sessionize
from behavior_lib.spark.tables import Tables
from behavior_lib.spark.vocabulary import (
    buckets_of,
    new_event_types,
    next_number,
    reserved_buckets,
    update_items,
    while_occupied,
    write_event_types,
    write_items,
)
from behavior_lib.tables import EVENT_TYPES, ITEMS
from behavior_lib.tables.buckets import Buckets
from tests.spark.conftest import event, held

EACH, TWICE = VocabularyConfig(), VocabularyConfig(min_count=2)
CUT = datetime(2017, 1, 3)


def seen(item: str | None, *days: int, user: str = "u", kind: str = "view") -> list[dict]:
    """One event at noon of each day of January 2017."""
    return [
        event(
            user, f"2017-01-{day:02} 12:00:00", item_id=item, event_type=kind, event_id=f"{user} {day} {item!r} {kind}"
        )
        for day in days
    ]


def numbers(tables: Tables) -> dict[str, int]:
    return {row.item_id: row.item_index for row in tables.read(ITEMS).collect()}


def bucket(item: str, count: int) -> int:
    return int.from_bytes(hashlib.sha256(item.encode()).digest()[:4], "big") % count


class Interrupted(Tables):
    """Tables of a build that another one overtakes once, after it has read and before it writes."""

    def __init__(self, spark, warehouse, other) -> None:
        super().__init__(spark, warehouse)
        self.other, self.attempts = other, 0

    def merge(self, spec, *given, **named) -> int:
        self._overtaken()
        return super().merge(spec, *given, **named)

    def add_check(self, *given) -> None:
        self._overtaken()
        super().add_check(*given)

    def _overtaken(self) -> None:
        self.attempts += 1
        if self.attempts == 1:
            self.other()


@pytest.fixture
def overtaken(spark, tables, tmp_path):
    return lambda other: Interrupted(spark, str(tmp_path / "warehouse"), other)


def updated(known, frame, config: VocabularyConfig, first: int | None = None):
    """ITEMS after the events; known: before them, None where there were none."""
    known = rows_frame(frame.sparkSession, ITEMS, []) if known is None else known
    with update_items(known, frame, None, first or next_number(known, ITEMS.item_index), config) as rows:
        return held(ITEMS, rows.orderBy(ITEMS.item_index))


def told(items) -> list[tuple]:
    return [(row.item_id, row.item_index, row.n_events, str(row.known_from)) for row in items.collect()]


def test_an_item_gets_the_next_number_once_it_was_seen_often_enough_and_keeps_it(events):
    first = [*seen("late", 1, 5), *seen("early", 2, 3), *seen("rare", 1), *seen(None, 1, 2)]
    known = updated(None, events(*first), TWICE)
    assert told(known) == [("early", 3, 2, "2017-01-03 12:00:00"), ("late", 4, 2, "2017-01-05 12:00:00")]
    # A late event, and one that makes the rare one known.
    known = updated(known, events(*first, *seen("late", 1, user="v"), *seen("rare", 4)), TWICE)
    assert told(known) == [
        ("early", 3, 2, "2017-01-03 12:00:00"),
        ("late", 4, 3, "2017-01-01 12:00:00"),
        ("rare", 5, 2, "2017-01-04 12:00:00"),
    ]
    # Fewer events than before, and a higher demand: what has a number keeps it, and the time that it has it from.
    kept = updated(known, events(*seen("early", 2), *seen("new", 1, 2)), replace(TWICE, min_count=3))
    assert told(kept) == [("early", 3, 1, "2017-01-03 12:00:00")]


def test_only_events_of_the_configured_types_count(events):
    rows = [*seen("viewed", 1, 2, 3), *seen("bought", 2, kind="buy"), *seen("both", 1), *seen("both", 4, kind="buy")]
    found = updated(None, events(*rows), VocabularyConfig(event_types=["buy"]))
    assert told(found) == [("bought", 3, 1, "2017-01-02 12:00:00"), ("both", 4, 2, "2017-01-04 12:00:00")]
    found = updated(None, events(*rows), replace(TWICE, event_types=["view", "play"]))
    assert told(found) == [("viewed", 3, 3, "2017-01-02 12:00:00")]


def test_a_popular_item_sends_few_events_to_be_counted(spark, events):
    with update_items(rows_frame(spark, ITEMS, []), events(*seen("a", 1, 2, 3)), None, 3, TWICE) as rows:
        plan = rows._jdf.queryExecution().optimizedPlan().toString()
    assert "WindowGroupLimit [item_id" in plan


def test_no_frame_stays_in_the_cache(events):
    def is_held(frame) -> bool:
        return "InMemoryRelation" in frame.select("*")._jdf.queryExecution().withCachedData().toString()

    with number_rows(events(*seen("b", 1), *seen("a", 1)), ["item_id"], 7, "number") as rows:
        assert sorted((row.item_id, row.number) for row in rows.collect()) == [("a", 7), ("b", 8)]
        assert is_held(rows)
    assert not is_held(rows)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (VocabularyConfig(min_count=0), "vocabulary.min_count must be at least 1: 0; --set vocabulary.min_count=…"),
        (VocabularyConfig(hash_buckets=-1), "vocabulary.hash_buckets must be at least 0: -1"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(config, sentence):
    with pytest.raises(ConfigError, match=sentence):
        write_items(None, None, None, config)


def test_of_two_builds_at_once_the_slower_one_reads_again(events, tables, overtaken):
    ours, theirs = events(*seen("c", 1), *seen("a", 2)), events(*seen("b", 1), *seen("a", 2))
    slow = overtaken(lambda: write_items(tables, theirs, None, EACH))
    write_items(slow, ours, None, EACH)
    assert slow.attempts == 2
    assert numbers(tables) == {"b": 3, "a": 4, "c": 5}


def test_event_types_of_two_builds_at_once(spark, events, tables, overtaken):
    theirs = rows_frame(spark, EVENT_TYPES, [{"event_type": "view", "type_index": 3}])
    slow = overtaken(lambda: tables.insert(EVENT_TYPES, theirs))
    write_event_types(slow, events(*seen("a", 1, kind="buy"), *seen("a", 1, kind="play")))
    stored = {row.event_type: row.type_index for row in tables.read(EVENT_TYPES).collect()}
    assert (slow.attempts, stored) == (2, {"view": 3, "buy": 4, "play": 5})


def test_who_is_always_overtaken_gives_up_and_other_errors_are_told_at_once():
    tries = []

    def attempt(error: Exception) -> int:
        tries.append(error)
        raise error

    for error, times in ((Occupied("another run"), 10), (ValueError("no"), 1)):
        tries.clear()
        with pytest.raises(type(error)):
            while_occupied(partial(attempt, error))
        assert len(tries) == times


def reserve(tables: Tables) -> None:
    tables.add_check(ITEMS, *Buckets(3, 4).check)


def insert(tables: Tables) -> None:
    row = {"item_id": "b", "item_index": 3, "n_events": 1}
    tables.insert(ITEMS, rows_frame(tables.read(ITEMS).sparkSession, ITEMS, [row]))


@pytest.mark.parametrize(
    ("count", "other", "buckets", "items"),
    [
        (0, reserve, [Buckets(3, 4)], {"a": 7}),
        (2, insert, [Buckets(4, 2)], {"b": 3, "a": 6}),
        (2, reserve, [Buckets(3, 4), Buckets(7, 2)], {"a": 9}),
    ],
)
def test_buckets_and_items_of_two_builds_at_once(events, tables, overtaken, count, other, buckets, items):
    slow = overtaken(lambda: other(tables))
    write_items(slow, events(*seen("a", 1)), None, VocabularyConfig(hash_buckets=count))
    assert (list(reserved_buckets(tables)), numbers(tables)) == (buckets, items)


def test_buckets_keep_their_numbers_when_another_count_is_configured(spark, events, tables):
    frame = events(*seen("a", 1, 2), *seen("b", 1))
    for hash_buckets in (4, 2):
        write_items(tables, frame, None, replace(TWICE, hash_buckets=hash_buckets))
    assert numbers(tables) == {"a": 7}
    assert [buckets_of(tables, count) for count in (4, 2, 0)] == [Buckets(3, 4), Buckets(8, 2), None]
    taken = rows_frame(spark, ITEMS, [{"item_id": "x", "item_index": 9, "n_events": 1}])
    with pytest.raises(Exception, match="buckets_from_8"):
        tables.insert(ITEMS, taken)


@pytest.fixture
def frames(spark, events):
    """frames(rows, config) → the Vocabulary after these events alone, its buckets numbered first."""

    def build(rows: list[dict], config: VocabularyConfig) -> Vocabulary:
        buckets = Buckets(3, config.hash_buckets) if config.hash_buckets else None
        items = updated(None, events(*rows), config, first=3 + config.hash_buckets)
        with new_event_types(rows_frame(spark, EVENT_TYPES, []), events(*rows), 3) as types:
            return Vocabulary(items, held(EVENT_TYPES, types), buckets)

    return build


HASHED = VocabularyConfig(min_count=2, hash_buckets=5)
# Before the cut a is known, b and c are rare; after it b is known too.
PAST = [*seen("a", 1, 2), *seen("b", 1), *seen("c", 2), *seen(None, 2), *seen("None", 2)]


@pytest.mark.parametrize("config", [TWICE, HASHED])
def test_what_comes_after_the_cut_makes_no_item_known_before_it(events, frames, config):
    planted = [*PAST, *seen("b", 3), *seen("new", 3, 4)]
    found, again = (
        histories(events(*rows), frames(rows, config), CUT, Shape(8, 100)).collect() for rows in (PAST, planted)
    )
    assert found == again
    known, rare = 3 + config.hash_buckets, [3 + bucket(item, 5) if config.hash_buckets else 2 for item in "bc"]
    # In the order of time, then of event_id; without an item, or called None, no item is in a bucket.
    assert list(found[0].item_index) == [known, rare[0], 2, known, rare[1], 2, 0, 0]


def test_a_target_that_is_rare_is_missed_and_no_candidate(events, frames):
    rows = [*PAST, *seen("a", 5), *seen("b", 5), *seen("c", 5), *seen("x", 5), *seen("y", 5)]
    words = frames(rows, TWICE)
    assert [row[:2] for row in told(words.items)] == [("a", 3), ("b", 4), ("c", 5)]
    frame = events(*rows)
    target = targets(frame, sessionize(frame, timedelta(minutes=30), 0), words.items, CUT, None, 6)
    asked = (Asked(target.where("false"), CUT), Asked(target, CUT))
    before = frame.where(F.col("event_time") < F.lit(CUT))
    made = rows_of_cuts(before, frame.where("false"), words, asked, Shape(6, 100))
    sequences = padded(made, 6).where("split = 'test'")
    users = judged_users(sequences)
    assert users.targets.tolist() == [[2, 2, 3, 4, 5, 0]]
    found = baselines(frame, words.items, sequences, users, 6, EvaluateConfig(baselines=[POPULARITY]))
    assert found.catalogue.tolist() == [False, False, False, True, False, False]


def test_the_model_numbers_raw_histories_as_the_sequences_do(events, frames):
    later = [*PAST, *seen("b", 3, user="v"), *seen("new", 4), *seen("a", 4)]
    words = frames(later, HASHED)
    tables = read_vocabulary(words.items, words.event_types, [words.buckets])
    train = stored(histories(events(*later), words, CUT, Shape(8, 100)))
    counts = np.bincount(train.item_index.ravel())
    model = tables.learnt(np.where(np.arange(len(counts)) > 2, counts, 0))
    own = sorted((row for row in later if row["user_id"] == "u"), key=lambda row: (row["event_time"], row["event_id"]))

    def raw(rows: list[dict]) -> list:
        return to_histories({"item_id": [[row["item_id"] for row in rows]]}, model, 8).item_index.tolist()

    assert raw([row for row in own if row["event_time"].replace(tzinfo=None) < CUT]) == train.item_index.tolist()
    # As of now b has a number, which the model has not learnt: to the model it is in its bucket still.
    ours = replace(tables, buckets=()).with_buckets_of(model)
    now = stored(histories(events(*own), replace(words, buckets=ours.buckets[0]), None, Shape(8, 100)))
    assert Renumbering.between(ours, model).histories(now).item_index.tolist() == raw(own)
    assert raw(own)[0][:2] == [8, 3 + bucket("b", 5)]


def stored(rows) -> Histories:
    """The arrays of the rows, as the jobs read them."""
    return as_histories(collect(rows))


def test_known_from_is_never_the_time_of_an_event_that_was_erased(events):
    rows = [*seen("a", 1), *seen("a", 2, 3, user="v"), *seen("b", 1, 2, user="v"), *seen("c", 1, 2)]
    left = events(*seen("a", 1, 3, user="w"), *seen("b", 1, user="w"))
    found = recounted(updated(None, events(*rows), TWICE), left).collect()
    assert {row.item_id: (row.n_events, str(row.known_from)) for row in found} == {
        "a": (2, "2017-01-03 12:00:00"),
        "b": (1, "2017-01-01 12:00:00"),
        "c": (0, "None"),
    }

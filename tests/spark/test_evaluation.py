"""What baselines are made of: the events before the cut alone, of everybody, as arrays."""

from dataclasses import replace
from datetime import datetime, timezone
from types import SimpleNamespace

import numpy as np
import pytest
from pyspark.sql import functions as F

from behavior_lib.config.schema import EvaluateConfig
from behavior_lib.data.histories import Histories, unknown_times
from behavior_lib.errors import ConfigError
from behavior_lib.evaluation.baselines import ALS, DECAYED_OWN_FREQUENCY, EASE, OWN_FREQUENCY, POPULARITY
from behavior_lib.inference.vocabulary import Vocabulary
from behavior_lib.spark.evaluation import JudgedUsers, baselines, interactions, judged_users
from behavior_lib.spark.evidence import Evidence
from behavior_lib.spark.factors import FACTORS, implicit_factors
from behavior_lib.spark.schema import rows_frame
from behavior_lib.tables import EVENTS, ITEMS, SEQUENCES
from jobs.evaluate import tell_left_out
from tests.spark.conftest import event

pytestmark = pytest.mark.spark

UTC, CUT = timezone.utc, datetime(2017, 1, 3)


@pytest.fixture(scope="module")
def seen(spark):
    """Events, ITEMS, SEQUENCES rows and judged users: "v" has done nothing before the cut, "other" is not judged."""
    rows = [
        event("u", "2017-01-02 10:00:00", item_id="b"),
        event("u", "2017-01-01 10:00:00", item_id="a"),
        event("u", "2017-01-02 10:00:00", item_id="a"),
        event("u", "2017-01-02 11:00:00", item_id=None),
        event("u", "2017-01-02 11:00:00", item_id="late"),  # has no number before the cut
        event("u", "2017-01-03 00:00:00", item_id="a"),  # at the cut
        event("other", "2017-01-01 00:00:00.000001", item_id="b"),
        event("v", "2017-01-04 00:00:00", item_id="b"),
    ]
    start = datetime(2017, 1, 1, tzinfo=UTC)
    since = {"a": start, "b": start, "late": CUT.replace(tzinfo=UTC)}
    items = [
        {
            ITEMS.item_id: name,
            ITEMS.item_index: index,
            ITEMS.n_events: 1,
            ITEMS.known_from: since[name],
            ITEMS.attributes: {"kind": "tea" if name == "b" else "cola"},
        }
        for index, name in enumerate(since, 3)
    ]
    number = np.array([[3, 3, 4, 2, 2], [0] * 5], np.int32)
    value, length = number.astype(np.float32), np.array([5, 0], np.int32)
    histories = Histories(number, number, number, value, length, unknown_times(2))
    users = JudgedUsers(np.array(["u", "v"], dtype=object), histories, np.array([[3], [4]]), CUT)
    sequences = spark.range(1).select(F.explode(F.array(F.lit("u"), F.lit("v"))).alias(SEQUENCES.user_id))
    return rows_frame(spark, EVENTS, rows), rows_frame(spark, ITEMS, items), sequences, users


def test_histories_end_before_the_cut_and_have_everybody(seen):
    events, items, _, users = seen
    before = events.where(events.event_time < CUT).join(items.where(items.known_from < CUT), "item_id")
    found = interactions(before, users)
    assert found.judged.tolist() == [0, 1]
    assert found.offsets.tolist() == [0, 3, 3, 4]
    assert found.item.tolist() == [3, 3, 4, 4]
    midnight, hour = 1_483_228_800 * 10**6, 3600 * 10**6  # of 2017-01-01
    assert (found.time - midnight).tolist() == [10 * hour, 34 * hour, 34 * hour, 1]


def test_scores_are_of_what_was_seen(seen):
    names = [DECAYED_OWN_FREQUENCY, OWN_FREQUENCY, POPULARITY]
    found = baselines(*seen, 6, EvaluateConfig(baselines=names))
    assert (list(found.scorers), found.left_out) == (names, ())
    assert found.catalogue.tolist() == [False, False, False, True, True, False]
    assert found.scorers[POPULARITY](slice(0, 1))[0].tolist() == [0, 0, 0, 2, 2, 0]
    own, decayed = (found.scorers[name](slice(0, 2)) for name in (OWN_FREQUENCY, DECAYED_OWN_FREQUENCY))
    assert own[0, 3] > own[0, 4] > own[0, 5]
    assert decayed[0, 3] > decayed[0, 4] > decayed[0, 5]
    assert own[1, 3] == own[1, 4] > own[1, 5]


def test_what_was_seen_is_grouped_by_popularity_and_attribute(seen):
    background = baselines(*seen, 6, EvaluateConfig(baselines=[], calibration_attributes=["kind"])).background
    past = {name: grouping.of_counts(background.own).tolist() for name, grouping in background.groupings.items()}
    # By index: "a", 3, is the one item of the head; the values are in the order of cola, tea.
    assert past == {"miscalibration": [[2, 0, 1], [0, 0, 0]], "miscalibration_kind": [[0, 2, 1], [0, 0, 0]]}


def test_who_has_no_event_before_the_cut_has_no_past(seen):
    background = baselines(*seen, 6, EvaluateConfig(baselines=[])).background
    assert background.has_past.tolist() == [True, False]
    assert background.own.toarray().tolist() == [[0, 0, 0, 2, 1, 0], [0] * 6]


def test_too_many_events_leave_out_what_needs_them_all(seen):
    config = EvaluateConfig(baselines=[EASE, OWN_FREQUENCY, DECAYED_OWN_FREQUENCY], most_events=3)
    found = baselines(*seen, 6, config)
    assert (list(found.scorers), found.left_out) == ([OWN_FREQUENCY], (EASE, DECAYED_OWN_FREQUENCY))
    assert baselines(*seen, 6, replace(config, most_events=4)).left_out == ()


RANK, REGULARISATION, ALPHA = 3, 0.2, 4.0


def factors_of(seen, folder, iterations):
    """The vectors of users and of items by their names."""
    events, items, *_ = seen
    counts = events.join(items, "item_id").groupBy("user_id", "item_index").count()
    settings = {"rank": RANK, "regularisation": REGULARISATION, "alpha": ALPHA}
    both = implicit_factors(counts, "count", str(folder), iterations=iterations, **settings)
    return tuple(
        {row[0]: np.array(row[FACTORS]) for row in found.select(name, FACTORS).collect()}
        for found, name in zip(both, ("user_id", "item_index"), strict=True)
    )


def least_squares(others, had):
    """The exact minimum of one side, given the vectors of the other and how often each of those was met."""
    matrix = np.stack(list(others.values()))
    left, right = matrix.T @ matrix + REGULARISATION * len(had) * np.eye(RANK), np.zeros(RANK)
    for name, count in had.items():
        left += ALPHA * count * np.outer(others[name], others[name])
        right += (1 + ALPHA * count) * others[name]
    return np.linalg.solve(left, right)


def test_user_factors_are_the_least_squares_of_their_counts(seen, tmp_path):
    x, y = factors_of(seen, tmp_path, 2)
    had = {"u": {3: 3, 4: 1, 5: 1}, "other": {4: 1}, "v": {4: 1}}
    assert (set(x), set(y)) == (set(had), {3, 4, 5})
    for user, vector in x.items():
        np.testing.assert_allclose(vector, least_squares(y, had[user]), rtol=1e-4, atol=1e-6)


def test_item_factors_are_nearly_those_of_the_users(seen, tmp_path):
    """After many iterations each side is the least squares of the other; of items that is an iteration ago."""
    x, y = factors_of(seen, tmp_path, 40)
    had = {3: {"u": 3}, 4: {"u": 1, "other": 1, "v": 1}, 5: {"u": 1}}
    assert set(y) == set(had)
    for item, vector in y.items():
        np.testing.assert_allclose(vector, least_squares(x, had[item]), rtol=1e-2, atol=1e-3)


def test_als_scores_by_dot_products_and_popularity(seen, tmp_path):
    found = baselines(*seen, 6, EvaluateConfig(baselines=[ALS], most_events=0, checkpoints=str(tmp_path)))
    scores = found.scorers[ALS](slice(0, 2))
    assert scores.shape == (2, 6)
    assert scores[0, 3] > scores[0, 4] > 0.2  # both were had, the first one more often
    assert (scores[0, [0, 1, 2, 5]] == 0).all()
    assert scores[1, 3] == scores[1, 4] > scores[1, 5]  # nothing was had: popularity


def test_als_knows_popularity_where_no_judged_user_has_a_past(seen, tmp_path):
    events, items, sequences, users = seen
    only = replace(users, user_ids=users.user_ids[1:], histories=users.histories.rows(slice(1, 2)))
    config = EvaluateConfig(baselines=[ALS], checkpoints=str(tmp_path))
    new = sequences.where(sequences.user_id == "v")
    scores = baselines(events, items, new, only, 6, config).scorers[ALS](slice(0, 1))
    assert scores[0, 3] == scores[0, 4] > scores[0, 5]


def test_vectors_of_a_model_stand_at_the_numbers_of_the_tables():
    """The model has numbered the items otherwise, knows "a" and "c", and has no name for "b"."""
    tables = Vocabulary.from_pairs([("a", 3), ("b", 4), ("c", 5)], [("buy", 3)])
    of_items, asked = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32), []
    model = SimpleNamespace(
        vocabulary=Vocabulary.from_pairs([("c", 3), ("other", 4), ("a", 5)], [("buy", 3)]),
        known_items=np.array([3, 5]),
        item_vectors=lambda: of_items,
        is_cosine=True,
        product_terms=lambda: (0.7, np.array([-1, -2], np.float32)),
        encode=lambda histories: asked.append(histories.item_index) or np.eye(2, dtype=np.float32),
    )
    numbers = np.array([[3, 5, 4, 0], [5, 0, 0, 0]], np.int32)
    histories = Histories(
        numbers, numbers, numbers, numbers.astype(np.float32), np.array([3, 1], np.int32), unknown_times(2)
    )
    users = JudgedUsers(np.array(["u", "v"], dtype=object), histories, np.array([[3], [4]]), CUT)
    found = Evidence(None, None, None, tables).vectors(model, users)
    assert (found.index.tolist(), found.items.tolist(), found.n_items) == ([3, 5], [[3, 4], [1, 2]], 6)
    assert asked[0].tolist() == [[5, 3, 2, 0], [3, 0, 0, 0]]
    assert (found.users.tolist(), found.factor, found.addend.tolist()) == ([[1, 0], [0, 1]], 0.7, [-2, -1])
    assert found.is_cosine


def row(user, day, held_out_id, length=1):
    """Of SEQUENCES, of a user of the test split."""
    lists = {name: [3, 0] for name in (SEQUENCES.item_index, SEQUENCES.event_type, SEQUENCES.target_index)}
    rest = {SEQUENCES.gap_seconds: [0, 0], SEQUENCES.value: [1.0, 0.0], SEQUENCES.length: length, SEQUENCES.chunk_id: 0}
    cut = {SEQUENCES.as_of: datetime(2017, 5, day, 12, tzinfo=UTC), SEQUENCES.held_out_id: held_out_id}
    own = {SEQUENCES.user_id: user, SEQUENCES.split: "test", SEQUENCES.first_event_time: CUT.replace(tzinfo=UTC)}
    return {**own, **lists, **rest, **cut}


def test_users_with_histories_of_like_length_stand_together(spark):
    lengths = {"a": 2, "b": 0, "c": 1, "d": 0}
    users = judged_users(rows_frame(spark, SEQUENCES, [row(user, 9, None, n) for user, n in lengths.items()]))
    assert users.user_ids.tolist() == ["b", "d", "c", "a"]
    assert users.histories.length.tolist() == [0, 0, 1, 2]


def test_users_of_leave_one_out_have_cuts_of_their_own(spark):
    own = judged_users(rows_frame(spark, SEQUENCES, [row("v", 9, "e2"), row("u", 2, "e1")]))
    assert (own.is_leave_one_out, own.as_of) == (True, datetime(2017, 5, 9, 12))
    assert [own.cut_of(place) for place in (0, 1)] == [datetime(2017, 5, 2, 12), datetime(2017, 5, 9, 12)]
    shared = judged_users(rows_frame(spark, SEQUENCES, [row("v", 9, None), row("u", 9, None)]))
    assert (shared.is_leave_one_out, shared.cut_of(0)) == (False, datetime(2017, 5, 9, 12))


def test_what_is_left_out_is_told_and_the_gate_never_goes_without():
    told = []
    config = EvaluateConfig(gate=[POPULARITY], most_events=3)
    job = SimpleNamespace(config=SimpleNamespace(evaluate=config), progress=SimpleNamespace(warn=told.append))
    tell_left_out(job, (), config.gate)
    assert told == []
    tell_left_out(job, (EASE, DECAYED_OWN_FREQUENCY), config.gate)
    assert told == ["ease, decayed_own_frequency are left out: there are more than 3 events (evaluate.most_events)"]
    config.gate.append(EASE)
    with pytest.raises(ConfigError, match=r"the gate needs ease, and there are more than 3 events .*; raise evaluate"):
        tell_left_out(job, (EASE,), config.gate)
    tell_left_out(job, (EASE,), ())  # of a split where no gate is
    assert told[1:] == ["ease are left out: there are more than 3 events (evaluate.most_events)"]

"""What users did next, and what is told of it: the first instant that a history does not hold."""

from datetime import datetime, timezone

import numpy as np
import pytest
from pyspark.sql import functions as F

from behavior_lib.data.histories import Histories, unknown_times
from behavior_lib.inference.vocabulary import Vocabulary
from behavior_lib.spark.evaluation import JudgedUsers
from behavior_lib.spark.evidence import Evidence
from behavior_lib.spark.schema import rows_frame
from behavior_lib.spark.upcoming import next_instants
from behavior_lib.tables import EVENTS, SEQUENCES
from tests.spark.conftest import event

pytestmark = pytest.mark.spark

CUT = datetime(2017, 1, 3, tzinfo=timezone.utc)
NAMES = Vocabulary.from_pairs([("a", 3)], [("buy", 3), ("view", 4)])
USERS = np.array(["new", "u", "v", "w"], dtype=object)


def rows(spark, held_out=None):
    """SEQUENCES rows of the test split of all users, as far as they are read here."""
    ends = {SEQUENCES.as_of: F.lit(CUT), SEQUENCES.held_out_id: F.lit(held_out).cast("string")}
    users = spark.range(1).select(F.explode(F.array(*map(F.lit, USERS))).alias(SEQUENCES.user_id))
    return users.withColumns({**ends, SEQUENCES.split: F.lit("test")})


@pytest.fixture(scope="module")
def events(spark):
    made = [
        event("u", "2017-01-01 00:00:00", event_type="view", value=9.0),
        event("u", "2017-01-02 12:00:00", event_type="view", value=9.0),
        # At the cut: two views and a purchase, the value of one of which is not known.
        event("u", "2017-01-03 00:00:00", event_type="view", value=0.1, event_id="u3"),
        event("u", "2017-01-03 00:00:00", event_type="buy", value=0.2, event_id="u4"),
        event("u", "2017-01-03 00:00:00", event_type="view", value=None, event_id="u5"),
        event("u", "2017-01-03 00:00:00.000001", event_type="buy", value=50.0),
        event("v", "2017-01-02 23:59:59", event_type="buy", value=1.0),
        event("v", "2017-01-05 23:59:59", event_type="view", value=-2.0),
        event("v", "2017-01-05 23:59:59", event_type="buy", value=-3.0),
        event("new", "2017-01-04 00:00:00", event_type="view", value=7.0),
        event("other", "2017-01-05 00:00:00", event_type="view", value=7.0),
        event("w", "2017-01-02 00:00:00", event_type="view", value=1.0),
    ]
    return rows_frame(spark, EVENTS, made)


def test_the_next_instant_is_the_first_from_the_cut_on(spark, events):
    found, instants = next_instants(events, rows(spark), USERS[::-1], NAMES)
    assert found.tolist() == [2, 1]  # nothing came of "w", and nothing had come of "new"
    # Of "v" as many events are purchases as views; of "u" the third event is of no value.
    assert {name: values.tolist() for name, values in instants.items()} == {
        "next_type": [4, 3],
        "next_time": [0.5, 3.0],
        "next_value": [pytest.approx(0.3), -5.0],
    }
    unnamed = Vocabulary.from_pairs([("a", 3)], [("buy", 3)])
    assert next_instants(events, rows(spark), USERS, unnamed)[1]["next_type"].tolist() == [2, 3]


def test_with_an_event_held_out_others_of_its_instant_may_lie_before_it(spark, events):
    _, instants = next_instants(events, rows(spark, "u4"), USERS, NAMES)
    assert [values[0] for values in instants.values()] == [3, 0, pytest.approx(0.2)]


class Told:
    """A model that numbers event types the other way round, and says of a user the number of purchases."""

    vocabulary = Vocabulary.from_pairs([("a", 3)], [("view", 3), ("buy", 4)])

    def __init__(self, *names):
        self.names = names

    def foretold(self, histories):
        purchases = (histories.event_type == 4).sum(axis=1)
        return {name: purchases.astype(float) for name in self.names}


def test_a_model_is_judged_on_what_it_says_beside_guesses(spark, events):
    number = np.array([[0, 0], [4, 4], [3, 0], [4, 0]], np.int32)  # as the tables have it
    gap = np.array([[0, 0], [0, 129_600], [0, 0], [0, 0]], np.int32)
    item, value, length = np.minimum(number, 3), np.ones((4, 2), np.float32), np.array([0, 2, 1, 1], np.int32)
    histories = Histories(item, number, gap, value, length, unknown_times(len(length)))
    users = JudgedUsers(USERS, histories, np.zeros((4, 1), np.int32), CUT)
    evidence = Evidence(rows(spark), events, None, NAMES)
    found = evidence.foretold("test", Told("next_time", "next_type"), users)
    metrics = found.metrics()
    assert list(metrics) == ["model", "typical", "own_typical", "previous"]
    # "u" waits half a day and then views, "v" three days, and buys; there is one gap, of a day and a half.
    assert metrics["model"]["next_time_mae"].value == pytest.approx((0.5 + 2) / 2)
    assert metrics["previous"]["next_time_mae"].value == pytest.approx((1 + 1.5) / 2)
    assert metrics["previous"]["next_type_accuracy"].value == 1
    assert metrics["typical"]["next_type_accuracy"].value == 0.5
    assert found.truth["next_type"].tolist() == [3, 4]
    assert evidence.foretold("test", Told(), users) is None


def test_where_nobody_has_a_past_nothing_is_foretold(spark, events):
    """Of "u" and "v" the events before the cut are not known to the model either."""
    none = np.zeros((4, 2), np.int32)
    histories = Histories(none, none, none, none.astype(np.float32), np.zeros(4, np.int32), unknown_times(4))
    users = JudgedUsers(USERS, histories, np.zeros((4, 1), np.int32), CUT)
    assert Evidence(rows(spark), events, None, NAMES).foretold("test", Told("next_time"), users) is None

"""Labels of users: from a file of the source, and from what comes after a cut."""

import math
from datetime import datetime

import pytest

from behavior_lib.config.schema import PrivacyConfig
from behavior_lib.config.source import UsersConfig
from behavior_lib.errors import ConfigError
from behavior_lib.privacy.keys import Key
from behavior_lib.spark.labels import choose_users, read_labels
from behavior_lib.spark.probes import future_labels
from tests.spark.conftest import event

pytestmark = pytest.mark.spark

CSV = """id,age,spent
u1,60,7.5
u2,30,
u3,,2
u3,70,2
,50,1
"""
MANY = "\n".join(["id,age,spent", *(f"u{number},{number},1" for number in range(21))])
CLASSES = "case when cast(age as int) >= 55 then 'over 55' when age is not null then '18-24' end"
FEW = "a label of classes has 2 to 20 of them in users.classes.band of the source"
CUT = datetime(2017, 5, 1)


@pytest.fixture
def users(tmp_path):
    def make(classes=None, text=CSV, **labels):
        path = tmp_path / "users.csv"
        path.write_text(text)
        return UsersConfig("csv", str(path), "id", {"header": "true"}, labels, classes or {})

    return make


def rows(frame):
    return {row[0]: tuple(row)[1:] for row in frame.collect()}


def test_labels_are_conditions_and_numbers(spark, users):
    known = read_labels(spark, users(old="cast(age as int) >= 55", spent="cast(spent as double)"), PrivacyConfig())
    assert known.is_binary == {"old": True, "spent": False}
    # Of two rows the smaller, null before all; a row without a user is nobody's.
    assert rows(known.rows) == {"u1": (1.0, 7.5), "u2": (0.0, None), "u3": (None, 2.0)}
    with pytest.raises(
        ConfigError, match=r"neither a boolean nor a number in users.labels.age of the source: 'string'"
    ):
        read_labels(spark, users(age="age"), PrivacyConfig())


def test_classes_are_a_label_each_of_which_a_user_has_one(spark, users):
    known = read_labels(spark, users(old="cast(age as int) >= 55", classes={"band": CLASSES}), PrivacyConfig())
    assert known.is_binary == {"old": True, "band_is_18_24": True, "band_is_over_55": True}
    assert known.class_of == {"band_is_18_24": "band", "band_is_over_55": "band"}
    assert rows(known.rows) == {"u1": (1.0, 0.0, 1.0), "u2": (0.0, 1.0, 0.0), "u3": (None, None, None)}


@pytest.mark.parametrize(
    ("text", "sql", "sentence"),
    [
        (
            CSV,
            "'one'",
            r"a label of classes has 2 to 20 of them in users.classes.band of the source: '1'; write conditions",
        ),
        (MANY, "age", f"{FEW}: 'more than 20'"),
        (
            CSV,
            "if(id = 'u1', 'a b', 'a-b')",
            r"two labels would be called band_is_a_b in users.classes.band of the source",
        ),
    ],
)
def test_classes_that_are_no_labels_are_refused(spark, users, text, sql, sentence):
    with pytest.raises(ConfigError, match=sentence):
        read_labels(spark, users(classes={"band": sql}, text=text), PrivacyConfig())


def test_labels_meet_every_pseudonym_of_a_user(spark, users, monkeypatch):
    monkeypatch.setenv("ONE", "a" * 40)
    monkeypatch.setenv("TWO", "b" * 40)
    privacy = PrivacyConfig(pseudonymize=True, keys={"v1": "env:ONE", "v2": "env:TWO"})
    known = read_labels(spark, users(old="cast(age as int) >= 55"), privacy)
    keys = (Key("v1", b"a" * 40), Key("v2", b"b" * 40))
    expected = {"u1": (1.0,), "u2": (0.0,), "u3": (None,)}
    assert rows(known.rows) == {key.hash(user): value for key in keys for user, value in expected.items()}


def test_what_comes_after_the_cut_is_told_to_the_microsecond(events):
    future = future_labels(
        events(
            event("u1", "2017-04-30T23:59:59.999999", value=100.0),
            event("u1", "2017-05-01T00:00:00", value=3.5),
            event("u1", "2017-05-07T23:59:59.999999", value=None),
            event("u1", "2017-05-08T00:00:00", value=100.0),
            event("u2", "2017-05-02T00:00:00", value=-5.0),
            event("u3", "2017-04-24T00:00:00", value=1.0),
            event("u4", "2017-04-23T23:59:59.999999", value=1.0),
            event("u4", "2017-05-08T00:00:00", value=1.0),
        ),
        CUT,
        7,
    )
    # Who was not here in the week before cannot stay away: of "u2" no churn is known, and of "u4" nothing.
    assert rows(future) == {
        "u1": (1.0, pytest.approx(math.log(4.5)), 0.0),
        "u2": (1.0, 0.0, None),
        "u3": (0.0, 0.0, 1.0),
    }


def test_users_with_labels_come_first_and_others_are_drawn(spark, events, users):
    before = events(*(event(f"u{number}", "2017-04-01T00:00:00") for number in range(20)))
    known = read_labels(spark, users(old="cast(age as int) >= 55"), PrivacyConfig())
    chosen = {row[0]: row[1] for row in choose_users(before, known, 5, seed=1).collect()}
    assert {"u1": 1.0, "u2": 0.0}.items() <= chosen.items()
    assert len(chosen) == 5
    assert rows(choose_users(before, known, 5, seed=1)).keys() == chosen.keys()
    drawn = {frozenset(rows(choose_users(before, None, 5, seed=seed))) for seed in range(5)}
    assert len(drawn) > 1
    assert len(rows(choose_users(before, None, 100, seed=1))) == 20

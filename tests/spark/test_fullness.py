"""How full the arrays are, and what is said where they are mostly empty."""

import pytest

from behavior_lib.spark.fullness import Fullness

pytestmark = pytest.mark.spark


def test_rows_and_lengths_are_counted_over_all_splits(spark):
    rows = spark.sql("select * from values ('train', 3), ('train', 3), ('test', 0), ('train', 4) as t(split, length)")
    found = Fullness.of(rows, 8)
    assert found == Fullness({"train": 3, "test": 1}, {3: 2, 0: 1, 4: 1}, 8)
    assert found.padding_share == 1 - 10 / 32


@pytest.mark.parametrize(
    ("lengths", "enough"), [({0: 1}, 16), ({17: 19, 1000: 1}, 32), ({33: 1}, 64), ({64: 18, 65: 2}, 128)]
)
def test_enough_holds_95_of_100_rows_whole(lengths: dict[int, int], enough: int):
    assert Fullness({}, lengths, 1024).enough == enough


def test_advice_is_given_where_most_is_padding_and_less_would_do():
    told = str(Fullness({}, {30: 99, 32: 1}, 1024).advice())
    assert told.startswith(
        "97% of the arrays is padding, and 95% of the rows have 32 events or fewer: sequences.length=32"
    )
    assert Fullness({}, {500: 3, 600: 1}, 1024).advice() is None  # half full
    assert Fullness({}, {1: 90, 1024: 10}, 1024).advice() is None  # mostly padding, but a tenth is long
    assert (Fullness({}, {}, 1024).advice(), Fullness({}, {}, 1024).padding_share) == (None, 0.0)

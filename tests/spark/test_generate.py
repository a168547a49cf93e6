"""Generated rows beside plain Python's, and the knobs by what the rows show."""

from collections import Counter
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from behavior_lib.config.generator import MAX_ROWS, GeneratorConfig
from behavior_lib.spark.generate import raw_rows, row_numbers
from tests.generator_oracle import Oracle

pytestmark = pytest.mark.spark

COLUMNS = ("request", "customer", "action", "product", "occurred_at", "price", "day", "_kind")


def rows(spark, config, partitions=2):
    return rows_of(row_numbers(spark, config, partitions), config)


def rows_of(numbers, config):
    frame = raw_rows(numbers, config).orderBy("_row")
    return [(*row[:6], str(row[6]), row[7]) for row in frame.select(*COLUMNS).collect()]


def events(spark, config):
    """customer → its good events' times, sorted."""
    times = {}
    for _, customer, _, _, occurred, _, _, kind in rows(spark, config):
        if kind == "event":
            times.setdefault(customer, []).append(datetime.fromisoformat(occurred))
    return {customer: sorted(own) for customer, own in times.items()}


def test_every_row_is_what_plain_python_makes_of_its_number_in_1_3_and_8_partitions(spark):
    config = GeneratorConfig(
        events=2_000, seed=7, bad=0.02, late=0.05, boundaries=0.3, midnights=0.2, heavy_user=0.1, heavy_item=0.5,
        heavy_day=0.4, huge_session=100, user_exponent=0.8, item_exponent=1.0,
    )  # fmt: skip
    oracle = Oracle(config, good=1_860, copies=100, late=93, heavy=186, heavy_item=930)
    expected = [oracle.row(number) for number in range(2_000)]
    for partitions in (1, 3, 8):
        assert rows(spark, config, partitions) == expected


@pytest.mark.parametrize("size", [10**9, MAX_ROWS])
def test_rows_of_the_largest_logs_are_what_plain_python_makes_of_their_numbers_whatever_the_partitions(spark, size):
    config = GeneratorConfig(
        events=size, seed=7, bad=0.02, late=0.05, boundaries=0.3, midnights=0.2, heavy_user=0.1, heavy_item=0.5,
        heavy_day=0.4, huge_session=10_000_000, user_exponent=0.8, item_exponent=1.0,
    )  # fmt: skip
    good, copies = size * 93 // 100, size * 5 // 100
    heavy = good // 10
    oracle = Oracle(config, good, copies, late=good * 5 // 100, heavy=heavy, heavy_item=good // 2)
    # Both sides of every border, and the first and last rows.
    borders = (40, heavy, heavy + 10_000_000, size // 2, good, good + copies, size - 40)
    chosen = [number for border in borders for number in range(border - 40, border + 40)]
    expected = [oracle.row(number) for number in chosen]
    frame = spark.createDataFrame([(number,) for number in chosen], "id bigint")
    for partitions in (1, 5):
        assert rows_of(frame.repartition(partitions), config) == expected


def test_the_kinds_are_as_many_as_promised_and_a_duplicate_is_a_copy(spark):
    config = GeneratorConfig(events=3_000, seed=2, duplicates=0.1, bad=0.02, late=0.05, heavy_item=0.5)
    found = rows(spark, config)
    counts = Counter(row[7] for row in found)
    assert counts == {
        "event": 2_640,
        "duplicate": 300,
        **dict.fromkeys(("time", "customer", "price", "action", "torn"), 12),
    }
    good = {row[0]: row for row in found if row[7] == "event"}
    copies = [row for row in found if row[7] == "duplicate"]
    assert len(good) == 2_640
    assert all(copy[:6] == good[copy[0]][:6] for copy in copies)
    later = Counter((datetime.fromisoformat(c[6]) - datetime.fromisoformat(good[c[0]][6])).days for c in copies)
    assert set(later) == {0, 1, 2, 3}
    late = [row for row in good.values() if row[6] > row[4][:10]]
    assert len(late) == 132
    assert {(datetime.fromisoformat(r[6]) - datetime.fromisoformat(r[4][:10])).days for r in late} == {1, 2}
    assert sum(row[3] == "heavy-item" for row in good.values()) == 1_320
    assert {row[2] for row in good.values()} == {"view", "click", "search", "cart", "purchase"}
    assert all((row[3] is None) == (row[2] == "search") for row in good.values())
    assert all((row[5] is None) == (row[2] not in ("cart", "purchase")) for row in good.values())


def test_silences_lie_on_both_sides_of_the_gap_and_visits_cross_midnight(spark):
    # So many users that two visits of one are rare: the silences of a user are those of a visit.
    knobs = {"seed": 5, "users": 10**9, "user_exponent": 0, "duplicates": 0, "bad": 0, "gap": "10m", "pauses": 0}
    gap = timedelta(minutes=10)
    edges = events(spark, GeneratorConfig(events=6_400, boundaries=1, midnights=0, **knobs))
    silences = Counter(b - a for own in edges.values() for a, b in pairwise(own))
    on_edge = [silences[gap + timedelta(microseconds=by)] for by in (-1, 0, 1)]
    # 100 blocks of 8 visits, 7 of them with several events.
    assert sum(on_edge) == 700
    assert all(180 < number < 290 for number in on_edge)
    assert max(silences) == gap + timedelta(microseconds=1)
    nights = events(spark, GeneratorConfig(events=6_400, boundaries=0, midnights=1, **knobs))
    assert sum(time.time() == datetime.min.time() for own in nights.values() for time in own) == 700
    assert sum(own[0].date() < own[-1].date() for own in nights.values()) == 700
    assert all(b - a < gap for own in nights.values() for a, b in pairwise(own))


def test_heavy_user_heavy_day_and_huge_session(spark):
    found = events(spark, GeneratorConfig(events=4_000, seed=9, heavy_user=0.3, heavy_day=0.9, huge_session=1_000))
    assert (len(found["heavy-user"]), len(found["huge-session-user"])) == (1_134, 1_000)
    huge = found["huge-session-user"]
    assert huge[0] == datetime(2024, 1, 16)
    assert {b - a for a, b in pairwise(huge)} == {timedelta(seconds=86.4)}
    others = [own[0].date() for customer, own in found.items() if customer not in ("heavy-user", "huge-session-user")]
    days = Counter(str(time.date()) for own in found.values() for time in own)
    assert days.most_common(1)[0][0] == "2024-01-16"
    assert Counter(map(str, others))["2024-01-16"] > 0.8 * len(others)
    numbered = events(spark, GeneratorConfig(events=1_000, heavy_user=10))
    assert len(numbered["heavy-user"]) == 10


def test_users_follow_a_power_law(spark):
    config = GeneratorConfig(events=20_000, users=1_000, user_exponent=1.0, duplicates=0, bad=0)
    numbers = Counter({customer: len(own) for customer, own in events(spark, config).items()})
    # Of ranks up to 1,000 the share below rank r + 1 is ln(r + 1) / ln(1001).
    top = sum(numbers[f"u{rank}"] for rank in range(1, 10)) / 20_000
    assert abs(top - 0.333) < 0.03
    even = events(spark, GeneratorConfig(events=20_000, users=10, user_exponent=0, duplicates=0, bad=0))
    assert all(abs(len(own) - 2_000) < 300 for own in even.values())

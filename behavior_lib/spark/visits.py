"""Event numbers → who and when: visits of users, with silences of known length in them."""

from __future__ import annotations

from datetime import timedelta
from itertools import accumulate

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from behavior_lib.config.generator import GeneratorConfig
from behavior_lib.spark.draws import Draws

NUMBER, CUSTOMER, TIME = "_number", "_customer", "_time_us"
HEAVY_USER, HUGE_USER = "heavy-user", "huge-session-user"
SECOND, DAY = 1_000_000, 86_400_000_000
# Events of one visit, in turn: visit after visit takes the next numbers, so a number alone tells its visit.
VISIT_SIZES = (1, 2, 3, 4, 6, 8, 16, 24)
_BLOCK = sum(VISIT_SIZES)
_FIRSTS = tuple(accumulate(VISIT_SIZES, initial=0))[:-1]
_VISIT, _POSITION, _SIZE, _STEP, _CUT, _SILENCE, _IS_MIDNIGHT = (
    "_visit", "_position", "_size", "_step", "_cut", "_silence", "_is_midnight",
)  # fmt: skip
# What each draw is for. A number here never changes its meaning: the rows of a seed would change with it.
_USER, _DAY, _CLOCK, _OTHER_CLOCK, _STEPS, _KIND, _CUTS, _PAUSE, _JITTER = range(1, 10)


def with_timelines(numbers: DataFrame, config: GeneratorConfig) -> DataFrame:
    """Add `_customer` and `_time_us` (µs since 1970) to rows with an event `_number`.

    A visit is some events of one user, one `step` (1 s to G/6) and a bit apart. In some visits one silence, before the
    event at the position `cut`, is of another length. The first numbers belong to the heavy user, the next to the
    huge session; where two visits of one user overlap, their events interleave.
    """
    draws = Draws(config.seed)
    steps = _with_steps(_with_visits(numbers), config, draws)
    heavy, huge = config.counts.heavy_user, config.huge_session
    number = F.col(NUMBER)
    is_heavy, is_huge = number < heavy, number.between(heavy, heavy + huge - 1)
    rank = draws.zipf(_USER, F.col(_VISIT), config.n_users, config.user_exponent)
    user = F.when(is_heavy, F.lit(HEAVY_USER)).when(is_huge, F.lit(HUGE_USER))
    start = F.lit(config.start_us) + _day(config, draws) * DAY
    # The mean of two clocks: noon is busier than midnight.
    clock = F.shiftright(draws.below(_CLOCK, F.col(_VISIT), DAY) + draws.below(_OTHER_CLOCK, F.col(_VISIT), DAY), 1)
    begin = start + F.when(F.col(_IS_MIDNIGHT), DAY - F.col(_CUT) * F.col(_STEP)).otherwise(clock)
    time = F.when(is_huge, _huge_time(config)).otherwise(begin + _offset(draws))
    return steps.withColumns({CUSTOMER: user.otherwise(F.concat(F.lit("u"), rank)), TIME: time}).drop(
        _VISIT, _POSITION, _SIZE, _STEP, _CUT, _SILENCE, _IS_MIDNIGHT
    )


def _with_visits(numbers: DataFrame) -> DataFrame:
    """Add the number of the visit, the place of the event in it from 0, and its size."""
    place = F.pmod(F.col(NUMBER), F.lit(_BLOCK))
    index, first, size = F.lit(0), F.lit(0), F.lit(VISIT_SIZES[0])
    for number, begin in list(enumerate(_FIRSTS))[1:]:
        index = F.when(place >= begin, number).otherwise(index)
        first = F.when(place >= begin, begin).otherwise(first)
        size = F.when(place >= begin, VISIT_SIZES[number]).otherwise(size)
    block = F.floor(F.col(NUMBER) / _BLOCK)
    return numbers.withColumns({_VISIT: block * len(VISIT_SIZES) + index, _POSITION: place - first, _SIZE: size})


def _with_steps(visits: DataFrame, config: GeneratorConfig, draws: Draws) -> DataFrame:
    """Add the step, the position of the special silence (null where there is none) and its length, all µs."""
    gap_us = config.session_gap // timedelta(microseconds=1)
    visit, kind = F.col(_VISIT), draws.uniform(_KIND, F.col(_VISIT))
    midnight = config.boundaries + config.midnights
    third = config.boundaries / 3
    pause = gap_us + SECOND + draws.below(_PAUSE, visit, 8 * gap_us - SECOND)
    silence = (
        F.when(kind < third, gap_us - 1)
        .when(kind < 2 * third, gap_us)
        .when(kind < config.boundaries, gap_us + 1)
        .when(kind < midnight, F.col(_STEP))
        .when(kind < midnight + config.pauses, pause)
    )
    stepped = visits.withColumn(_STEP, SECOND + draws.below(_STEPS, visit, gap_us // 6 - SECOND))
    special = stepped.withColumn(_SILENCE, F.when(F.col(_SIZE) > 1, silence))
    cut = 1 + draws.below(_CUTS, visit, F.greatest(F.col(_SIZE) - 1, F.lit(1)).cast("bigint"))
    is_midnight = (F.col(_SIZE) > 1) & (kind >= config.boundaries) & (kind < midnight)
    return special.withColumns({_CUT: F.when(F.col(_SILENCE).isNotNull(), cut), _IS_MIDNIGHT: is_midnight})


def _offset(draws: Draws) -> Column:
    """µs from the visit's begin. The two events around the special silence lie exactly on their steps."""
    position, step, cut = F.col(_POSITION), F.col(_STEP), F.col(_CUT)
    jitter = F.when(F.coalesce(position.between(cut - 1, cut), F.lit(False)), 0).otherwise(
        draws.below(_JITTER, F.col(NUMBER), step)
    )
    return position * step + jitter + F.when(position >= cut, F.col(_SILENCE) - step).otherwise(0)


def _day(config: GeneratorConfig, draws: Draws) -> Column:
    """The day on which the visit begins, from 0."""
    visit = F.col(_VISIT)
    if config.heavy_day == 0 or config.days == 1:
        return draws.below(_DAY, visit, config.days)
    middle = config.days // 2
    other = F.pmod(middle + 1 + draws.below(_DAY, visit, config.days - 1), F.lit(config.days))
    # Its own draw: the day's own would let the heavy day's visits share a residue.
    return F.when(draws.uniform(-_DAY, visit) < config.heavy_day, middle).otherwise(other)


def _huge_time(config: GeneratorConfig) -> Column:
    """The events of the huge session, evenly over at most the middle day, never further apart than half of G."""
    gap_us = config.session_gap // timedelta(microseconds=1)
    step = max(1, min(gap_us // 2, DAY // max(config.huge_session, 1)))
    begin = config.start_us + config.days // 2 * DAY
    return F.lit(begin) + (F.col(NUMBER) - config.counts.heavy_user) * step

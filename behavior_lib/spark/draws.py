"""Randomness as a function of a number: the same number draws the same, on any machine and in any partition."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pyspark.sql import Column
from pyspark.sql import functions as F

_DOUBLE_STEPS = 2**53


@dataclass(frozen=True)
class Draws:
    """Draws keyed by a seed and by what each is for, so that two draws for one number know nothing of each other."""

    seed: int

    def below(self, purpose: int, number: Column, limit: int | Column) -> Column:
        """A bigint in [0, limit)."""
        bound = F.lit(limit).cast("bigint") if isinstance(limit, int) else limit
        return F.pmod(F.xxhash64(_long(self.seed), _long(purpose), number), bound)

    def uniform(self, purpose: int, number: Column) -> Column:
        """A double in [0, 1)."""
        return self.below(purpose, number, _DOUBLE_STEPS) / F.lit(float(_DOUBLE_STEPS))

    def zipf(self, purpose: int, number: Column, size: int, exponent: float) -> Column:
        """A rank in [1, size], smaller ones more often: the inverse of a power law's distribution, rounded down."""
        uniform, end = self.uniform(purpose, number), float(size + 1)
        if exponent == 1:
            place = F.pow(F.lit(end), uniform)
        else:
            power = 1 - exponent
            place = F.pow(1 + uniform * (end**power - 1), F.lit(1 / power))
        return F.least(F.floor(place).cast("bigint"), _long(size))


@dataclass(frozen=True)
class Spread:
    """The numbers below `size` in another order, evenly strewn: multiples of an irrational share of it, modulo size.

    Membership of exactly n numbers is `place(number) < n`; two spreads with other shares know nothing of each other.
    """

    size: int
    share: float
    seed: int

    def place(self, number: Column) -> Column:
        """A number below `size`, another one for each number below it."""
        step = max(1, int(self.size * self.share))
        while math.gcd(step, self.size) != 1:
            step += 1
        return F.pmod(number * _long(step) + _long(self.seed * step % self.size), _long(self.size))


def _long(value: int) -> Column:
    return F.lit(value).cast("bigint")

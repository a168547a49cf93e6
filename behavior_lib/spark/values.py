"""Numbers of events as sums and models can take them."""

from __future__ import annotations

import math

import numpy as np
from pyspark.sql import Column
from pyspark.sql import functions as F

from behavior_lib.tables import EVENTS

# Of `to_json`, which writes milliseconds by default.
EXACT_TIMES = {
    "timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX",
    "timestampNTZFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS",
}
_EXACT = "decimal(38,9)"
_MOST = float(np.finfo(np.float32).max)


def finite(number: Column) -> Column:
    """A double; null where it is none, or not a number, or infinite."""
    # Spark takes NaN for greater than all others.
    return F.when(F.abs(number) < F.lit(math.inf), number)


def exact_value() -> Column:
    """EVENTS.value as a decimal, for a sum of doubles depends on the order of its terms; null where it is too large."""
    return F.expr(f"try_cast({EVENTS.value} as {_EXACT})")


def filled_value() -> Column:
    """EVENTS.value as a double that a float can hold; 0 where it is null or not a number."""
    known = F.nanvl(F.coalesce(EVENTS.value, F.lit(0.0)), F.lit(0.0))
    return F.least(F.greatest(known, F.lit(-_MOST)), F.lit(_MOST))

"""What kind of values a column holds."""

from __future__ import annotations

from enum import Enum

from behavior_lib.profile.facts import ColumnFacts
from behavior_lib.profile.names import names_an_id
from behavior_lib.profile.times import BY_NAME

NEARLY_ALL = 0.99
_MOSTLY = 0.9
_FEW, _SOME, _RARE = 50, 1000, 0.05
_WORDY, _LONG = 0.3, 40


class Kind(str, Enum):
    """The kinds, as they are shown."""

    empty = "empty"
    nested = "nested"
    time = "time"
    id = "id"
    integer = "integer"
    decimal = "decimal"
    boolean = "boolean"
    category = "category"
    text = "free text"


def kind_of(column: ColumnFacts) -> Kind:
    """The kind that fits nearly all values. A number whose name tells things apart is an id."""
    present = column.present
    if present == 0:
        return Kind.empty
    if column.type.startswith(("struct", "array", "map")):
        return Kind.nested
    if column.type.startswith(("timestamp", "date")) or time_format(column) is not None:
        return Kind.time
    if column.type == "boolean":
        return Kind.boolean
    if column.numbers >= NEARLY_ALL * present:
        # 18075.0 is how a number with a missing neighbour is written by tools that know no missing integer.
        is_whole = column.integers + column.whole >= NEARLY_ALL * present
        if is_whole and names_an_id(column.name):
            return Kind.id
        return Kind.integer if column.integers >= NEARLY_ALL * present else Kind.decimal
    if names_an_id(column.name):
        return Kind.id
    return _kind_of_text(column)


def time_format(column: ColumnFacts) -> str | None:
    """The name of the format that reads the most values of a text or number, where it reads most of them."""
    if not column.times:
        return None
    best = max(column.times, key=lambda name: (column.times[name], -list(BY_NAME).index(name)))
    return best if column.times[best] >= _MOSTLY * column.present else None


def is_ambiguous(column: ColumnFacts) -> bool:
    """Whether two formats read the same number of values: day and month cannot be told apart."""
    counts = sorted(column.times.values(), reverse=True)
    return len(counts) > 1 and counts[0] == counts[1] > 0


def _kind_of_text(column: ColumnFacts) -> Kind:
    if column.distinct <= _FEW or (column.distinct <= _SOME and column.distinct <= _RARE * column.present):
        return Kind.category
    if column.spaced >= _WORDY * column.present or column.mean_length > _LONG:
        return Kind.text
    return Kind.id

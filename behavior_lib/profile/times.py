"""Texts and numbers that are times: their patterns, and the Spark SQL that reads them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from behavior_lib.profile.names import TIME, hint

_DAY, _MONTH = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])"
_DATES = {
    "yyyy/M/d": rf"\d{{4}}/{_MONTH}/{_DAY}",
    "M/d/yyyy": rf"{_MONTH}/{_DAY}/\d{{4}}",
    "d/M/yyyy": rf"{_DAY}/{_MONTH}/\d{{4}}",
    "d.M.yyyy": rf"{_DAY}\.{_MONTH}\.\d{{4}}",
    "d-M-yyyy": rf"{_DAY}-{_MONTH}-\d{{4}}",
    "d-MMM-yyyy": rf"{_DAY}-[A-Z][a-z]{{2}}-\d{{4}}",
}
_CLOCKS = {
    "": "",
    " H:mm": r" \d{1,2}:\d\d",
    " H:mm:ss": r" \d{1,2}:\d\d:\d\d",
    " h:mm a": r" \d{1,2}:\d\d [AP]M",
    " h:mm:ss a": r" \d{1,2}:\d\d:\d\d [AP]M",
}
_ISO = r"\d{4}-\d\d-\d\d(?:[T ]\d{1,2}:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?)?"
# 2000 to 2096: a ten-digit number outside is no second that anyone logged.
_SECONDS = r"(?:9[4-9]\d{8}|[1-3]\d{9})"
_DIGITS = r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
# The head of the files must nearly always have the pattern; the whole of them is then counted.
_SHARE = 0.9


@dataclass(frozen=True)
class TimeFormat:
    """One way to write a time. name: what a person is told. expression: Spark SQL, `{}` for the column.

    is_number: also looks like a plain number, so that the name of the column must say that it is a time.
    """

    name: str
    shape: str
    expression: str
    is_number: bool = False


def _epoch(name: str, shape: str, divided: str) -> TimeFormat:
    # A decimal, because timestamp_millis fails the whole job on a number that is too great.
    return TimeFormat(name, shape, f"try_cast(try_cast({{}} as decimal(20, 6)){divided} as timestamp)", True)


FORMATS: tuple[TimeFormat, ...] = (
    TimeFormat("ISO 8601", _ISO, "try_to_timestamp({})"),
    *(
        TimeFormat(date + clock, shape + tail, f"try_to_timestamp({{}}, '{date}{clock}')")
        for date, shape in _DATES.items()
        for clock, tail in _CLOCKS.items()
    ),
    _epoch("epoch seconds", _SECONDS, ""),
    _epoch("epoch seconds.fraction", rf"{_SECONDS}\.\d+", ""),
    _epoch("epoch milliseconds", rf"{_SECONDS}\d{{3}}", " / 1000"),
    _epoch("epoch microseconds", rf"{_SECONDS}\d{{6}}", " / 1000000"),
    TimeFormat("yyyyMMdd", _DIGITS, "try_to_timestamp({}, 'yyyyMMdd')", True),
    TimeFormat(
        "yyyyMMddHHmmss", rf"{_DIGITS}(?:[01]\d|2[0-3])[0-5]\d[0-5]\d", "try_to_timestamp({}, 'yyyyMMddHHmmss')", True
    ),
)
BY_NAME = {format_.name: format_ for format_ in FORMATS}


def likely_formats(name: str, values: Sequence[str]) -> list[TimeFormat]:
    """The formats that nearly all of a column's first values have: two where day and month cannot be told apart."""
    if not values:
        return []
    named = hint(name, TIME) is not None
    fitting = []
    for format_ in FORMATS:
        shape = re.compile(format_.shape)
        count = sum(shape.fullmatch(value.strip()) is not None for value in values)
        if count >= _SHARE * len(values) and (named or not format_.is_number):
            fitting.append(format_)
    return fitting


def has_offset(value: str) -> bool:
    """Whether an ISO time says how far from UTC it is."""
    return re.search(r":\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)$", value.strip()) is not None

"""Numbers and times the way a person reads them."""

from __future__ import annotations

from datetime import date, datetime


def count(value: float) -> str:
    """A whole number with thousands separated: 1,469,307."""
    return f"{value:,.0f}"


def short_count(value: float) -> str:
    """A number for an axis: 950, 12k, 1.5M, 3B."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def share(part: float, whole: float) -> str:
    """A percentage that never says 0 % of something that is there, nor 100 % of what is not all."""
    if not whole:
        return "–"
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return "< 0.1 %"
    if 99.9 < percent < 100:
        return "> 99.9 %"
    return f"{percent:.1f} %" if percent not in (0, 100) else f"{percent:.0f} %"


def metric(value: float) -> str:
    """A figure between 0 and 1, to four digits."""
    return f"{value:.4f}"


def seconds(value: float) -> str:
    """A duration: 0.4 s, 12 s, 3 min 20 s, 2 h 5 min."""
    if value < 10:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def day(value: date | datetime) -> str:
    """A day: 1 Nov 2017."""
    return f"{value.day} {value:%b %Y}"


def moment(value: datetime) -> str:
    """A time to the minute: 1 Nov 2017, 04:01."""
    return f"{day(value)}, {value:%H:%M}"


def plural(number: int, one: str, many: str | None = None) -> str:
    """A count and its noun: 1 session, 2 sessions."""
    return f"{count(number)} {one if number == 1 else many or one + 's'}"

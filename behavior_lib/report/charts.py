"""Charts as percentages of a box: the template draws them with HTML and SVG that stretch to any width."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

from behavior_lib.report import numbers
from behavior_lib.report.data import Batch, Epoch

_MOST_COLUMNS = 120


@dataclass(frozen=True)
class Tick:
    """A place on an axis, in percent from its start, and what stands there."""

    at: float
    text: str


@dataclass(frozen=True)
class Column:
    """One column. height: percent of the box. tip: what a reader is told who points at it."""

    label: str
    height: float
    amount: str
    tip: str


@dataclass(frozen=True)
class Columns:
    """Columns side by side. marks: lines across the chart, such as a split's cut. unit: what one column stands for."""

    columns: tuple[Column, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    marks: tuple[Tick, ...]
    unit: str


@dataclass(frozen=True)
class Point:
    """A point of a line, in percent from the left and from the top."""

    x: float
    y: float
    tip: str


@dataclass(frozen=True)
class Line:
    """A line through points, with the best of them."""

    title: str
    points: tuple[Point, ...]
    best: Point
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]

    @property
    def path(self) -> str:
        """The line as SVG path data in a box of 100 by 100."""
        return "M" + " L".join(f"{point.x} {point.y}" for point in self.points)


@dataclass(frozen=True)
class Part:
    """A part of a stacked bar, in percent of its length."""

    kind: str
    percent: float
    tip: str


def over_time(events_by_day: Mapping[date, int], cuts: Mapping[str, datetime]) -> Columns:
    """Events by day, or by week or month where days would be too many; the unit says which."""
    first, last = min(events_by_day), max(events_by_day)
    days = (last - first).days + 1
    unit = "day" if days <= _MOST_COLUMNS else "week" if days <= 7 * _MOST_COLUMNS else "month"
    starts = _starts(first, last, unit)
    sums: Counter[date] = Counter()
    for day, events in events_by_day.items():
        sums[_start_of(day, unit)] += events
    top, y_ticks = _axis(max(sums.values()))
    columns = tuple(
        Column(
            numbers.day(start),
            round(100 * sums[start] / top, 2),
            numbers.count(sums[start]),
            f"{_period(start, unit)}: {numbers.plural(sums[start], 'event')}",
        )
        for start in starts
    )
    marks = tuple(
        Tick(_position(cut.date(), starts, unit), f"{name} from {numbers.day(cut)}")
        for name, cut in sorted(cuts.items(), key=lambda item: item[1])
        if starts[0] <= cut.date() <= last
    )
    return Columns(columns, _time_ticks(starts), y_ticks, marks, unit)


def binned(counts: Mapping[int, int]) -> tuple[tuple[str, int], ...]:
    """How often each value occurs, as label and number: single values where few, else ranges that grow.

    Begins at the first bin that holds something; empty bins after it stay.
    """
    highest = max(counts)
    edges = _edges(highest)
    sums = [0] * len(edges)
    for value, occurrences in counts.items():
        sums[_bin_of(value, edges)] += occurrences
    start = min(index for index, occurrences in enumerate(sums) if occurrences)
    return tuple(zip(_labels(edges, highest), sums, strict=True))[start:]


def training(epochs: Sequence[Epoch], measure: str, title: str) -> Line | None:
    """A curve over the epochs. measure: loss (lower is better) or validation. None where nothing was recorded."""
    known = [(epoch.number, getattr(epoch, measure)) for epoch in epochs]
    values = [(number, value) for number, value in known if value is not None and math.isfinite(value)]
    if not values:
        return None
    low, high, y_ticks = _range([value for _, value in values])
    first, last = values[0][0], values[-1][0]
    points = tuple(
        Point(
            round(100 * (number - first) / (last - first), 2) if last > first else 50.0,
            round(100 * (high - value) / (high - low), 2),
            f"Epoch {number}: {title} {value:.4f}",
        )
        for number, value in values
    )
    chosen = min(values, key=lambda item: item[1] if measure == "loss" else -item[1])
    step = max(1, math.ceil(len(values) / 10))
    x_ticks = tuple(Tick(point.x, str(number)) for point, (number, _) in zip(points, values, strict=True))[::step]
    return Line(title, points, points[values.index(chosen)], x_ticks, y_ticks)


def flow(batch: Batch) -> tuple[Part, ...]:
    """Where the rows of a batch went, as the parts of a bar."""
    parts = ("accepted", "duplicate", "quarantined", "late")
    return tuple(
        Part(
            kind,
            round(100 * getattr(batch, kind) / batch.read, 3),
            f"{numbers.count(getattr(batch, kind))} {kind}, {numbers.share(getattr(batch, kind), batch.read)}",
        )
        for kind in parts
        if batch.read and getattr(batch, kind)
    )


def median(counts: Mapping[int, int]) -> float:
    """The median of values that come with how often each occurs."""
    total, seen = sum(counts.values()), 0
    below: int | None = None
    for value in sorted(counts):
        seen += counts[value]
        if below is not None:
            return (below + value) / 2
        if 2 * seen == total:
            below = value
        elif 2 * seen > total:
            return float(value)
    raise ValueError("no value")


def _axis(highest: float, wanted: int = 4) -> tuple[float, tuple[Tick, ...]]:
    """The top of an axis from 0 that ends at a round number, and its ticks."""
    step = _round_step(highest / wanted)
    if highest < wanted:
        step = max(1.0, step)
    steps = max(1, math.ceil(highest / step))
    return step * steps, tuple(Tick(100 * n / steps, numbers.short_count(step * n)) for n in range(steps + 1))


def _range(values: Sequence[float]) -> tuple[float, float, tuple[Tick, ...]]:
    """An axis around values that need not begin at 0."""
    low, high = min(values), max(values)
    step = _round_step((high - low) / 4 or abs(high) / 4 or 1.0)
    first, last = math.floor(low / step), math.ceil(high / step)
    last = max(last, first + 1)
    digits = max(0, -int(Decimal(f"{step:.2g}").normalize().as_tuple().exponent))
    ticks = tuple(Tick(100 * (n - first) / (last - first), f"{n * step:.{digits}f}") for n in range(first, last + 1))
    return first * step, last * step, ticks


def _round_step(rough: float) -> float:
    size = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    return size * next(factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough * 0.999999)


def _start_of(day: date, unit: str) -> date:
    if unit == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if unit == "month" else day


def _starts(first: date, last: date, unit: str) -> list[date]:
    """The starts of all periods, the empty ones too."""
    starts = [_start_of(first, unit)]
    while (following := _next(starts[-1], unit)) <= last:
        starts.append(following)
    return starts


def _next(start: date, unit: str) -> date:
    if unit == "month":
        return (start.replace(day=28) + timedelta(days=4)).replace(day=1)
    return start + timedelta(days=7 if unit == "week" else 1)


def _period(start: date, unit: str) -> str:
    return {"day": numbers.day(start), "week": f"Week from {numbers.day(start)}", "month": f"{start:%B %Y}"}[unit]


def _position(day: date, starts: Sequence[date], unit: str) -> float:
    """Where a day lies across the columns, in percent."""
    index = max(n for n, start in enumerate(starts) if start <= day)
    inside = (day - starts[index]).days / (_next(starts[index], unit) - starts[index]).days
    return round(100 * (index + inside) / len(starts), 2)


def _time_ticks(starts: Sequence[date], wanted: int = 6) -> tuple[Tick, ...]:
    step = math.ceil(len(starts) / wanted)
    shown = [(index, start) for index, start in enumerate(starts) if index % step == 0]
    return tuple(Tick(round(100 * (index + 0.5) / len(starts), 2), numbers.day(start)) for index, start in shown)


def _edges(highest: int) -> list[int]:
    """Lower ends of the bins: single values up to 12, beyond that 1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, …"""
    if highest <= 12:
        return list(range(highest + 1))
    edges = [0, 1, 2, 3, 5, 7]
    while True:
        for base in (10, 15, 20, 30, 50, 70):
            edge = base * 10 ** ((len(edges) - 6) // 6)
            if edge > highest:
                return edges
            edges.append(edge)


def _bin_of(value: int, edges: Sequence[int]) -> int:
    return max(index for index, edge in enumerate(edges) if edge <= value)


def _labels(edges: Sequence[int], highest: int) -> list[str]:
    ends = [*(edge - 1 for edge in edges[1:]), highest]
    return [
        numbers.count(start) if start >= end else f"{numbers.count(start)}–{numbers.count(end)}"
        for start, end in zip(edges, ends, strict=True)
    ]

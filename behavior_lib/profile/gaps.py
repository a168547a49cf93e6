"""The silences between a user's events, and where one visit ends and the next begins."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

FALLBACK = "30m"
_NAMES = (
    "1s", "3s", "10s", "30s", "1m", "3m", "5m", "10m", "15m", "30m", "1h", "2h", "4h", "8h", "16h", "1d", "2d", "4d",
    "7d", "14d", "30d", "90d",
)  # fmt: skip
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
# Upper bounds of the histogram's places, seconds; what is longer than the last lies in a place of its own.
EDGES: tuple[int, ...] = tuple(int(name[:-1]) * _SECONDS[name[-1]] for name in _NAMES)
# A valley is believed where it is no deeper inside a visit than this, and no later.
_FIRST, _LAST = _NAMES.index("1m"), _NAMES.index("8h")
_MIN_GAPS = 100
_MIN_SHARE = 0.1
_DEPTH = 0.5


@dataclass(frozen=True)
class GapSuggestion:
    """session_gap as the YAML says it, and how it was found."""

    gap: str
    reason: str


def place_name(place: int) -> str:
    """What a place of the histogram is called."""
    if place == 0:
        return f"up to {_NAMES[0]}"
    return f"over {_NAMES[-1]}" if place == len(_NAMES) else f"{_NAMES[place - 1]} to {_NAMES[place]}"


def suggest_gap(gaps: Mapping[int, int]) -> GapSuggestion:
    """The lower bound of the emptiest place between the peak of short silences and the peak of long ones.

    Places differ in width, so what is compared is silences per octave. Without two clear peaks, 30m, and why.
    """
    total = sum(gaps.values())
    if total < _MIN_GAPS:
        return GapSuggestion(FALLBACK, f"the usual {FALLBACK}: only {total:,} silences to look at")
    heights = [gaps.get(place, 0) / _octaves(place) for place in range(len(EDGES))]
    best: tuple[float, int, float] | None = None
    for valley in range(_FIRST + 1, _LAST + 1):
        before, after = max(heights[:valley]), max(heights[valley + 1 :])
        is_deep = heights[valley] <= _DEPTH * min(before, after)
        shares = sum(gaps.get(place, 0) for place in range(valley)) / total
        if is_deep and _MIN_SHARE <= shares <= 1 - _MIN_SHARE:
            candidate = (heights[valley] / min(before, after), valley, shares)
            best = candidate if best is None else min(best, candidate)
    if best is None:
        return GapSuggestion(FALLBACK, f"the usual {FALLBACK}: the silences show no valley between short and long ones")
    valley, share = best[1], best[2]
    where = f"fewest silences per octave between {_NAMES[valley - 1]} and {_NAMES[valley]}"
    return GapSuggestion(_NAMES[valley - 1], f"valley of the histogram: {where}, {share:.0%} are shorter")


def _octaves(place: int) -> float:
    """Width of a place on a logarithmic axis."""
    low = EDGES[place - 1] if place else EDGES[0] / 2
    return math.log2(EDGES[place] / low)

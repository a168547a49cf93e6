"""The map of the items as the template and its script need it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from behavior_lib.report import numbers
from behavior_lib.report.data import ItemVectors
from behavior_lib.report.projection import project

WIDTH = 1000
_COLOURS = 8
_OTHER, _UNKNOWN = "all others", "not known"


@dataclass(frozen=True)
class Group:
    """One entry of the legend. colour: its number; the last one is for all groups that got none of their own."""

    name: str
    colour: int
    items: int


@dataclass(frozen=True)
class Dot:
    """One item on the map. x, y: place in a square of WIDTH."""

    x: int
    y: int
    colour: int


@dataclass(frozen=True)
class ItemMap:
    """Dots in the order of the items, and what the script shows of each: name, group, events."""

    dots: tuple[Dot, ...]
    groups: tuple[Group, ...]
    labels: tuple[tuple[str, str, str], ...]
    group_title: str


def draw_map(items: ItemVectors) -> ItemMap | None:
    """Place and colour the items. The largest groups get a colour each. None where there are fewer than three items."""
    if len(items.ids) < 3:
        return None
    named = [group or _UNKNOWN for group in items.groups]
    sizes = Counter(named)
    ranked = sorted(sizes, key=lambda name: (-sizes[name], name))
    own = ranked if len(ranked) <= _COLOURS else ranked[: _COLOURS - 1]
    colour = {name: number for number, name in enumerate(own)}
    rest = sum(sizes[name] for name in ranked if name not in colour)
    groups = [Group(name, number, sizes[name]) for name, number in colour.items()]
    if rest:
        groups.append(Group(_OTHER, _COLOURS - 1, rest))
    places = (project(items.vectors) * WIDTH).round().astype(int).tolist()
    dots = tuple(
        Dot(x, WIDTH - y, colour.get(group, _COLOURS - 1)) for (x, y), group in zip(places, named, strict=True)
    )
    labels = tuple(
        (name, group, numbers.plural(int(events), "event"))
        for name, group, events in zip(items.names, items.groups, items.events, strict=True)
    )
    return ItemMap(dots, tuple(groups), labels, items.group_title)

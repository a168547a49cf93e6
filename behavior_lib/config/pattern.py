"""Regular expressions of log lines: which named groups a Java pattern has."""

from __future__ import annotations

import re

# What can stand before a group's bracket: an escape, a quotation, or a class of characters (which may hold another).
_NO_GROUP = r"\\Q.*?(?:\\E|$)|\\.|\[\^?\]?(?:\\.|\[(?:\\.|[^\]\\])*\]|[^\]\\\[])*\]"
_TOKEN = re.compile(rf"{_NO_GROUP}|\(\?<(?P<name>[a-zA-Z][a-zA-Z0-9]*)>|(?P<plain>\((?!\?))", re.DOTALL)


def named_groups(pattern: str) -> dict[str, int]:
    """Name → number of each named group `(?<name>…)`, in the order in which they stand."""
    groups: dict[str, int] = {}
    number = 0
    for token in _TOKEN.finditer(pattern):
        if token["name"] or token["plain"]:
            number += 1
        if token["name"]:
            groups[token["name"]] = number
    return groups

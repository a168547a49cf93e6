"""Durations as people write them: 30m, 1h, 45s, 2d."""

from __future__ import annotations

import re
from datetime import timedelta

from behavior_lib.errors import ConfigError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_duration(text: str, where: str) -> timedelta:
    """`30m` → 30 minutes. Raises ConfigError where the text is no number with a unit of s, m, h or d."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if match is None:
        raise ConfigError("not a duration", where=where, value=text, mend="write 30m, 1h, 45s or 2d")
    return timedelta(**{_UNITS[match[2]]: float(match[1])})

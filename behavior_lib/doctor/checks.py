"""One check and what it found."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from behavior_lib.errors import BehaviorError


@dataclass(frozen=True)
class Check:
    """One thing to look at.

    look: returns what it saw in a few words, or raises. mend: what to type where it raises anything but a
    BehaviorError, whose sentence names its own mend.
    """

    name: str
    look: Callable[[], str]
    mend: str


@dataclass(frozen=True)
class Finding:
    """The outcome of one check. sentence: what was seen, or what is wrong and how to mend it."""

    name: str
    ok: bool
    sentence: str
    seconds: float


def examine(check: Check) -> Finding:
    """Run one check. Whatever it raises becomes a sentence; nothing is raised."""
    started = time.monotonic()
    try:
        ok, sentence = True, check.look()
    except BehaviorError as problem:
        ok, sentence = False, str(problem)
    except Exception as error:
        ok, sentence = False, f"{_first_line(error)}; {check.mend}"
    return Finding(check.name, ok, sentence, round(time.monotonic() - started, 3))


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__

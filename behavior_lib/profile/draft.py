"""The first YAML of a source, as text: what was found, and beside each line why."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from behavior_lib.profile.facts import EventFacts, RowFacts, Trial
from behavior_lib.profile.gaps import GapSuggestion
from behavior_lib.profile.guesses import Guesses, quoted
from behavior_lib.profile.sniff import Format
from behavior_lib.tables import EVENTS

_TEXTS = ("json", "csv")
_MAX_ALLOWED = 20
# An outlier of a heavy tail lies this many quartile ranges above the third quartile.
_TAIL = 10.0
# More than so many events of one user in a day, and more than so many times the 95th percentile of a user's events of
# all days, is hardly a person.
_ROBOT_EVENTS, _ROBOT_TIMES = 1000, 20


@dataclass(frozen=True)
class Rule:
    """One rule: its YAML mapping, and why it is suggested."""

    content: Mapping[str, Any]
    reason: str


@dataclass(frozen=True)
class Origin:
    """Where the rows come from: the source's name, its path as the YAML says it, its format and raw columns."""

    name: str
    path: str
    format: Format
    columns: Sequence[str]
    timezone: str = "UTC"


def suggest_rules(events: EventFacts, guesses: Guesses) -> list[Rule]:
    """Rules that no row of these files breaks, so that tomorrow's surprise is seen; the others only flag."""
    rules = []
    if EVENTS.item_id in guesses.found and not events.without_item:
        content = {"id": "item_missing", "required": True, "column": EVENTS.item_id, "else": "quarantine"}
        rules.append(Rule(content, "no row lacks one"))
    if EVENTS.value in guesses.found and events.values:
        rules += _value_rules(events)
    if guesses.found[EVENTS.event_type].columns and len(events.types) <= _MAX_ALLOWED:
        content = {"id": "type_unknown", "allowed": sorted(events.types), "column": EVENTS.event_type, "else": "flag"}
        rules.append(Rule(content, f"the {len(events.types)} types of these files"))
    bound = max(_ROBOT_EVENTS, int(_ROBOT_TIMES * events.per_user_p95))
    if events.busiest_day > bound:
        reason = (
            f"one user has {events.busiest_day:,} events in a day; bound: {_ROBOT_EVENTS:,}, or {_ROBOT_TIMES} times"
        )
        rules.append(Rule({"id": "robot", "robot": bound, "else": "flag"}, f"{reason} a user's 95th percentile"))
    return rules


def _value_rules(events: EventFacts) -> list[Rule]:
    rules = []
    low, high = events.value_low or 0.0, events.value_high or 0.0
    if not events.without_value:
        content = {"id": "value_missing", "required": True, "column": EVENTS.value, "else": "quarantine"}
        rules.append(Rule(content, "every row has one"))
    if 1 < events.distinct_values <= _MAX_ALLOWED:
        content = {"id": "value_range", "range": [low, high], "column": EVENTS.value, "else": "flag"}
        rules.append(Rule(content, f"{events.distinct_values} different values, like a rating"))
    elif not events.negative:
        rules.append(Rule({"id": "value_negative", "keep_if": "value >= 0", "else": "quarantine"}, "none is negative"))
    if events.value_quartiles is not None and events.distinct_values > _MAX_ALLOWED:
        first, median, third = events.value_quartiles
        if third > first and high > third + _TAIL * (third - first):
            content = {
                "id": "value_outlier",
                "outlier": "iqr",
                "column": EVENTS.value,
                "threshold": _TAIL,
                "else": "flag",
            }
            rules.append(
                Rule(content, f"heavy tail: median {median:g}, three quarters below {third:g}, highest {high:g}")
            )
    return rules


def head(rows: RowFacts, trial: Trial) -> list[str]:
    """What the draft was made from, and what ingest would make of the same rows."""
    files = "1 file" if rows.files == 1 else f"{rows.files:,} files"
    lines = [
        f"First draft by `behavior profile` from {rows.rows:,} rows in {files}; every guess says why.",
        f"Of these rows ingest would accept {trial.accepted:,}; {trial.duplicate:,} have an event_id that came before.",
    ]
    lines += [f"{count:,} would go into quarantine by {rules}." for rules, count in trial.quarantined.items()]
    return lines


def write(
    origin: Origin, guesses: Guesses, key: tuple[Sequence[str], str], gap: GapSuggestion, rules: Sequence[Rule],
    head: Sequence[str] = (),
) -> str:  # fmt: skip
    """The YAML. key: its columns, and how they were found. head: lines of comment for the top."""
    lines = [f"# {line}" for line in head]
    lines += [f"name: {_flow(origin.name)}", f"format: {_flow(origin.format.name)}", f"path: {_flow(origin.path)}"]
    if origin.format.options:
        lines.append(f"options: {_flow(dict(origin.format.options))}")
    if origin.format.name in _TEXTS:
        declared = ", ".join(f"{quoted(name)} string" for name in origin.columns)
        lines += ["# All as text, cast below: a value that is no number then costs its rule and not the row."]
        lines.append(f"schema: {_flow(declared)}")
    zone = "times say their offset" if guesses.has_offset else "times without an offset are taken as this zone's: check"
    lines += [f"timezone: {_flow(origin.timezone)}   # {zone}", "columns:"]
    for name, found in guesses.found.items():
        lines += [f"  # {found.reason}", f"  {name}: {_flow(found.expression)}"]
    columns, reason = key
    if EVENTS.event_id not in guesses.found:
        lines += [f"# {reason}", f"key: {_flow(list(columns))}"]
    unused = "; sessions follow session_key where an event has one" if EVENTS.session_key in guesses.found else ""
    lines.append(f"session_gap: {_flow(gap.gap)}   # {gap.reason}{unused}")
    if rules:
        lines.append("rules:")
        for rule in rules:
            lines += [f"  # {rule.reason}", f"  - {_flow(dict(rule.content))}"]
    return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    """A value on one line of YAML."""
    if isinstance(value, str) and value.startswith("'"):
        # A text that SQL quotes: YAML's own single quotes would double each of SQL's.
        return json.dumps(value, ensure_ascii=False)
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")

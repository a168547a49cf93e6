"""Cleaning rules as Spark expressions: each says whether a row breaks it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce

from pyspark.sql import Column
from pyspark.sql import functions as F

from behavior_lib.config.source import Policy, RuleConfig, SourceConfig
from behavior_lib.spark.elements import NO_ELEMENT
from behavior_lib.spark.raw_files import UNREADABLE
from behavior_lib.tables import EVENTS

LATE, CONFLICT = "late", "conflict"
MAX_ID_LENGTH = 1024
OLDEST = "1970-01-01"
FUTURE_TOLERANCE = timedelta(days=1)
_IDS = (EVENTS.event_id, EVENTS.user_id, EVENTS.item_id, EVENTS.event_type, EVENTS.session_key)
_REQUIRED_IDS = (EVENTS.event_id, EVENTS.user_id, EVENTS.event_type)


@dataclass(frozen=True)
class Rule:
    """A rule ready to judge rows. `broken` is never null.

    suspect: a test that rules share: true wherever one of them is broken, and cheaper than to test each.
    """

    id: str
    policy: Policy
    broken: Column
    suspect: Column | None = None


def built_in_rules(accepted_at: datetime, source: SourceConfig) -> list[Rule]:
    """What every event of the source must meet. accepted_at: when the batch was first accepted, UTC.

    An id that this library makes of a key, and one that the source has not, need no test.
    """
    time = F.col(EVENTS.event_time)
    ids = [name for name in _IDS if name in source.columns]
    known = [
        ("unreadable_row", F.col(UNREADABLE).isNotNull()),
        ("time_required", time.isNull()),
        ("time_before_1970", time < F.lit(OLDEST).cast("timestamp")),
        ("time_in_future", time > F.lit(accepted_at + FUTURE_TOLERANCE)),
    ]
    known += [(f"{name}_required", _is_absent(name)) for name in _REQUIRED_IDS if name in ids]
    known += [(f"{name}_too_long", F.length(name) > MAX_ID_LENGTH) for name in ids]
    rules = [Rule(name, Policy.quarantine, _never_null(broken)) for name, broken in known]
    odd = [(f"{name}_control_character", _has_control_character(F.col(name))) for name in ids]
    any_odd = _has_control_character(F.concat_ws("", *ids))
    return rules + [Rule(name, Policy.quarantine, _never_null(broken), any_odd) for name, broken in odd]


def row_rules(source: SourceConfig) -> list[Rule]:
    """The source's rules that one row alone decides."""
    own = [Rule("no_element", Policy.quarantine, F.col(NO_ELEMENT))] if source.explode is not None else []
    return own + [Rule(rule.id, rule.policy, _never_null(_broken(rule))) for rule in source.rules if is_row_rule(rule)]


def is_row_rule(rule: RuleConfig) -> bool:
    """Whether one row alone decides; the others need the batch's statistics."""
    return rule.outlier is None and rule.robot is None


def clipped(rule: RuleConfig, value: Column, low: Column, high: Column) -> Column:
    """`value` moved to the nearer bound where the rule's policy is clip; a null stays null."""
    return F.when(value.isNotNull(), F.greatest(F.least(value, high), low)) if rule.policy is Policy.clip else value


def ids_of_broken(rules: list[Rule], policies: tuple[Policy, ...]) -> Column:
    """Sorted array of the ids of the rules with one of the policies that the row breaks."""
    chosen = [rule for rule in rules if rule.policy in policies]
    nothing = F.array().cast("array<string>")
    if not chosen:
        return nothing
    ids = F.array(*(F.when(rule.broken, F.lit(rule.id)) for rule in chosen))
    tests = [rule.broken if rule.suspect is None else rule.suspect for rule in chosen]
    any_broken = reduce(lambda a, b: a | b, {id(test): test for test in tests}.values())
    # Nearly every row breaks nothing: it pays for the tests alone, not for an array of answers.
    return F.when(any_broken, F.array_sort(F.filter(ids, lambda name: name.isNotNull()))).otherwise(nothing)


def _broken(rule: RuleConfig) -> Column:
    if rule.keep_if is not None:
        return ~F.expr(f"({rule.keep_if})")
    name = str(rule.column)
    column = F.col(name)
    if rule.required is not None:
        return _is_absent(name) & F.lit(rule.required)
    if rule.range is not None:
        return ~column.between(rule.range[0], rule.range[1])
    if rule.allowed is not None:
        return ~column.isin(rule.allowed)
    return ~column.rlike(f"^(?:{rule.pattern})$")


def _has_control_character(text: Column) -> Column:
    return text.rlike(r"[\x00-\x1f\x7f]")


def _is_absent(name: str) -> Column:
    """Null or nothing but space."""
    return F.col(name).isNull() | (F.trim(F.col(name).cast("string")) == "")


def _never_null(broken: Column) -> Column:
    """A test that null makes unknown is not broken: `required` is there for nulls."""
    return F.coalesce(broken, F.lit(False))

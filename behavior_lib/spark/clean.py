"""Canonical rows judged by the rules: what breaks one, what is clipped, flagged or filled in."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from behavior_lib.config.source import IMPUTATIONS, Policy, RuleConfig, SourceConfig
from behavior_lib.spark.canonical import RAW
from behavior_lib.spark.elements import NO_ELEMENT
from behavior_lib.spark.presence import is_marker
from behavior_lib.spark.raw_files import UNREADABLE
from behavior_lib.spark.rules import (
    CONFLICT,
    LATE,
    Rule,
    built_in_rules,
    clipped,
    ids_of_broken,
    is_row_rule,
    row_rules,
)
from behavior_lib.spark.statistics import WHOLE_BATCH, Group, Statistic, group_of, wanted_statistics
from behavior_lib.spark.statistics import measure as measure_statistics
from behavior_lib.spark.values import EXACT_TIMES
from behavior_lib.tables import BATCH_STATISTICS as STATISTICS
from behavior_lib.tables import EVENTS, EVENTS_QUARANTINE

BROKEN, DROPPED, PAYLOAD = "_broken", "_dropped", "_payload"
_REJECTING = (Policy.quarantine, Policy.drop)
_IS_FOUND = "_is_found"


def measure(rows: DataFrame, source: SourceConfig, accepted_at: datetime, statistics: Sequence[Statistic]) -> DataFrame:
    """Statistics of a batch, of its rows that break no row rule, in one pass.

    rows and accepted_at as for `judge`. Returns the columns of BATCH_STATISTICS but source and batch_id.
    """
    sound = _judge_by_row(rows, source, accepted_at).where(F.size(BROKEN) == 0)
    return measure_statistics(sound, statistics)


def judge(
    rows: DataFrame,
    source: SourceConfig,
    accepted_at: datetime,
    late_before: datetime | None,
    statistics: DataFrame | None = None,
) -> DataFrame:
    """Judge canonical rows by the built-in rules, the source's rules and the bound of lateness.

    rows: what `canonical` returns. accepted_at: when the batch was first accepted, UTC. late_before: events before it
    are late; None where the source has no event yet. statistics: what the batch is judged by, as `measure` returns it;
    None measures these rows.
    Returns the canonical columns with values clipped and filled in, flags, and
    `_broken`: sorted ids of the rejecting rules that the row breaks; ["late"] where it breaks none but is late;
    `_dropped`: every rule that it breaks has policy drop;
    `_payload`: the raw row as JSON, where a rule is broken.
    One pass over the rows; the statistics of groups are joined to them.
    """
    judged = _judge_by_row(rows, source, accepted_at)
    wanted = wanted_statistics(source)
    known = None
    if wanted:
        found = statistics if statistics is not None else measure(rows, source, accepted_at, wanted)
        known = _Statistics(found)
    for rule in source.rules:
        if known is not None and not is_row_rule(rule):
            judged = _judge_by_statistics(judged, rule, known)
    for column, strategy in source.missing.items():
        judged = _fill(judged, column, strategy, known)
    if late_before is not None:
        is_late = (F.size(BROKEN) == 0) & (F.col(EVENTS.event_time) < F.lit(late_before))
        judged = judged.withColumn(BROKEN, F.when(is_late, F.array(F.lit(LATE))).otherwise(F.col(BROKEN)))
    return judged.withColumn(PAYLOAD, F.when(F.size(BROKEN) > 0, _payload())).drop(UNREADABLE, NO_ELEMENT, RAW)


def conflicting(rows: DataFrame) -> DataFrame:
    """Canonical rows that are in conflict with another row, as judged ones, ready for `rejected`."""
    return rows.withColumns({BROKEN: F.array(F.lit(CONFLICT)), DROPPED: F.lit(False), PAYLOAD: _payload()})


def accepted(judged: DataFrame) -> DataFrame:
    """The rows that break no rejecting rule."""
    markers = [name for name in judged.columns if is_marker(name)]
    return judged.where(F.size(BROKEN) == 0).drop(BROKEN, DROPPED, PAYLOAD, *markers)


def is_late() -> Column:
    """Whether a judged row is late."""
    return F.array_contains(BROKEN, LATE)


def rejected(judged: DataFrame, source: str, batch_id: str, accepted_at: datetime) -> DataFrame:
    """EVENTS_QUARANTINE rows of the rejected and the late ones."""
    quarantine = EVENTS_QUARANTINE
    payload = F.when(~F.col(DROPPED), F.col(PAYLOAD))
    return (
        judged.where(F.size(BROKEN) > 0)
        .groupBy(F.sha2(PAYLOAD, 256).alias(quarantine.row_hash))
        .agg(
            F.min(payload).alias(quarantine.payload),
            F.min(BROKEN).alias(quarantine.rules),
            F.count("*").alias(quarantine.n_rows),
        )
        .withColumns(
            {
                quarantine.source: F.lit(source),
                quarantine.batch_id: F.lit(batch_id),
                quarantine.ingest_date: F.lit(accepted_at.date()),
            }
        )
        .select(*quarantine.column_names)
    )


def _payload() -> Column:
    """The raw row as JSON, or the raw line where it could not be read."""
    return F.coalesce(F.col(UNREADABLE), F.to_json(RAW, EXACT_TIMES))


def _judge_by_row(rows: DataFrame, source: SourceConfig, accepted_at: datetime) -> DataFrame:
    """Add `_broken`, `_dropped` and flags and clip to ranges, as far as one row alone decides."""
    rules = built_in_rules(accepted_at, source) + row_rules(source)
    judged = rows.withColumns(
        {
            BROKEN: ids_of_broken(rules, _REJECTING),
            DROPPED: _all_dropped(rules),
            EVENTS.flags: ids_of_broken(rules, (Policy.flag, Policy.clip)),
        }
    )
    for rule in source.rules:
        if rule.policy is Policy.clip and rule.range is not None:
            low, high = (F.lit(float(bound)) for bound in rule.range)
            judged = judged.withColumn(str(rule.column), clipped(rule, F.col(str(rule.column)), low, high))
    return judged


def _all_dropped(rules: list[Rule]) -> Column:
    if not any(rule.policy is Policy.drop for rule in rules):
        return F.lit(False)
    dropping = F.size(ids_of_broken(rules, (Policy.drop,)))
    return (dropping > 0) & (F.size(ids_of_broken(rules, (Policy.quarantine,))) == 0)


def _judge_by_statistics(judged: DataFrame, rule: RuleConfig, statistics: _Statistics) -> DataFrame:
    name, low, high = str(rule.column), f"_{STATISTICS.low}", f"_{STATISTICS.high}"
    found = statistics.join(judged, rule.id, group_of(rule))
    if rule.robot is not None:
        return _mark(found, rule, F.col(_IS_FOUND)).select(*judged.columns)
    value = F.col(name)
    broken = ~value.between(F.col(low), F.col(high))
    return _mark(found, rule, broken, clipped(rule, value, F.col(low), F.col(high))).select(*judged.columns)


def _mark(judged: DataFrame, rule: RuleConfig, broken: Column, value: Column | None = None) -> DataFrame:
    """Add the rule's id to `_broken` or to flags where the row breaks it, and take over the clipped value."""
    is_broken = F.coalesce(broken, F.lit(False))
    target = BROKEN if rule.policy in _REJECTING else EVENTS.flags
    longer = F.array_sort(F.array_append(target, F.lit(rule.id)))
    changes = {target: F.when(is_broken, longer).otherwise(F.col(target))}
    if rule.policy in _REJECTING:
        only_dropped = (F.size(BROKEN) == 0) | F.col(DROPPED)
        dropped = only_dropped & F.lit(rule.policy is Policy.drop)
        changes[DROPPED] = F.when(is_broken, dropped).otherwise(F.col(DROPPED))
    if rule.policy is Policy.clip and value is not None:
        changes[str(rule.column)] = F.when(is_broken, value).otherwise(F.col(str(rule.column)))
    return judged.withColumns(changes)


def _fill(judged: DataFrame, column: str, strategy: Any, statistics: _Statistics | None) -> DataFrame:
    """Nulls of a column become its mean, median or mode in the batch, or a constant."""
    wanted = EVENTS.column(column).type.ddl
    if strategy not in IMPUTATIONS or statistics is None:
        return judged.withColumn(column, F.coalesce(F.col(column), F.lit(strategy).cast(wanted)))
    found = statistics.join(judged, f"missing.{column}", Group())
    filled = F.coalesce(F.col(column), F.col(f"_{STATISTICS.fill}").cast(wanted))
    return found.withColumn(column, filled).select(*judged.columns)


class _Statistics:
    """The statistics of one batch, ready to stand beside its rows."""

    def __init__(self, rows: DataFrame) -> None:
        self._rows = rows
        user, value = F.col(STATISTICS.user_id), F.col(STATISTICS.group_value)
        whole = rows.where((user == "") & (value == WHOLE_BATCH)).collect()
        self._whole = {row[STATISTICS.rule_id]: row for row in whole}

    def join(self, judged: DataFrame, rule_id: str, group: Group) -> DataFrame:
        """Add `_low`, `_high`, `_fill`, and `_is_found`: whether the row's group has the statistic."""
        names = (STATISTICS.low, STATISTICS.high, STATISTICS.fill)
        if group.is_whole_batch:
            # One row of numbers: as literals they cost no join.
            row = self._whole.get(rule_id)
            values = {f"_{name}": F.lit(row and row[name]).cast(STATISTICS.column(name).type.ddl) for name in names}
            return judged.withColumns({**values, _IS_FOUND: F.lit(row is not None)})
        own = self._rows.where(F.col(STATISTICS.rule_id) == rule_id).select(
            F.col(STATISTICS.user_id).alias("_user"),
            F.col(STATISTICS.group_value).alias("_group"),
            *(F.col(name).alias(f"_{name}") for name in names),
            F.lit(True).alias("_has"),
        )
        user, value = group.columns(judged)
        keyed = judged.withColumns({"_own_user": user, "_own_group": value})
        is_own = (F.col("_own_user") == F.col("_user")) & (F.col("_own_group") == F.col("_group"))
        return keyed.join(own, is_own, "left").withColumn(_IS_FOUND, F.coalesce("_has", F.lit(False)))

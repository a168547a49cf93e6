"""Canonical rows judged by the rules: what breaks one, what is clipped, flagged or filled in."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from behavior_lib.config.source import OutlierTest, Policy, RuleConfig, SourceConfig
from behavior_lib.errors import ConfigError
from behavior_lib.spark.canonical import RAW
from behavior_lib.spark.raw import UNREADABLE
from behavior_lib.spark.rules import LATE, Rule, built_in_rules, clipped, ids_of_broken, is_row_rule, row_rules
from behavior_lib.tables import EVENTS, EVENTS_QUARANTINE

BROKEN, DROPPED, PAYLOAD = "_broken", "_dropped", "_payload"
_REJECTING = (Policy.quarantine, Policy.drop)
_THRESHOLDS = {OutlierTest.iqr: 1.5, OutlierTest.zscore: 3.0}
_IMPUTATIONS = ("mean", "median", "mode")


def judge(rows: DataFrame, source: SourceConfig, accepted_at: datetime, late_before: datetime | None) -> DataFrame:
    """Judge canonical rows by the built-in rules, the source's rules and the bound of lateness.

    rows: what `canonical` returns. accepted_at: when the batch was first accepted, UTC. late_before: events before it
    are late; None where the source has no event yet.
    Returns the canonical columns with values clipped and filled in, flags, and
    `_broken`: sorted ids of the rejecting rules that the row breaks; ["late"] where it breaks none but is late;
    `_dropped`: every rule that it breaks has policy drop;
    `_payload`: the raw row as JSON, where a rule is broken.
    Statistics are those of the batch's rows that break no row rule.
    """
    rules = built_in_rules(accepted_at) + row_rules(source)
    judged = rows.withColumns(
        {
            BROKEN: ids_of_broken(rules, _REJECTING),
            DROPPED: _all_dropped(rules),
            EVENTS.flags: ids_of_broken(rules, (Policy.flag, Policy.clip)),
        }
    )
    for rule in source.rules:
        judged = _clip_range(judged, rule) if is_row_rule(rule) else _judge_by_statistics(judged, rule)
    for column, strategy in source.missing.items():
        judged = _fill(judged, column, strategy, source.name)
    if late_before is not None:
        is_late = (F.size(BROKEN) == 0) & (F.col(EVENTS.event_time) < F.lit(late_before))
        judged = judged.withColumn(BROKEN, F.when(is_late, F.array(F.lit(LATE))).otherwise(F.col(BROKEN)))
    payload = F.when(F.size(BROKEN) > 0, F.coalesce(F.col(UNREADABLE), F.to_json(RAW)))
    return judged.withColumn(PAYLOAD, payload).drop(UNREADABLE, RAW)


def accepted(judged: DataFrame) -> DataFrame:
    """The rows that break no rejecting rule."""
    return judged.where(F.size(BROKEN) == 0).drop(BROKEN, DROPPED, PAYLOAD)


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


def _all_dropped(rules: list[Rule]) -> Column:
    dropping = F.size(ids_of_broken(rules, (Policy.drop,)))
    return (dropping > 0) & (F.size(ids_of_broken(rules, (Policy.quarantine,))) == 0)


def _clip_range(judged: DataFrame, rule: RuleConfig) -> DataFrame:
    if rule.policy is not Policy.clip or rule.range is None:
        return judged
    low, high = (F.lit(float(bound)) for bound in rule.range)
    return judged.withColumn(str(rule.column), clipped(rule, F.col(str(rule.column)), low, high))


def _judge_by_statistics(judged: DataFrame, rule: RuleConfig) -> DataFrame:
    if rule.robot is not None:
        return _mark(_with_daily_count(judged), rule, F.col("_daily") > rule.robot).drop("_daily")
    value = F.col(str(rule.column))
    fenced = _with_fences(judged, rule)
    broken = ~value.between(F.col("_low"), F.col("_high"))
    return _mark(fenced, rule, broken, clipped(rule, value, F.col("_low"), F.col("_high"))).drop("_low", "_high")


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


def _with_daily_count(judged: DataFrame) -> DataFrame:
    day = F.to_date(EVENTS.event_time)
    counts = _sound(judged).groupBy(EVENTS.user_id, day.alias("_day")).agg(F.count("*").alias("_daily"))
    keyed = judged.withColumn("_day", day)
    return keyed.join(counts, [EVENTS.user_id, "_day"], "left").drop("_day")


def _with_fences(judged: DataFrame, rule: RuleConfig) -> DataFrame:
    """Add `_low` and `_high`: quartiles ∓ threshold·IQR (Tukey), or mean ∓ threshold·standard deviation."""
    outlier = OutlierTest(rule.outlier)
    reach = rule.threshold if rule.threshold is not None else _THRESHOLDS[outlier]
    name = str(rule.column)
    if outlier is OutlierTest.iqr:
        first, third = F.percentile(name, F.lit(0.25)), F.percentile(name, F.lit(0.75))
        low, high = first - reach * (third - first), third + reach * (third - first)
    else:
        mean, deviation = F.avg(name), F.stddev_pop(name)
        low, high = mean - reach * deviation, mean + reach * deviation
    fences = _sound(judged).groupBy(*([rule.by] if rule.by else [])).agg(low.alias("_low"), high.alias("_high"))
    return judged.join(fences, rule.by, "left") if rule.by else judged.crossJoin(F.broadcast(fences))


def _fill(judged: DataFrame, column: str, strategy: Any, source: str) -> DataFrame:
    """Nulls of a column become its mean, median or mode in the batch, or a constant."""
    wanted = EVENTS.column(column).type.ddl
    if strategy not in _IMPUTATIONS:
        constant = F.lit(strategy).cast(wanted)
        return judged.withColumn(column, F.coalesce(F.col(column), constant))
    if strategy != "mode" and wanted != "double":
        where = f"missing.{column} of source {source}"
        raise ConfigError(f"{strategy} needs a number", where=where, value=wanted, mend="use mode or a constant")
    if strategy == "mode":
        found = _mode(_sound(judged), column)
    else:
        found = _sound(judged).agg((F.avg if strategy == "mean" else F.median)(column).alias("_fill"))
    return judged.crossJoin(F.broadcast(found)).withColumn(column, F.coalesce(column, "_fill")).drop("_fill")


def _mode(rows: DataFrame, column: str) -> DataFrame:
    """The most frequent value, the smallest of several: without the second rule it would depend on row order."""
    counts = rows.where(F.col(column).isNotNull()).groupBy(column).agg(F.count("*").alias("_count"))
    most = F.min(F.struct((-F.col("_count")).alias("_rank"), F.col(column).alias("_value")))
    return counts.agg(most["_value"].alias("_fill"))


def _sound(judged: DataFrame) -> DataFrame:
    """The rows that statistics are made of."""
    return judged.where(F.size(BROKEN) == 0)

"""What a batch is judged by beside its single rows: fences of outliers, robots, and values for what is missing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from behavior_lib.config.source import IMPUTATIONS, OutlierTest, RuleConfig, SourceConfig
from behavior_lib.errors import ConfigError
from behavior_lib.tables import BATCH_STATISTICS as STATISTICS
from behavior_lib.tables import EVENTS

WHOLE_BATCH = ""
# Name of the column that stands beside the plain user id while rows are judged.
PSEUDONYM, IS_FORGOTTEN = "_pseudonym", "_is_forgotten"
_THRESHOLDS = {OutlierTest.iqr: 1.5, OutlierTest.zscore: 3.0}
_RULE, _USER, _GROUP, _NUMBER, _TEXT, _COUNT = "_rule", "_user", "_group", "_number", "_text", "_count"
_QUARTILES, _VALUES, _MODE, _TOTAL, _MEAN, _DEVIATION = (
    "_quartiles",
    "_values",
    "_mode",
    "_total",
    "_mean",
    "_deviation",
)


@dataclass(frozen=True)
class Group:
    """What rows are measured together: those of one user, one value, both, or all of a batch."""

    is_of_users: bool = False
    value: Column | None = None

    @property
    def is_whole_batch(self) -> bool:
        """Whether there is one group."""
        return not self.is_of_users and self.value is None

    def columns(self, rows: DataFrame) -> tuple[Column, Column]:
        """user_id and group_value of each row. A user goes by the pseudonym where the rows have one, the forgotten by
        none.
        """
        user = F.col(PSEUDONYM if PSEUDONYM in rows.columns else EVENTS.user_id) if self.is_of_users else F.lit("")
        if self.is_of_users and IS_FORGOTTEN in rows.columns:
            user = F.when(~F.col(IS_FORGOTTEN), user)
        return user, F.lit(WHOLE_BATCH) if self.value is None else self.value


@dataclass(frozen=True)
class Statistic:
    """One statistic that a source asks for.

    group: which rows are measured together. number, text: the value that is measured; rows where both are null do not
    count, unless they themselves are counted. low, high, fill: made of the measurements. at_least: groups of fewer
    rows are left out.
    """

    rule_id: str
    definition: str
    group: Group
    number: Column | None = None
    text: Column | None = None
    low: Column | None = None
    high: Column | None = None
    fill: Column | None = None
    at_least: int = 1


def wanted_statistics(source: SourceConfig) -> list[Statistic]:
    """The statistics that the source's rules and missing values need. Raises ConfigError for a mean of texts."""
    rules = [rule for rule in source.rules if rule.outlier is not None or rule.robot is not None]
    found = [_robots(rule) if rule.robot is not None else _fences(rule) for rule in rules]
    return found + [_filling(source, column) for column, how in source.missing.items() if how in IMPUTATIONS]


def group_of(rule: RuleConfig) -> Group:
    """The rows that a rule measures together."""
    if rule.robot is not None:
        return Group(is_of_users=True, value=F.to_date(EVENTS.event_time).cast("string"))
    if rule.by == EVENTS.user_id:
        return Group(is_of_users=True)
    return Group() if rule.by is None else Group(value=F.col(rule.by).cast("string"))


def measure(sound: DataFrame, statistics: Sequence[Statistic]) -> DataFrame:
    """The columns of BATCH_STATISTICS but source and batch_id: one row a statistic and group, in one pass.

    sound: canonical rows that break no row rule. Equal values are counted first, so that what a statistic is made of
    does not depend on the order of the rows; the distinct values of a group must fit into the memory of a task.
    """
    nothing = {_NUMBER: F.lit(None).cast("double"), _TEXT: F.lit(None).cast("string")}
    entries = []
    for statistic in statistics:
        number = nothing[_NUMBER] if statistic.number is None else F.nanvl(statistic.number, nothing[_NUMBER])
        text = nothing[_TEXT] if statistic.text is None else statistic.text
        user, value = statistic.group.columns(sound)
        entry = F.struct(
            F.lit(statistic.rule_id).alias(_RULE),
            user.alias(_USER),
            value.alias(_GROUP),
            number.alias(_NUMBER),
            text.alias(_TEXT),
        )
        is_counted = statistic.number is None and statistic.text is None
        entries.append(F.when(F.lit(is_counted) | number.isNotNull() | text.isNotNull(), entry))
    rows = sound.select(F.explode(F.array(*entries)).alias("_entry")).where("_entry is not null").select("_entry.*")
    is_grouped = F.col(_USER).isNotNull() & F.col(_GROUP).isNotNull()
    values = rows.where(is_grouped).groupBy(_RULE, _USER, _GROUP, _NUMBER, _TEXT).agg(F.count("*").alias(_COUNT))
    measured = values.groupBy(_RULE, _USER, _GROUP).agg(
        F.expr(f"percentile({_NUMBER}, array(0.25, 0.5, 0.75), {_COUNT})").alias(_QUARTILES),
        F.sort_array(F.collect_list(F.struct(_NUMBER, _COUNT))).alias(_VALUES),
        # The most frequent value, the smallest of several.
        F.min(F.struct((-F.col(_COUNT)).alias("_rank"), _NUMBER, _TEXT)).alias(_MODE),
        F.sum(_COUNT).alias(_TOTAL),
    )
    mean = _fold(lambda value: value[_NUMBER]) / F.col(_TOTAL)
    moments = measured.withColumn(_MEAN, mean).withColumn(
        _DEVIATION, F.sqrt(_fold(lambda value: F.pow(value[_NUMBER] - F.col(_MEAN), 2)) / F.col(_TOTAL))
    )
    return _named(moments, statistics)


def _named(measured: DataFrame, statistics: Sequence[Statistic]) -> DataFrame:
    def chosen(value_of: Mapping[str, Column | None], type_name: str) -> Column:
        found = F.lit(None).cast(type_name)
        for rule_id, value in value_of.items():
            if value is not None:
                found = F.when(F.col(_RULE) == rule_id, value.cast(type_name)).otherwise(found)
        return found

    least = chosen({s.rule_id: F.lit(s.at_least) for s in statistics}, "bigint")
    return measured.where(F.col(_TOTAL) >= least).select(
        F.col(_RULE).alias(STATISTICS.rule_id),
        chosen({s.rule_id: F.lit(s.definition) for s in statistics}, "string").alias(STATISTICS.definition),
        F.col(_USER).alias(STATISTICS.user_id),
        F.col(_GROUP).alias(STATISTICS.group_value),
        chosen({s.rule_id: s.low for s in statistics}, "double").alias(STATISTICS.low),
        chosen({s.rule_id: s.high for s in statistics}, "double").alias(STATISTICS.high),
        chosen({s.rule_id: s.fill for s in statistics}, "string").alias(STATISTICS.fill),
        F.col(_TOTAL).alias(STATISTICS.n_rows),
    )


def _fold(term: Any) -> Column:
    """Sum of term · count over the values in ascending order: a sum of doubles depends on the order of its terms."""
    return F.aggregate(_VALUES, F.lit(0.0), lambda total, value: total + term(value) * value[_COUNT])


def _fences(rule: RuleConfig) -> Statistic:
    """Quartiles ∓ threshold·IQR (Tukey, Exploratory Data Analysis, 1977), or mean ∓ threshold·standard deviation."""
    outlier = OutlierTest(rule.outlier)
    reach = rule.threshold if rule.threshold is not None else _THRESHOLDS[outlier]
    if outlier is OutlierTest.iqr:
        first, third = F.col(_QUARTILES)[0], F.col(_QUARTILES)[2]
        low, high = first - reach * (third - first), third + reach * (third - first)
    else:
        low, high = (F.col(_MEAN) + sign * reach * F.col(_DEVIATION) for sign in (-1, 1))
    number = F.col(str(rule.column))
    return Statistic(rule.id, _definition(asdict(rule)), group_of(rule), number=number, low=low, high=high)


def _robots(rule: RuleConfig) -> Statistic:
    """Only the groups that are too large are kept: nearly no user is a robot."""
    return Statistic(rule.id, _definition(asdict(rule)), group_of(rule), at_least=int(rule.robot or 0) + 1)


def _filling(source: SourceConfig, column: str) -> Statistic:
    how, name = source.missing[column], f"missing.{column}"
    is_number = EVENTS.column(column).type.ddl == "double"
    if how != "mode" and not is_number:
        where = f"{name} of source {source.name}"
        raise ConfigError(f"{how} needs a number", where=where, value=column, mend="use mode or a constant")
    fill = {"mean": F.col(_MEAN), "median": F.col(_QUARTILES)[1], "mode": F.col(_MODE)[_NUMBER]}
    value = F.col(column) if is_number else F.col(column).cast("string")
    return Statistic(
        name,
        _definition({"missing": column, "value": how}),
        Group(),
        number=value if is_number else None,
        text=None if is_number else value,
        fill=fill[how] if is_number else F.col(_MODE)[_TEXT],
    )


def _definition(rule: Mapping[str, Any]) -> str:
    given = {name: value for name, value in rule.items() if value is not None}
    return json.dumps(given, sort_keys=True, ensure_ascii=False)

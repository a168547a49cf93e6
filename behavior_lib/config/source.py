"""What a source of events is: one YAML file, checked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Any, cast

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from behavior_lib.config.duration import parse_duration
from behavior_lib.config.keys import nearest, unknown_key
from behavior_lib.config.loader import find_yaml, read_yaml
from behavior_lib.config.pattern import named_groups
from behavior_lib.config.schema import Config
from behavior_lib.errors import ConfigError
from behavior_lib.tables import EVENTS

CANONICAL = (
    EVENTS.event_id,
    EVENTS.user_id,
    EVENTS.item_id,
    EVENTS.event_type,
    EVENTS.event_time,
    EVENTS.value,
    EVENTS.session_key,
    EVENTS.attributes,
)
# Spark's own readers; one of another package goes by the whole name of its class.
FORMATS = ("json", "csv", "parquet", "delta", "text", "orc", "avro", "xml")
SKIP_CHANGES = "skipChangeCommits"  # the one option of format delta, by the name that Delta's streams have for it
REQUIRED = (EVENTS.user_id, EVENTS.event_type, EVENTS.event_time)
# Labels of users that `probe` makes of the events after a cut, whatever the source.
ACTIVE, SPEND, CHURN = "active", "spend", "churn"
FUTURE = (ACTIVE, SPEND, CHURN)
IMPUTATIONS = ("mean", "median", "mode")
_TESTS = ("keep_if", "required", "range", "allowed", "pattern", "outlier", "robot")


class Policy(str, Enum):
    """What happens to a row that breaks a rule. drop: as quarantine, but the raw row is not kept."""

    quarantine = "quarantine"
    drop = "drop"
    clip = "clip"
    flag = "flag"


class OutlierTest(str, Enum):
    """How an outlier is told from the rest: by quartiles (Tukey) or by standard deviations."""

    iqr = "iqr"
    zscore = "zscore"


@dataclass
class RuleConfig:
    """One rule: an id, exactly one test, and what happens to a row that breaks it (`else` in the YAML)."""

    id: str = MISSING
    policy: Policy = Policy.quarantine
    keep_if: str | None = None  # Spark SQL over the canonical columns; null counts as kept
    required: bool | None = None  # column is neither null nor empty
    range: list[float] | None = None  # [low, high], both included
    allowed: list[str] | None = None
    pattern: str | None = None  # regular expression (Java) that the whole column matches
    outlier: OutlierTest | None = None
    robot: int | None = None  # most events of one user in one UTC day
    column: str | None = None  # the column that required, range, allowed, pattern and outlier look at
    by: str | None = None  # outlier: statistics for each value of this column
    threshold: float | None = None  # outlier: fences at so many IQRs (1.5) or standard deviations (3)

    @property
    def test(self) -> str:
        """The name of the rule's one test."""
        return next(name for name in _TESTS if getattr(self, name) is not None)


@dataclass
class SourceSplit:
    """The cuts of the global time split, UTC, where the source has its own."""

    validation: str | None = None
    test: str | None = None


@dataclass
class ScheduleConfig:
    """The batches that are promised: one each `every`, from `first` on. {batch} in `input` is the batch's id."""

    every: str = MISSING
    first: str = MISSING  # date or time, UTC
    input: str = MISSING  # folder, file or glob of one batch
    last: str | None = None  # null: up to now
    batch_id: str = "%Y-%m-%d"  # how a batch is named by the time it begins; as strftime writes it


@dataclass
class ItemsConfig:
    """A file of items: one row an item, by Spark SQL: attributes as text, and vectors that were made elsewhere, arrays
    of numbers, as many for every item that has the vector; null where an item has none.
    """

    format: str = MISSING
    path: str = MISSING
    item_id: str = MISSING
    options: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)
    vectors: dict[str, str] = field(default_factory=dict)


@dataclass
class UsersConfig:
    """A file of what is known of users: one row a user. Only the models of `fine_tune` see it; `probe` asks how well
    vectors tell it.

    labels: by name a boolean or a number, by Spark SQL; null where it is not known. classes: by name one of a few texts
    (or whatever becomes one), likewise; each of them is a label NAME_is_TEXT, and of a user exactly one is true.
    """

    format: str = MISSING
    path: str = MISSING
    user_id: str = MISSING
    options: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    classes: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Of labels and classes."""
        return [*self.labels, *self.classes]

    def only(self, names: Sequence[str]) -> UsersConfig:
        """The same with the labels and classes of these names alone."""
        labels, classes = ({name: own[name] for name in own if name in names} for own in (self.labels, self.classes))
        return replace(self, labels=labels, classes=classes)


@dataclass
class SourceConfig:
    """One source of events, as its YAML file says it.

    pattern: of format text, a Java regular expression that a whole line matches; each named group is a raw column.
    explode: a raw column, or Spark SQL over them, that gives an array: each element is an event of its own, `element`,
    at `position` (from 0). key: raw columns, or Spark SQL over them.
    """

    name: str = MISSING
    format: str = MISSING
    path: str = MISSING
    options: dict[str, str] = field(default_factory=dict)
    schema: str | None = None
    pattern: str | None = None
    explode: str | None = None
    timezone: str = "UTC"
    columns: dict[str, str] = field(default_factory=dict)
    key: list[str] = field(default_factory=list)
    duplicate_within: str | None = None  # copies of an event lie at most so far apart; null: anywhere in the log
    session_gap: str = "30m"
    rules: list[RuleConfig] = field(default_factory=list)
    missing: dict[str, Any] = field(default_factory=dict)
    items: ItemsConfig | None = None
    users: UsersConfig | None = None
    schedule: ScheduleConfig | None = None
    split: SourceSplit = field(default_factory=SourceSplit)

    @property
    def gap(self) -> timedelta:
        """The silence that ends a session where the source has no session of its own."""
        return parse_duration(self.session_gap, f"session_gap of source {self.name}")

    @property
    def reach_of_duplicates(self) -> timedelta | None:
        """How far apart in event time two events with one id may lie; None for any distance."""
        if self.duplicate_within is None:
            return None
        return parse_duration(self.duplicate_within, f"duplicate_within of source {self.name}")


def promised_batches(schedule: ScheduleConfig, now: datetime, where: str) -> list[str]:
    """Ids of the batches whose time is over, oldest first. Raises ConfigError where the schedule cannot be read."""
    first, last = (_moment(text, where) for text in (schedule.first, schedule.last))
    every = parse_duration(schedule.every, f"schedule.every of {where}")
    if first is None or every <= timedelta(0):
        raise ConfigError("schedule.every is not positive", where=where, value=schedule.every)
    end = now if last is None else min(now, last + every)
    count = max(int((end - first) // every), 0)
    return list(dict.fromkeys((first + number * every).strftime(schedule.batch_id) for number in range(count)))


def _moment(text: str | None, where: str) -> datetime | None:
    try:
        return None if text is None else datetime.fromisoformat(text).replace(tzinfo=timezone.utc)
    except ValueError:
        mend = "write 2017-11-01 or 2017-11-01T06:00:00"
        raise ConfigError("a time of the schedule cannot be read", where=where, value=text, mend=mend) from None


def load_source(config: Config) -> SourceConfig:
    """The source that `config.source` names. Raises ConfigError for what is unknown, missing or of the wrong type."""
    path = find_yaml(config.source, "sources", "source")
    where = f"source {path.name}"
    tree = _rename_else(read_yaml(path), where)
    for name in ("name", "format", "path"):
        if name not in tree:
            raise ConfigError(f"{name} is missing", where=where)
    try:
        source = OmegaConf.merge(OmegaConf.structured(SourceConfig), tree)
        OmegaConf.resolve(_with_paths(source, config))
        loaded = cast(SourceConfig, OmegaConf.to_object(source))
    except OmegaConfBaseException as error:
        raise _explain(error, where) from None
    _check(loaded, where)
    return loaded


def _with_paths(source: Any, config: Config) -> DictConfig:
    """`source` under a parent that knows ${paths.…}: interpolations look from the root down."""
    root = OmegaConf.create({"paths": {"raw": config.paths.raw, "warehouse": config.paths.warehouse}})
    source._set_parent(root)
    return cast(DictConfig, source)


def _rename_else(tree: dict[str, Any], where: str) -> dict[str, Any]:
    """`else` cannot be a Python attribute: inside it is called policy."""
    rules = tree.get("rules") or []
    if not isinstance(rules, list) or not all(isinstance(rule, Mapping) for rule in rules):
        raise ConfigError("rules is not a list of mappings", where=where, value=rules)
    renamed = [{"policy" if name == "else" else name: value for name, value in rule.items()} for rule in rules]
    return {**tree, "rules": renamed}


def _explain(error: OmegaConfBaseException, where: str) -> ConfigError:
    """OmegaConf's error as one sentence; an unknown key names the nearest known one."""
    key = str(getattr(error, "full_key", "") or "")
    if isinstance(error, ConfigKeyError):
        scope = error.object_type if is_dataclass(error.object_type) else SourceConfig
        return unknown_key(key.rsplit(".", 1)[-1], [field.name for field in fields(scope)], where)
    return ConfigError(f"{key or 'a value'} cannot be read ({str(error).splitlines()[0]})", where=where)


def _check(source: SourceConfig, where: str) -> None:
    _check_format(source, where)
    for column in source.columns:
        if column not in CANONICAL:
            near = nearest(column, CANONICAL)
            raise ConfigError(f"columns.{column} is no column of events", where=where, mend=f"did you mean {near}?")
    for column in REQUIRED:
        if column not in source.columns:
            raise ConfigError(f"columns.{column} is missing", where=where, mend="give it a Spark SQL expression")
    if EVENTS.event_id not in source.columns and not source.key:
        raise ConfigError("neither columns.event_id nor key is given", where=where, mend="name what makes a row unique")
    if source.reach_of_duplicates is not None and source.reach_of_duplicates < timedelta(0):
        raise ConfigError("duplicate_within is negative", where=where, value=source.duplicate_within)
    if source.gap <= timedelta(0):
        raise ConfigError("session_gap is not positive", where=where, value=source.session_gap)
    ids = [rule.id for rule in source.rules]
    for rule in source.rules:
        _check_rule(rule, f"rule {rule.id} of {where}")
        if ids.count(rule.id) > 1:
            raise ConfigError("two rules have one id", where=where, value=rule.id)
    if source.items is not None:
        _check_names(source.items.vectors, "vector", f"items.vectors of {where}")
    _check_users(source.users, where)
    if source.schedule is not None:
        promised_batches(source.schedule, datetime.now(timezone.utc), where)
    for column in source.missing:
        if column not in source.columns:
            raise ConfigError(f"missing.{column} names a column that the source does not give", where=where)


def _check_users(users: UsersConfig | None, where: str) -> None:
    if users is None:
        return
    if not users.names:
        raise ConfigError(
            "users has no labels", where=where, mend="give users.labels a name and a Spark SQL expression"
        )
    for name in users.names:
        if name in FUTURE:
            mend = "call it otherwise: that name is of what comes after the cut"
            raise ConfigError(f"users.labels.{name} is no name for a label", where=where, mend=mend)
        if users.names.count(name) > 1:
            mend = "call one of them otherwise"
            raise ConfigError("users.labels and users.classes have one name", where=where, value=name, mend=mend)
    _check_names(users.labels, "label", f"users.labels of {where}")
    _check_names(users.classes, "label", f"users.classes of {where}")


def _check_names(names: Iterable[str], what: str, where: str) -> None:
    for name in names:
        if not re.fullmatch(r"\w+", name):
            mend = "letters, digits and _ make a name"
            raise ConfigError(f"a {what} has no plain name", where=where, value=name, mend=mend)


def _check_format(source: SourceConfig, where: str) -> None:
    if source.format not in FORMATS and "." not in source.format:
        near = nearest(source.format, FORMATS)
        mend = f"did you mean {near}?" if near else f"one of {', '.join(FORMATS)}"
        raise ConfigError("unknown format", where=where, value=source.format, mend=mend)
    if source.format == "delta" and set(source.options) - {SKIP_CHANGES}:
        mend = f"format delta has one option, {SKIP_CHANGES}"
        raise ConfigError("unknown option", where=where, value=min(set(source.options) - {SKIP_CHANGES}), mend=mend)
    if source.format != "text":
        if source.pattern is not None:
            raise ConfigError("pattern is for format text", where=where, value=source.format)
        return
    if source.pattern is None:
        mend = "give a Java regular expression with a named group (?<name>…) for each raw column"
        raise ConfigError("format text needs a pattern", where=where, mend=mend)
    if not named_groups(source.pattern):
        mend = "name them: (?<name>…), letters and digits only"
        raise ConfigError("pattern has no named group", where=where, value=source.pattern, mend=mend)
    if source.schema is not None:
        mend = "leave schema out: the pattern's groups are the columns, all text"
        raise ConfigError("format text takes no schema", where=where, mend=mend)


def _check_rule(rule: RuleConfig, where: str) -> None:
    given = [name for name in _TESTS if getattr(rule, name) is not None]
    if len(given) != 1:
        raise ConfigError("a rule has exactly one test", where=where, value=given, mend=f"one of {', '.join(_TESTS)}")
    test = given[0]
    if test not in ("keep_if", "robot") and rule.column not in CANONICAL:
        raise ConfigError(f"{test} needs a column of events", where=where, value=rule.column)
    if test in ("range", "outlier") and EVENTS.column(str(rule.column)).type.ddl != "double":
        raise ConfigError(f"{test} needs a column of numbers", where=where, value=rule.column, mend="value is one")
    if rule.by is not None and rule.by not in CANONICAL:
        raise ConfigError("by is no column of events", where=where, value=rule.by)
    if rule.policy is Policy.clip and test not in ("range", "outlier"):
        raise ConfigError("only range and outlier can clip", where=where, value=test)
    if rule.range is not None and (len(rule.range) != 2 or rule.range[0] > rule.range[1]):
        raise ConfigError("range is not [low, high]", where=where, value=rule.range)

"""The search space: which configuration keys vary, and how. One YAML file a space, strict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any, Protocol, cast, get_args

from optuna.trial import Trial

from behavior_lib.config.keys import flatten, leaf_types, unknown_key
from behavior_lib.config.loader import find_yaml, read_yaml
from behavior_lib.config.schema import Config
from behavior_lib.errors import ConfigError
from behavior_lib.models.base import ModelSpec
from behavior_lib.train.settings import WITHOUT_EFFECT, FitSettings

Value = bool | int | float | str
FOLDER = "tune"  # of conf
_LOW, _HIGH, _LOG, _CHOICES = _WORDS = ("low", "high", "log", "choices")
_LEAVES = leaf_types(Config)


class Range(Protocol):
    """How one configuration key varies."""

    def suggest(self, key: str, trial: Trial) -> Value:
        """The trial's value; the same trial is given the same value again."""

    def holds(self, value: Value) -> bool:
        """Whether a trial could be given the value."""


@dataclass(frozen=True)
class Between:
    """A number from low to high, both included; a whole one where both are int. log: even over magnitudes."""

    low: float
    high: float
    log: bool = False

    def suggest(self, key: str, trial: Trial) -> Value:
        """A number."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(key, self.low, self.high, log=self.log)
        return trial.suggest_float(key, self.low, self.high, log=self.log)

    def holds(self, value: Value) -> bool:
        """By size; null has none."""
        return value is not None and not isinstance(value, str) and self.low <= value <= self.high


@dataclass(frozen=True)
class OneOf:
    """One of some values, which have no order."""

    choices: tuple[Value, ...]

    def suggest(self, key: str, trial: Trial) -> Value:
        """One of them."""
        return cast(Value, trial.suggest_categorical(key, self.choices))

    def holds(self, value: Value) -> bool:
        """By equality."""
        return value in self.choices


@dataclass(frozen=True)
class Space:
    """Configuration key → range, in the order of the keys, whatever the order of the file."""

    ranges: Mapping[str, Range]

    def suggest(self, trial: Trial) -> dict[str, Value]:
        """A value for every key."""
        return {key: spread.suggest(key, trial) for key, spread in self.ranges.items()}

    def holds(self, values: Mapping[str, Value]) -> bool:
        """Whether a trial could have these values of all keys."""
        return all(spread.holds(values[key]) for key, spread in self.ranges.items())


def tunable() -> dict[str, Any]:
    """Configuration key → type, of the keys that can vary: of `model` and `train` what decides what is learned."""
    names = {field.name for kind in (ModelSpec, FitSettings) for field in fields(kind)} - set(WITHOUT_EFFECT)
    decide = {key: hint for key, hint in _LEAVES.items() if key.split(".")[0] in ("model", "train")}
    return {key: hint for key, hint in decide.items() if key.split(".")[1] in names}


def read_space(name: str) -> Space:
    """The space of a name in conf/tune, or of a path to a YAML file.

    Raises ConfigError where a key does not exist or cannot vary, and where a range holds fewer than two values or
    values that the key does not take.
    """
    path = find_yaml(name, FOLDER, "space")
    where = f"space {path.name}"
    given = flatten(read_yaml(path), _LEAVES, where)
    if not given:
        mend = "name keys and their ranges as conf/tune/default.yaml does"
        raise ConfigError("nothing varies", where=where, mend=mend)
    return Space({key: _range(key, given[key], where) for key in sorted(given)})


def _range(key: str, given: Any, where: str) -> Range:
    if key not in tunable():
        mend = "what decides what is learned can: keys of model, and most of train"
        raise ConfigError(f"{key} cannot vary", where=where, mend=mend)
    words = {str(word) for word in given} if isinstance(given, dict) else set()
    for word in sorted(words - set(_WORDS)):
        raise unknown_key(f"{key}.{word}", [f"{key}.{known}" for known in _WORDS], where)
    if words == {_CHOICES}:
        return _one_of(key, given[_CHOICES], where)
    if {_LOW, _HIGH} <= words <= {_LOW, _HIGH, _LOG}:
        return _between(key, given[_LOW], given[_HIGH], given.get(_LOG, False), where)
    mend = "write {low: …, high: …}, with log: true or without, or {choices: […]}"
    raise ConfigError(f"{key} has no range", where=where, value=given, mend=mend)


def _one_of(key: str, choices: Any, where: str) -> OneOf:
    values = [_value(key, choice, where) for choice in choices] if isinstance(choices, list) else []
    if len(set(values)) < max(2, len(values)):
        mend = "write two or more, all different"
        raise ConfigError(f"{key}.choices leaves no choice", where=where, value=choices, mend=mend)
    return OneOf(tuple(values))


def _between(key: str, low: Any, high: Any, log: Any, where: str) -> Between:
    if _kind(key) not in (int, float):
        raise ConfigError(f"{key} is no number", where=where, mend="give it choices")
    low, high = _value(key, low, where), _value(key, high, where)
    if not low < high:
        raise ConfigError(f"{key}.low is not below {key}.high", where=where, value=[low, high])
    if not isinstance(log, bool):
        raise ConfigError(f"{key}.log is neither true nor false", where=where, value=log)
    if log and low <= 0:
        raise ConfigError(f"{key}.low must be above 0 where log is true", where=where, value=low)
    return Between(low, high, log)


def _kind(key: str) -> type:
    """The type of a key's values, without null."""
    hint = tunable()[key]
    kind: type = next((part for part in get_args(hint) if part is not type(None)), hint)
    return kind


def _value(key: str, value: Any, where: str) -> Any:
    """The value as the key takes it. Raises ConfigError where it does not."""
    kind = _kind(key)
    if issubclass(kind, Enum):
        taken, what = isinstance(value, str) and value in kind.__members__, f"one of {', '.join(kind.__members__)}"
    elif kind is float:
        taken, what = type(value) in (int, float) and math.isfinite(value), "numbers"
    else:
        taken, what = type(value) is kind, {int: "whole numbers", bool: "true or false"}.get(kind, "texts")
    if not taken:
        raise ConfigError(f"{key} takes {what}", where=where, value=value)
    return float(value) if kind is float else value

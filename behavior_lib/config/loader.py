"""Merged configuration: base < named model < environment < job < --set, each key checked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from behavior_lib.config.keys import flatten, is_free, is_text, leaf_types, nearest, nest, owner, unknown_key
from behavior_lib.config.privacy import SECTION, key_places
from behavior_lib.config.schema import Config
from behavior_lib.errors import ConfigError
from behavior_lib.layout import conf_root

COMMAND_LINE = "--set"
_LEAVES = leaf_types(Config)


@dataclass(frozen=True)
class Loaded:
    """A merged configuration. `origin`: dotted key → the layer that set it last; keys absent there are defaults."""

    config: Config
    tree: DictConfig
    origin: Mapping[str, str]
    environment: str
    overrides: tuple[str, ...]

    def for_job(self, job: str, more: Sequence[str] = ()) -> Loaded:
        """The same command line for another job. more: KEY=VALUE texts that come after its own."""
        return load(self.environment, job, (*self.overrides, *more))

    def value(self, key: str) -> Any:
        """The merged value of one key, as YAML writes it."""
        value = OmegaConf.select(self.tree, key)
        if OmegaConf.is_config(value):
            return OmegaConf.to_container(value, resolve=True, enum_to_str=True)
        return getattr(value, "value", value)

    def digest(self, *sections: str) -> str:
        """SHA-256 of the merged values of some sections or keys, of all without any; first 16 hex digits."""
        whole, keys = [name for name in sections if "." not in name], [name for name in sections if "." in name]
        chosen = OmegaConf.masked_copy(self.tree, whole) if sections else self.tree
        text = OmegaConf.to_yaml(chosen, sort_keys=True) + "".join(f"{key}: {self.value(key)!r}\n" for key in keys)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def lines(self) -> list[str]:
        """One `key: value  # layer` line a key, sorted. What comes from the environment is shown by name only."""
        return [self._line(key) for key in sorted(_LEAVES)]

    def _line(self, key: str) -> str:
        *sections, name = key.split(".")
        parent = cast(DictConfig, OmegaConf.select(self.tree, ".".join(sections)) if sections else self.tree)
        raw = str(cast(dict[str, Any], OmegaConf.to_container(parent, resolve=False))[name])
        if "oc.env" in raw:
            value: Any = raw
        else:
            value = OmegaConf.select(self.tree, key, default="???")
            value = OmegaConf.to_container(value) if OmegaConf.is_config(value) else getattr(value, "value", value)
        text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True).removesuffix("\n...\n")
        return f"{key}: {text.strip()}  # {self.origin.get(key, 'default')}"


def load(environment: str, job: str | None = None, overrides: Sequence[str] = ()) -> Loaded:
    """Merge the layers for one command.

    environment: a name in conf/env, or a path to a YAML file. overrides: KEY=VALUE texts.
    Raises ConfigError for an unknown key, a value of the wrong type, or a key without a value.
    """
    typed = _parse_overrides(overrides)
    layers = [_file_layer(conf_root() / "base.yaml"), _environment_layer(environment)]
    job_file = conf_root() / "jobs" / f"{job}.yaml"
    if job is not None and job_file.exists():
        layers.append(_file_layer(job_file))
    layers.append((COMMAND_LINE, typed))
    layers.insert(1, _model_layer(layers))
    tree: DictConfig = OmegaConf.structured(Config)
    origin: dict[str, str] = {}
    for name, flat in layers:
        origin |= dict.fromkeys(flat, name)
        tree = _merge(tree, flat, name)
    return Loaded(_to_config(tree), tree, origin, environment, tuple(overrides))


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Dates stay text. Raises ConfigError where it is missing or no mapping."""
    try:
        tree = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except FileNotFoundError:
        raise ConfigError("no such file", where=str(path)) from None
    except (OSError, yaml.YAMLError, UnicodeDecodeError, OmegaConfBaseException) as error:
        raise ConfigError("not a readable YAML file", where=str(path), value=" ".join(str(error).split())) from None
    if not isinstance(tree, dict):
        raise ConfigError("not a mapping of keys to values", where=str(path))
    return cast(dict[str, Any], tree)


def find_yaml(name: str, folder: str, what: str) -> Path:
    """A YAML file by its name in conf/<folder>, or by its path. Raises ConfigError naming the nearest known one."""
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise ConfigError(f"no such {what} file", where=name)
        return Path(name)
    known = {path.stem: path for path in (conf_root() / folder).glob("*.yaml")}
    if name not in known:
        near = nearest(name, known)
        mend = f"did you mean {near}?" if near else f"known: {', '.join(sorted(known))}, or a path to a YAML file"
        raise ConfigError(f"unknown {what}", value=name, mend=mend)
    return known[name]


def _file_layer(path: Path) -> tuple[str, dict[str, Any]]:
    name = str(path.relative_to(conf_root().parent)) if path.is_relative_to(conf_root().parent) else str(path)
    return name, flatten(read_yaml(path), _LEAVES, name)


def _environment_layer(environment: str) -> tuple[str, dict[str, Any]]:
    return _file_layer(find_yaml(environment, "env", "environment"))


def _model_layer(layers: Sequence[tuple[str, dict[str, Any]]]) -> tuple[str, dict[str, Any]]:
    name = Config().model.name
    for _, flat in layers:
        name = flat.get("model.name", name)
    path = find_yaml(name, "models", "model")
    where = f"conf/models/{path.name}"
    return where, flatten({"model": read_yaml(path)}, _LEAVES, where)


def _parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError("an override is not KEY=VALUE", where=COMMAND_LINE, value=text)
        leaf = owner(key, _LEAVES)
        if leaf is None:
            raise unknown_key(key, _LEAVES, COMMAND_LINE)
        if is_free(_LEAVES[leaf]) and key != leaf:
            flat.setdefault(leaf, {})[key.removeprefix(leaf + ".")] = value
        else:
            flat[leaf] = _parse_value(key, value)
    return flat


def _parse_value(key: str, text: str) -> Any:
    if is_text(_LEAVES[key]):
        return None if text == "null" else text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"cannot read the value of {key}", where=COMMAND_LINE, value=text) from None


def _merge(tree: DictConfig, flat: Mapping[str, Any], layer: str) -> DictConfig:
    for key, value in flat.items():
        try:
            tree = cast(DictConfig, OmegaConf.merge(tree, nest({key: value})))
        except OmegaConfBaseException as error:
            if key.startswith(SECTION):
                # Whoever wrote a key in the wrong place must not find it in a log.
                raise ConfigError(f"{key} has a value of the wrong type", where=layer) from None
            reason = str(error).splitlines()[0]
            raise ConfigError(f"{key} has a value of the wrong type ({reason})", where=layer, value=value) from None
    return tree


def _to_config(tree: DictConfig) -> Config:
    unresolved = OmegaConf.to_container(tree, resolve=False)
    missing = [key for key, value in flatten(unresolved, _LEAVES, "").items() if value == MISSING]  # type: ignore[arg-type]
    if missing:
        raise ConfigError(f"{missing[0]} has no value", mend=f"add --set {missing[0]}=… or set it in the --env file")
    try:
        config = cast(Config, OmegaConf.to_object(tree))
    except OmegaConfBaseException as error:
        raise ConfigError("a value cannot be resolved", value=str(error).splitlines()[0]) from None
    key_places(config.privacy)
    if not 0 <= config.seed < 2**32:
        raise ConfigError("a seed must be a number from 0 to 4294967295", value=config.seed, mend="--set seed=…")
    return config

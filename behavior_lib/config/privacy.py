"""Where the keys of pseudonyms lie. The configuration names the places, never the keys."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from behavior_lib.config.schema import PrivacyConfig
from behavior_lib.errors import ConfigError

SECTION = "privacy."
_VERSION = re.compile(r"v[1-9][0-9]{0,8}")
_ENVIRONMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class PlaceKind(str, Enum):
    """The first word of a place."""

    env = "env"
    file = "file"


@dataclass(frozen=True)
class KeyPlace:
    """Where one key lies: the name of an environment variable, or the path of a file."""

    kind: PlaceKind
    name: str


def key_places(privacy: PrivacyConfig) -> dict[str, KeyPlace]:
    """Version → place, the oldest version first.

    Raises ConfigError, which never repeats a value, for it may be a key: where a version is not v1, v2, …, where a
    place is neither env:NAME nor file:PATH, and where pseudonyms are wanted and there is no key.
    """
    if privacy.pseudonymize and not privacy.keys:
        raise ConfigError("privacy.pseudonymize needs a key", mend="set privacy.keys.v1 to env:NAME or file:PATH")
    return {version: _place(version, privacy.keys[version]) for version in sorted(privacy.keys, key=number)}


def number(version: str) -> int:
    """v12 → 12. Raises ConfigError where the version is not v1, v2, …"""
    if _VERSION.fullmatch(version) is None:
        raise ConfigError("a key's version is not v1, v2, …", where=f"{SECTION}keys")
    return int(version[1:])


def _place(version: str, text: str) -> KeyPlace:
    kind, colon, name = text.partition(":")
    if not colon or kind not in PlaceKind.__members__ or not name:
        mend = "write env:NAME or file:PATH; the key itself does not belong into the configuration"
        raise ConfigError("not a place of a key", where=f"{SECTION}keys.{version}", mend=mend)
    if kind == PlaceKind.env and _ENVIRONMENT.fullmatch(name) is None:
        mend = "write env:NAME with the variable's name"
        raise ConfigError("not the name of an environment variable", where=f"{SECTION}keys.{version}", mend=mend)
    return KeyPlace(PlaceKind(kind), name)

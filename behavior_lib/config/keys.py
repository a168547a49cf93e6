"""The keys of a dataclass tree: what is known, and which known one an unknown one was meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from behavior_lib.errors import ConfigError


def leaf_types(schema: type, prefix: str = "") -> dict[str, Any]:
    """Dotted key → type, for every leaf below `schema`. A dict or list field is one leaf."""
    hints = get_type_hints(schema)
    leaves: dict[str, Any] = {}
    for field in fields(schema):
        hint, key = hints[field.name], prefix + field.name
        if isinstance(hint, type) and is_dataclass(hint):
            leaves |= leaf_types(hint, key + ".")
        else:
            leaves[key] = hint
    return leaves


def is_free(hint: Any) -> bool:
    """Whether the leaf is a mapping, whose keys are the user's own."""
    return any(get_origin(part) is dict for part in (hint, *get_args(hint)))


def is_text(hint: Any) -> bool:
    """Whether the leaf holds text, which is taken as typed and never read as a number or a date."""
    return hint is str or (str in get_args(hint) and get_origin(hint) is not dict and get_origin(hint) is not list)


def owner(key: str, leaves: Mapping[str, Any]) -> str | None:
    """The leaf that `key` sets: itself, or the mapping that it lies in; None where there is none."""
    if key in leaves:
        return key
    return next((leaf for leaf, hint in leaves.items() if is_free(hint) and key.startswith(leaf + ".")), None)


def unknown_key(key: str, known: Iterable[str], where: str) -> ConfigError:
    """The error for a key that does not exist."""
    near = nearest(key, known)
    return ConfigError(f"unknown key {key}", where=where, mend=f"did you mean {near}?" if near else "")


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like `word`, by its whole text or by its last part; None where nothing is alike."""
    choices = sorted(known)
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    if close:
        return close[0]
    last_parts = {choice.rsplit(".", 1)[-1]: choice for choice in reversed(choices)}
    close = difflib.get_close_matches(word.rsplit(".", 1)[-1], last_parts, n=1, cutoff=0.6)
    return last_parts[close[0]] if close else None


def flatten(tree: Mapping[str, Any], leaves: Mapping[str, Any], where: str, prefix: str = "") -> dict[str, Any]:
    """Nested mapping → dotted leaves. Raises ConfigError for a key that `leaves` does not know."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if key in leaves:
            flat[key] = value
        elif any(leaf.startswith(key + ".") for leaf in leaves):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{key} is a section and takes keys", where=where, value=value)
            flat |= flatten(value, leaves, where, key + ".")
        else:
            raise unknown_key(key, leaves, where)
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted leaves → nested mapping."""
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *sections, name = key.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    return tree

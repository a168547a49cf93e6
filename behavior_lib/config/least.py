"""Numbers of the configuration that cannot be below a bound."""

from __future__ import annotations

from collections.abc import Mapping

from behavior_lib.errors import ConfigError


def check_least(section: str, keys: object, least: Mapping[str, float]) -> None:
    """Raises ConfigError for the first key of a section that is below its least value. None is below nothing."""
    for key, lowest in least.items():
        value = getattr(keys, key)
        if value is not None and value < lowest:
            mend = f"--set {section}.{key}=…"
            raise ConfigError(f"{section}.{key} must be at least {lowest}", value=value, mend=mend)

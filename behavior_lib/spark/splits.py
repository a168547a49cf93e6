"""Where the global time split cuts."""

from __future__ import annotations

from datetime import datetime, timedelta

from behavior_lib.config.schema import SplitConfig
from behavior_lib.config.source import SourceSplit
from behavior_lib.errors import ConfigError


def cuts(config: SplitConfig, source: SourceSplit, newest: datetime) -> tuple[datetime, datetime]:
    """The validation cut and the test cut, UTC.

    Each is the configuration's, else the source's, else `days` before what follows it. newest: the newest event time.
    Raises ConfigError where a cut is no time or the validation cut is not before the test cut.
    """
    window = timedelta(days=config.days)
    end = datetime(newest.year, newest.month, newest.day) + timedelta(days=1)
    test = _time(config.test or source.test, "split.test") or end - window
    validation = _time(config.validation or source.validation, "split.validation") or test - window
    if validation >= test:
        raise ConfigError("split.validation is not before split.test", value=f"{validation} and {test}")
    return validation, test


def _time(text: str | None, key: str) -> datetime | None:
    try:
        return None if text is None else datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"{key} is no date or time", value=text, mend="write 2017-11-01 or 2017-11-01T06:00:00"
        ) from None

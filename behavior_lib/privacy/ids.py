"""The file of ids to forget. No error repeats an id: it would live on in a log."""

from __future__ import annotations

import re
from pathlib import Path

from behavior_lib.errors import ConfigError, DataRefused

MAX_LENGTH = 1024  # no event has a longer user id
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def read_ids(path: str | None) -> dict[str, int]:
    """Each id of the file, and the number of the line that it stands on first. Blank lines are left out.

    Raises ConfigError where there is no such file, DataRefused where it holds no id or something that is none.
    """
    if path is None:
        raise ConfigError("forget.ids has no value", mend="name a file of user ids, one a line: --ids FILE")
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError("no such file", where=path) from None
    except UnicodeDecodeError:
        raise DataRefused("the file of ids is not UTF-8", where=path) from None
    except (OSError, ValueError) as error:
        raise ConfigError("not a readable file", where=repr(path), value=str(error)) from None
    ids: dict[str, int] = {}
    for line, name in enumerate(text.split("\n"), start=1):
        name = name.removesuffix("\r")
        where = f"line {line} of {path}"
        if _CONTROL.search(name):
            raise DataRefused("an id holds a control character", where=where, mend="write one id a line")
        if len(name) > MAX_LENGTH:
            raise DataRefused(f"an id is longer than {MAX_LENGTH} characters", where=where, value=len(name))
        if name.strip():
            ids.setdefault(name, line)
    if not ids:
        raise DataRefused("there is no id", where=path, mend="write one id a line")
    return ids

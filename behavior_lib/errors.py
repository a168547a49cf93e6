"""Every error that the library raises on purpose, and the exit code that it ends a command with."""

from __future__ import annotations

from typing import Any


class BehaviorError(Exception):
    """One sentence: what is wrong, where, the offending value, and the mend.

    what: the complaint, without a full stop. where: a file, table, column or key. value: the offending value, shown
    as Python shows it. mend: what to type or change. `exit_code` is what a command ends with.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", value: Any = None, mend: str = "") -> None:
        self.what, self.where, self.value, self.mend = what, where, value, mend
        sentence = what
        if where:
            sentence += f" in {where}"
        if value is not None:
            sentence += f": {_short(value)}"
        if mend:
            sentence += f"; {mend}"
        super().__init__(sentence)


class ConfigError(BehaviorError):
    """The command line or a configuration file is wrong."""

    exit_code = 2


class EnvironmentProblem(BehaviorError):
    """The machine lacks something: a Java version, a writable folder, a free port."""


class TrainingFailed(BehaviorError):
    """A training run ended without a usable model."""


class DataRefused(BehaviorError):
    """The data cannot be taken as it is; nothing of it was written."""

    exit_code = 3


class LawBroken(DataRefused):
    """rows_read differs from rows_accepted + rows_duplicate + rows_quarantined + rows_late."""


class ContractBroken(DataRefused):
    """A frame does not match the TableSpec that it is to be written to."""


class BatchConflict(DataRefused):
    """A batch id came back with other files."""


class Occupied(BehaviorError):
    """Another run is at the same work, or holds the same table."""


class TornFiles(DataRefused):
    """Raw files end too early; what else the batch had was taken."""


class GateNotPassed(DataRefused):
    """A model is not good enough to become the champion."""


def _short(value: Any, limit: int = 200) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"

"""Spark's exceptions as one sentence of ours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException

from behavior_lib.errors import (
    BehaviorError,
    ConfigError,
    ContractBroken,
    DataRefused,
    EnvironmentProblem,
    Occupied,
    TornFiles,
)
from behavior_lib.spark.raw_files import RawFile

_FILE = re.compile(
    r"(?:FAILED_READ_FILE[^\n]*?(?:reading|process)[^\n]*? file:? |path:? ?)([a-z0-9]+:/[^\s,'\"]+?)\.?(?=[\s,'\"]|$)"
)
_WORTH_SHOWING = 160

# What the text says, the error that it is, what is wrong, and the mend. The first that fits is told; where the pattern
# has a group, what it found is the offending value.
_KNOWN: tuple[tuple[str, type[BehaviorError], str, str], ...] = (
    (
        r"Unexpected end of input stream|EOFException",
        TornFiles,
        "a compressed file ends too early",
        "write the file again whole and rerun; nothing of the batch was taken",
    ),
    (
        r"not in gzip format|incorrect header check|ZipException",
        TornFiles,
        "a file is not the compressed file that its name says",
        "write it again",
    ),
    (
        r"is not a Parquet file|CANNOT_READ_FILE_FOOTER|Could not read footer",
        TornFiles,
        "a Parquet file is not whole",
        "write the file again whole and rerun; nothing of the batch was taken",
    ),
    (
        r"DELTA_CONCURRENT|DELTA_METADATA_CHANGED|ConcurrentTransactionException",
        Occupied,
        "another run wrote the same table at the same time",
        "run again when it is done",
    ),
    (
        r"numbers of table \w+ were given meanwhile|buckets_from_\d|item_index NOT BETWEEN",
        Occupied,
        "another run gave numbers at the same time",
        "run again when it is done",
    ),
    (
        r"two rows have one key of (table [^\n]*?)(?: SQLSTATE|\n|$)",
        ContractBroken,
        "two rows that were to be written have one key",
        "nothing was written; report it with the ledger's row",
    ),
    (
        r"(?m)^.*?((?:\[?CAST_INVALID_INPUT|\[?CANNOT_PARSE_TIMESTAMP).*)$",
        DataRefused,
        "a value cannot be read as its type",
        "use try_cast or try_to_timestamp in the source",
    ),
    (
        r"(?m)(?:INVALID_PARAMETER_VALUE\.PATTERN\]|PatternSyntaxException:) ?([^\n]*)",
        ConfigError,
        "a pattern of the source is no Java regular expression",
        "correct the source's YAML",
    ),
    (
        r"FIELD_NOT_FOUND\] ?([^\n]*)",
        ConfigError,
        "a field that the source names is not in its files",
        "correct the source's YAML",
    ),
    (
        r"\[?PARSE_SYNTAX_ERROR\]? ?([^\n]*)",
        ConfigError,
        "an expression of the source is not Spark SQL",
        "correct the source's YAML",
    ),
    (
        r"(?m)^(.*(?:Permission denied|Read-only file system|Mkdirs failed|mkdir of|Unable to create).*)$",
        EnvironmentProblem,
        "a folder cannot be written",
        "check paths.warehouse and paths.var",
    ),
    (
        r"Address already in use|BindException",
        EnvironmentProblem,
        "a port is in use",
        "set spark.conf.spark.driver.port or spark.conf.spark.ui.port to another",
    ),
    (
        r"No space left on device",
        EnvironmentProblem,
        "the disk is full",
        "free space under paths.warehouse or spark.local.dir",
    ),
    (
        r"OutOfMemoryError",
        EnvironmentProblem,
        "Spark ran out of memory",
        "raise spark.driver_memory or spark.conf.spark.executor.memory",
    ),
)


def explain(error: BaseException, *, withhold: bool = False) -> BehaviorError:
    """The error that a user is told, for any exception that a job ended with.

    withhold: leave out a value that Spark repeats from the data.
    """
    if isinstance(error, BehaviorError):
        return error
    told = _explain(error)
    if withhold and not isinstance(told, ConfigError | EnvironmentProblem):
        return type(told)(told.what, where=told.where, mend=told.mend or "privacy.pseudonymize withholds the value")
    return told


def _explain(error: BaseException) -> BehaviorError:
    if isinstance(error, PySparkException | Py4JError):
        return _explain_spark(str(error))
    if isinstance(error, PermissionError | FileNotFoundError | NotADirectoryError | IsADirectoryError):
        reason = error.strerror or "cannot use a file"
        return EnvironmentProblem(reason, where=str(error.filename), mend="check the path and who may write there")
    if isinstance(error, KeyboardInterrupt):
        return BehaviorError("interrupted", mend="run the same command again to go on")
    first = str(error).splitlines()[0] if str(error) else "no message"
    return BehaviorError(f"{type(error).__name__}: {first}")


def torn_file(error: Exception, files: Sequence[RawFile]) -> tuple[TornFiles, RawFile] | tuple[None, None]:
    """Which of the files the error calls torn, and the error that a user is told; None and None for any other."""
    problem = explain(error)
    if not isinstance(problem, TornFiles):
        return None, None
    names = {_plain(file.path): file for file in files}
    file = names.get(_plain(problem.where))
    return (problem, file) if file is not None else (None, None)


def _plain(uri: str) -> str:
    """Spark writes one file as file:/a b, file:///a b or file:///a%20b."""
    return re.sub(r"^([a-z0-9]+):/+", r"\1:/", unquote(uri))


def _explain_spark(text: str) -> BehaviorError:
    """Spark says where and what in many words; the words that name the mend are looked for."""
    if "UNRESOLVED_COLUMN" in text:
        names = re.findall(r"`([^`]+)`", text)
        mend = f"the files have {', '.join(names[1:4])}" if names[1:] else "correct the source's YAML"
        return ConfigError("a column that the source names is not in its files", value=names[0], mend=mend)
    if "PATH_NOT_FOUND" in text:
        path = re.search(r"exist: (\S+?)\.?(?:\s|$)", text)
        mend = "check paths.raw and the source's path"
        return ConfigError("no such file or folder", value=path[1] if path else None, mend=mend)
    file = _FILE.search(text)
    where = file[1] if file else ""
    for pattern, error, what, mend in _KNOWN:
        found = re.search(pattern, text)
        if found is not None:
            value = found[1].strip()[:_WORTH_SHOWING] if found.groups() else None
            return error(what, where=where, value=value, mend=mend)
    return BehaviorError("Spark failed", value=_cause(text))


def _cause(text: str) -> str:
    """The innermost reason in a Java stack trace, else the first line that is no frame of it."""
    causes = re.findall(r"Caused by: ([^\n]+)", text)
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("\tat ")]
    told = [line for line in lines if not line.startswith("An error occurred while calling")]
    return str((causes or [*told, *lines, "no message"][:1])[-1])

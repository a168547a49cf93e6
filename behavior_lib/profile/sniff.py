"""Which format a file has, by its name and its first lines."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from behavior_lib.profile.names import words

_ENDINGS = {
    **dict.fromkeys(("json", "jsonl", "ndjson"), "json"),
    **dict.fromkeys(("csv", "tsv"), "csv"),
    **dict.fromkeys(("parquet", "pq"), "parquet"),
}
_PACKED = {"gz", "bz2", "zst", "lz4", "snappy", "deflate"}
_DELIMITERS = (",", "\t", ";", "|")
_VALUE = re.compile(r"[-+]?[\d.,:/ TZ-]+|")


@dataclass(frozen=True)
class Format:
    """A Spark reader's name and its options, and how both were told."""

    name: str
    options: dict[str, str] = field(default_factory=dict)
    reason: str = ""


def by_name(path: str) -> str | None:
    """The format that a file's ending says, below the ending of its compression; None where it says nothing."""
    endings = path.lower().rsplit("/", 1)[-1].split(".")[1:]
    while endings and endings[-1] in _PACKED:
        endings.pop()
    return _ENDINGS.get(endings[-1]) if endings else None


def by_content(lines: Sequence[str]) -> str:
    """The format that the first lines look like: what is neither Parquet nor JSON is CSV."""
    first = next((line.strip() for line in lines if line.strip()), "")
    if first.startswith("PAR1"):
        return "parquet"
    return "json" if first[:1] in ("{", "[") else "csv"


def sniff(path: str, lines: Sequence[str], format_name: str | None = None) -> Format:
    """The format of a file. lines: its first lines, unpacked. format_name: where the user says it."""
    told, named = format_name, by_name(path)
    name = told or named or by_content(lines)
    reason = "as told" if told else "by the file's ending" if named else "by the first lines"
    if name == "json":
        return Format(name, _json_options(lines), reason)
    if name == "csv":
        return Format(name, csv_options(lines), reason)
    return Format(name, {}, reason)


def csv_options(lines: Sequence[str]) -> dict[str, str]:
    """Spark's options: delimiter where it is no comma, header, and how quotation marks are written."""
    text = [line for line in lines if line.strip()]
    delimiter = max(_DELIMITERS, key=lambda mark: (_agreement(text, mark), -_DELIMITERS.index(mark)))
    options = {"header": str(_has_header(text, delimiter)).lower()}
    if delimiter != ",":
        options["sep"] = delimiter
    # A quotation mark inside a text is doubled (RFC 4180), unless a backslash is seen before one.
    if not any('\\"' in line for line in text):
        options |= {"quote": '"', "escape": '"'}
    if any(line.replace('\\"', "").count('"') % 2 for line in text):
        options["multiLine"] = "true"
    return options


def _agreement(lines: Sequence[str], delimiter: str) -> tuple[float, int]:
    """Share of lines that have as many fields as the first, and that many; (0, 0) for one field."""
    widths = [len(row) for row in csv.reader(lines, delimiter=delimiter)]
    if not widths or widths[0] < 2:
        return 0.0, 0
    return sum(width == widths[0] for width in widths) / len(widths), widths[0]


def _has_header(lines: Sequence[str], delimiter: str) -> bool:
    """Whether the first line names columns: each field a word, no two alike, none of them a number or a time."""
    first = next(csv.reader(lines[:1], delimiter=delimiter), [])
    is_named = all(words(name) and not _VALUE.fullmatch(name.strip()) for name in first)
    return bool(first) and is_named and len(set(first)) == len(first)


def _json_options(lines: Sequence[str]) -> dict[str, str]:
    """Spark reads one object a line; an array, or an object over several lines, needs multiLine."""
    first = next((line.strip() for line in lines if line.strip()), "{}")
    try:
        is_line = isinstance(json.loads(first), dict)
    except ValueError:
        is_line = first not in ("{", "[") and not first.startswith("[")
    return {} if is_line else {"multiLine": "true"}

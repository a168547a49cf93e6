"""Facts about raw rows: columns, duplicates, a key. A few passes over a cached frame, all of them aggregations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from behavior_lib.profile.facts import ColumnFacts, RowFacts
from behavior_lib.profile.guesses import quoted
from behavior_lib.profile.keys import SIZE, likely_keys
from behavior_lib.profile.times import BY_NAME, likely_formats
from behavior_lib.spark.raw_files import UNREADABLE, RawFile

HEAD_ROWS = 1000
_TOP, _COUNTABLE = 5, 1000
_NESTED = ("struct", "array", "map", "binary")
_ACCURACY = 0.02
# So many of the first rows tell which sets of columns are no key; so many of the others are counted over all rows.
_KEY_ROWS, _EXACT_COUNTS = 50_000, 5
_ABSENT = "\x00"


def column_facts(readable: DataFrame) -> list[ColumnFacts]:
    """Facts of each raw column. readable: raw rows that could be read, without `_unreadable`.

    The patterns of times are guessed from the first rows and counted over all of them. Two passes and a look at the
    head.
    """
    head = readable.limit(HEAD_ROWS).collect()
    formats = {name: _formats(readable, name, head) for name in readable.columns}
    values = {name: _value(readable, name) for name in readable.columns}
    wanted = [F.count("*").alias("rows")]
    for place, name in enumerate(readable.columns):
        wanted += _aggregates(place, name, values[name], formats[name], readable.schema[name].dataType.simpleString())
    found = readable.agg(*wanted).first()
    assert found is not None
    top = _top_values(readable, values, found)
    return [
        _facts(found, place, name, readable.schema[name].dataType.simpleString(), formats[name], top.get(place, ()))
        for place, name in enumerate(readable.columns)
    ]


def row_facts(raw: DataFrame, files: Sequence[RawFile]) -> RowFacts:
    """Counts of rows. Rows are compared by a 64-bit hash of all their columns."""
    readable = F.col(UNREADABLE).isNull()
    names = [name for name in raw.columns if name != UNREADABLE]
    row = raw.agg(
        F.count("*"), F.count_if(~readable), F.count_distinct(F.when(readable, _fingerprint(raw, names)))
    ).first()
    rows, unreadable, distinct = row or (0, 0, 0)
    return RowFacts(len(files), sum(file.size_bytes for file in files), rows, unreadable, rows - unreadable - distinct)


def find_key(readable: DataFrame, ranked: Sequence[str], distinct: int) -> tuple[list[str], str]:
    """Columns by which the distinct rows all differ, and how they were found.

    ranked: columns, the likeliest parts of a key first. distinct: rows that differ from one another. What the first
    rows already contradict is left out; of the rest the likeliest are counted over all rows, and in the end all columns
    are taken.
    """
    hashes = [_fingerprint(readable, [name]).alias(f"_{place}") for place, name in enumerate(ranked)]
    whole = _fingerprint(readable, readable.columns).alias("_row")
    head = readable.select(whole, *hashes).limit(_KEY_ROWS).collect()
    matrix = np.array([tuple(row) for row in head], dtype=np.int64)
    for places in likely_keys(matrix[np.unique(matrix[:, 0], return_index=True)[1], 1:])[:_EXACT_COUNTS]:
        names = [ranked[place] for place in places]
        if readable.select(_fingerprint(readable, names)).distinct().count() == distinct:
            what = "smallest set found" if len(names) <= SIZE else f"no set of {SIZE} columns found, but this one"
            return names, f"{what}: all {distinct:,} different rows of these files differ in it"
    return list(ranked), "no smaller set was found by which all rows of these files differ"


def _value(frame: DataFrame, name: str) -> Column:
    """A raw value as text; null where it is missing or nothing but space."""
    column, type_ = F.col(f"`{name}`"), frame.schema[name].dataType.simpleString()
    text = F.to_json(column) if type_.startswith(("struct", "array", "map")) else column.cast("string")
    return F.when(F.trim(text) != "", text)


def _formats(frame: DataFrame, name: str, head: Sequence[Row]) -> list[str]:
    type_ = frame.schema[name].dataType.simpleString()
    if type_ not in ("string", "bigint", "int", "double"):
        return []
    shown = [str(row[name]) for row in head if row[name] is not None and str(row[name]).strip()]
    return [form.name for form in likely_formats(name, shown)]


def _aggregates(place: int, name: str, value: Column, formats: Sequence[str], type_: str) -> list[Column]:
    number = F.expr(f"try_cast({quoted(name)} as double)") if type_ not in _NESTED and _is_plain(type_) else F.lit(None)
    number = number.cast("double")
    wanted = {
        "present": F.count(value),
        "distinct": F.approx_count_distinct(value, _ACCURACY),
        "integers": F.count_if(value.rlike(r"^\s*[-+]?\d{1,18}\s*$")),
        "numbers": F.count(number),
        "whole": F.count_if(value.rlike(r"^\s*[-+]?\d+[.]0+\s*$")),
        "spaced": F.count_if(F.trim(value).contains(" ")),
        "length": F.avg(F.length(value)),
        "low": F.min(F.substring(value, 1, 100)),
        "high": F.max(F.substring(value, 1, 100)),
        "number_low": F.min(number),
        "number_high": F.max(number),
    }
    for form in formats:
        wanted[f"time {form}"] = F.count(F.expr(BY_NAME[form].expression.format(quoted(name))))
    return [column.alias(f"{place} {fact}") for fact, column in wanted.items()]


def _is_plain(type_: str) -> bool:
    return not type_.startswith((*_NESTED, "timestamp", "date", "boolean"))


def _facts(
    found: Row, place: int, name: str, type_: str, formats: Sequence[str], top: tuple[tuple[str, int], ...]
) -> ColumnFacts:
    def fact(what: str) -> object:
        return found[f"{place} {what}"]

    return ColumnFacts(
        name=name,
        type=type_,
        rows=found["rows"],
        missing=found["rows"] - found[f"{place} present"],
        distinct=min(found[f"{place} distinct"], found[f"{place} present"]),
        integers=found[f"{place} integers"],
        numbers=found[f"{place} numbers"],
        whole=found[f"{place} whole"],
        spaced=found[f"{place} spaced"],
        mean_length=found[f"{place} length"] or 0.0,
        low=found[f"{place} low"],
        high=found[f"{place} high"],
        number_low=found[f"{place} number_low"],
        number_high=found[f"{place} number_high"],
        times={form: found[f"{place} time {form}"] for form in formats},
        top=top,
    )


def _top_values(readable: DataFrame, values: dict[str, Column], found: Row) -> dict[int, tuple[tuple[str, int], ...]]:
    """Place of the column → its most frequent values, of those columns that do not have too many."""
    few = [place for place in range(len(values)) if 0 < found[f"{place} distinct"] <= _COUNTABLE]
    if not few:
        return {}
    names = list(values)
    pairs = F.array(*(F.struct(F.lit(place).alias("place"), values[names[place]].alias("value")) for place in few))
    counts = readable.select(F.inline(pairs)).where("value is not null").groupBy("place", "value").count()
    entry = F.struct((-F.col("count")).alias("rank"), "value", "count")
    best = counts.groupBy("place").agg(F.slice(F.array_sort(F.collect_list(entry)), 1, _TOP).alias("best")).collect()
    return {row["place"]: tuple((entry["value"], entry["count"]) for entry in row["best"]) for row in best}


def _fingerprint(frame: DataFrame, names: Iterable[str]) -> Column:
    """64-bit hash of some columns. A null is a value of its own: a hash that skips it would make unequal rows equal."""
    parts = []
    for name in names:
        type_ = frame.schema[name].dataType.simpleString()
        column = F.col(f"`{name}`")
        text = F.to_json(column) if type_.startswith(("struct", "array", "map")) else column.cast("string")
        parts.append(F.coalesce(text, F.lit(_ABSENT)))
    return F.xxhash64(*parts)

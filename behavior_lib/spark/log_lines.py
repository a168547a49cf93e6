"""Lines of a log → raw columns, by a regular expression with named groups."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from behavior_lib.config.pattern import named_groups
from behavior_lib.spark.raw_files import UNREADABLE

LINE = "value"


def parse_lines(lines: DataFrame, pattern: str) -> DataFrame:
    """One row a line: a text column for each named group, and `_unreadable`, the line where the pattern does not match.

    lines: a column `value`, and what else belongs to the row. The whole line must match. A group that took no part in
    the match is an empty text; every column is null where the line does not match.
    """
    whole, line = f"^(?:{pattern})$", F.col(LINE)
    matches = line.rlike(whole)
    groups = [
        F.when(matches, F.regexp_extract(line, whole, number)).alias(name)
        for name, number in named_groups(pattern).items()
    ]
    others = [name for name in lines.columns if name != LINE]
    return lines.select(*groups, *others, F.when(~matches, line).alias(UNREADABLE))

"""What a table is: its columns, types, units, meaning, key and layout. Pure Python: no engine is imported."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class ColumnType:
    """A column type, written as Spark writes it: `string`, `array<int>`, `map<string,bigint>`."""

    ddl: str

    @property
    def element(self) -> ColumnType | None:
        """The type inside an array; None for every other type."""
        return ColumnType(self.ddl[6:-1]) if self.ddl.startswith("array<") else None

    @property
    def key_and_value(self) -> tuple[ColumnType, ColumnType] | None:
        """The types inside a map; None for every other type."""
        if not self.ddl.startswith("map<"):
            return None
        key, value = self.ddl[4:-1].split(",")
        return ColumnType(key), ColumnType(value)


STRING = ColumnType("string")
INT = ColumnType("int")
LONG = ColumnType("bigint")
FLOAT = ColumnType("float")
DOUBLE = ColumnType("double")
BOOLEAN = ColumnType("boolean")
TIMESTAMP = ColumnType("timestamp")
DATE = ColumnType("date")


def array_of(element: ColumnType) -> ColumnType:
    """`array<element>`."""
    return ColumnType(f"array<{element.ddl}>")


def map_of(key: ColumnType, value: ColumnType) -> ColumnType:
    """`map<key,value>`."""
    return ColumnType(f"map<{key.ddl},{value.ddl}>")


@dataclass(frozen=True)
class Column:
    """One column: its name, type, meaning (with the unit), and whether a row may leave it null."""

    name: str
    type: ColumnType
    meaning: str
    nullable: bool = False


@dataclass(frozen=True)
class TableSpec:
    """One table. `EVENTS.user_id` is the column's name, so that no name is written twice.

    grain: what one row is. key: columns whose values no two rows share. partition_by: folders of the table, in order.
    sort_by: order of the rows inside a file. append_only: rows are never changed or removed by a job.
    checks: name → SQL that every row meets; Delta refuses a write with a row that does not.
    filter_on: columns that jobs look rows up by, beside those of key and sort_by. keeps_files: readers take the files
    as their writer laid them out, so nothing else may arrange them anew.
    """

    name: str
    grain: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    partition_by: tuple[str, ...] = ()
    sort_by: tuple[str, ...] = ()
    append_only: bool = False
    checks: tuple[tuple[str, str], ...] = ()
    filter_on: tuple[str, ...] = ()
    keeps_files: bool = False

    @cached_property
    def column_names(self) -> tuple[str, ...]:
        """The names, in the order of the columns."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def statistics_columns(self) -> tuple[str, ...]:
        """Columns whose least and greatest value a file's entry in the log holds, so that readers skip files."""
        looked_up = dict.fromkeys((*self.sort_by, *self.key, *self.filter_on))
        return tuple(name for name in looked_up if name not in self.partition_by)

    def column(self, name: str) -> Column:
        """The column of that name. Raises KeyError where there is none."""
        return next(column for column in self.columns if column.name == name)

    def __getattr__(self, name: str) -> str:
        if not name.startswith("_") and name in self.column_names:
            return name
        raise AttributeError(f"table {self.__dict__.get('name', '?')} has no column {name}")

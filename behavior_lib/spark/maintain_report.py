"""What `behavior maintain` shows: one line a table."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from behavior_lib.spark.maintain import TableCare

_NUMBERS = (
    *("files", "before", "small", "partitions", "MB", "smallest kB", "median kB", "largest kB"),
    *("versions", "vacuumed"),
)


def care_table(cares: Mapping[str, TableCare]) -> Table:
    """One row a table. before: files before. small: files below maintain.target_file_mb. vacuumed: files removed."""
    shown = Table(box=None, header_style="bold", padding=(0, 1))
    shown.add_column("table", no_wrap=True)
    for name in _NUMBERS:
        shown.add_column(name, justify="right", no_wrap=True)
    for name, care in cares.items():
        files = care.after
        values = (
            f"{files.files:,}",
            f"{care.before.files:,}",
            f"{files.small:,}",
            f"{files.partitions:,}",
            f"{files.bytes / 1e6:,.1f}",
            *(f"{size / 1e3:,.1f}" for size in (files.smallest, files.median, files.largest)),
            f"{files.versions:,}",
            f"{care.files_removed:,}",
        )
        shown.add_row(name, *values)
    return shown

"""docs/tables.md, made from the TableSpecs: `python -m behavior_lib.tables.document`."""

from __future__ import annotations

from pathlib import Path

from behavior_lib.tables import ALL_TABLES, TableSpec

PATH = Path("docs/tables.md")
_HEAD = """# Tables

Generated from `behavior_lib/tables` by `python -m behavior_lib.tables.document`. All tables are Delta. Times are UTC.
"""


def document() -> str:
    """The whole page."""
    return "\n".join([_HEAD, *(_section(spec) for spec in ALL_TABLES)])


def _section(spec: TableSpec) -> str:
    facts = [f"Key: {_names(spec.key)}."]
    if spec.partition_by:
        facts.append(f"Partitioned by {_names(spec.partition_by)}.")
    if spec.sort_by:
        facts.append(f"Sorted inside a file by {_names(spec.sort_by)}.")
    if spec.append_only:
        facts.append("Append-only.")
    rows = [
        f"| `{column.name}` | {column.type.ddl} | {'yes' if column.nullable else ''} | {_escaped(column.meaning)} |"
        for column in spec.columns
    ]
    table = ["| column | type | may be null | meaning |", "|---|---|---|---|", *rows]
    return "\n".join([f"## {spec.name}", "", f"One row is {spec.grain}. {' '.join(facts)}", "", *table, ""])


def _escaped(text: str) -> str:
    """A bar ends the cell of a table."""
    return text.replace("|", "\\|")


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(document(), encoding="utf-8")

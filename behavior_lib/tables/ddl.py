"""TableSpec → the statement that creates the table."""

from __future__ import annotations

from behavior_lib.tables.spec import Column, TableSpec

CHECK_PREFIX = "delta.constraints."
_PROPERTIES = {
    # petastorm and pyarrow read the files themselves, so no row may be deleted by a side file.
    "delta.enableDeletionVectors": "false",
    "delta.autoOptimize.autoCompact": "false",
}


def create_table(spec: TableSpec, target: str) -> str:
    """`CREATE TABLE IF NOT EXISTS` for a target such as catalog.schema.name or delta.`/path`."""
    columns = ",\n".join(
        f"  `{column.name}` {column.type.ddl}{'' if column.nullable else ' NOT NULL'} COMMENT {_quoted(column.meaning)}"
        for column in spec.columns
    )
    properties = table_properties(spec) | {CHECK_PREFIX + name: condition for name, condition in spec.checks}
    told = ", ".join(f"'{key}' = {_quoted(value)}" for key, value in properties.items())
    partitions = f"\nPARTITIONED BY ({', '.join(spec.partition_by)})" if spec.partition_by else ""
    grain = _quoted(spec.grain)
    return (
        f"CREATE TABLE IF NOT EXISTS {target} (\n{columns}\n) USING DELTA{partitions}"
        f"\nCOMMENT {grain}\nTBLPROPERTIES ({told})"
    )


def add_column(target: str, column: Column) -> str:
    """`ALTER TABLE` that gives an older table a column which may be null."""
    return f"ALTER TABLE {target} ADD COLUMNS (`{column.name}` {column.type.ddl} COMMENT {_quoted(column.meaning)})"


def add_check(target: str, name: str, condition: str) -> str:
    """`ALTER TABLE` that makes Delta refuse rows which do not meet the condition."""
    return f"ALTER TABLE {target} ADD CONSTRAINT {name} CHECK ({condition})"


def table_properties(spec: TableSpec) -> dict[str, str]:
    """The Delta properties that the table has."""
    return {
        **_PROPERTIES,
        # The change feed of an append-only table costs nothing: its rows are the added files.
        "delta.enableChangeDataFeed": str(spec.append_only).lower(),
        # Otherwise Delta keeps the extremes of the first 32 columns, texts that nobody filters on among them.
        "delta.dataSkippingStatsColumns": ",".join(spec.statistics_columns),
    }


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

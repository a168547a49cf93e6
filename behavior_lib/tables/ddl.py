"""TableSpec → the statement that creates the table."""

from __future__ import annotations

from behavior_lib.tables.spec import TableSpec

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
    # The change feed of an append-only table costs nothing: its rows are the added files.
    properties = {**_PROPERTIES, "delta.enableChangeDataFeed": str(spec.append_only).lower()}
    told = ", ".join(f"'{key}' = '{value}'" for key, value in properties.items())
    partitions = f"\nPARTITIONED BY ({', '.join(spec.partition_by)})" if spec.partition_by else ""
    grain = _quoted(spec.grain)
    return (
        f"CREATE TABLE IF NOT EXISTS {target} (\n{columns}\n) USING DELTA{partitions}"
        f"\nCOMMENT {grain}\nTBLPROPERTIES ({told})"
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

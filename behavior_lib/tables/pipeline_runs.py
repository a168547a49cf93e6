"""The ledger."""

from behavior_lib.tables.spec import LONG, STRING, TIMESTAMP, Column, TableSpec, map_of

PIPELINE_RUNS = TableSpec(
    name="pipeline_runs",
    grain="one job run",
    key=("run_id",),
    filter_on=("job", "source", "finished_at"),
    append_only=True,
    checks=(
        (
            "law",
            "rows_read is null or rows_read = rows_accepted + rows_duplicate + rows_quarantined + rows_late",
        ),
    ),
    columns=(
        Column("run_id", STRING, "the run"),
        Column("job", STRING, "name of the job"),
        Column("source", STRING, "name of the source"),
        Column("batch_id", STRING, "the batch; null for jobs that take no batch", nullable=True),
        Column("started_at", TIMESTAMP, "UTC"),
        Column("finished_at", TIMESTAMP, "UTC"),
        Column(
            "status",
            STRING,
            "succeeded, unchanged (nothing new to do), failed, stopped (asked to end, goes on later) or tried (dry"
            " run)",
        ),
        Column("rows_read", LONG, "raw rows; rows_read = accepted + duplicate + quarantined + late", nullable=True),
        Column("rows_accepted", LONG, "rows that became events", nullable=True),
        Column("rows_duplicate", LONG, "rows whose event was there already", nullable=True),
        Column("rows_quarantined", LONG, "rows that broke a rule", nullable=True),
        Column(
            "rows_late",
            LONG,
            "rows older than late.max_days, kept in events_quarantine under the rule late",
            nullable=True,
        ),
        Column("input_versions", map_of(STRING, LONG), "versions of the tables read"),
        Column("output_versions", map_of(STRING, LONG), "versions of the tables written"),
        Column(
            "config_hash", STRING, "SHA-256 of the configuration and source that the job reads, first 16 hex digits"
        ),
        Column(
            "rows_conflict",
            LONG,
            "of rows_quarantined: rows whose event_id another row has with other content",
            nullable=True,
        ),
        Column("error", STRING, "the one sentence of a failed run", nullable=True),
    ),
)

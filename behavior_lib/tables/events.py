"""The event log, what it refused, and which raw files it has taken."""

from behavior_lib.tables.spec import (
    DATE,
    DOUBLE,
    INT,
    LONG,
    STRING,
    TIMESTAMP,
    Column,
    TableSpec,
    array_of,
    map_of,
)

EVENTS = TableSpec(
    name="events",
    grain="one accepted event",
    key=("event_id",),
    partition_by=("event_date",),
    sort_by=("user_id", "event_time", "event_id"),
    filter_on=("source", "batch_id"),
    append_only=True,
    checks=(("event_named", "event_id <> '' and user_id <> '' and event_type <> ''"),),
    columns=(
        Column("event_id", STRING, "the source's own id, or a hash of the source's key columns"),
        Column("user_id", STRING, "who did it"),
        Column("item_id", STRING, "what it was done to; null where the event has no item", nullable=True),
        Column("event_type", STRING, "what was done: view, click, cart, purchase, play, …"),
        Column("event_time", TIMESTAMP, "when, UTC, microseconds"),
        Column("value", DOUBLE, "amount in the source's own unit (money, seconds, pieces)", nullable=True),
        Column("session_key", STRING, "the source's own session (a basket, a visit)", nullable=True),
        Column("attributes", map_of(STRING, STRING), "everything else the source says of the event", nullable=True),
        Column("source", STRING, "name of the source"),
        Column("batch_id", STRING, "the batch that brought the event first"),
        Column("flags", array_of(STRING), "ids of the rules with policy flag or clip that the row met; empty for most"),
        Column("event_date", DATE, "UTC day of event_time"),
        Column(
            "content_hash",
            LONG,
            "xxHash64 of what the source says of the event, before clipping and filling in: a row with the same id and "
            "another hash is in conflict; null in rows written before the column was",
            nullable=True,
        ),
    ),
)

EVENTS_QUARANTINE = TableSpec(
    name="events_quarantine",
    grain="one rejected raw row of a batch; equal rows are counted in n_rows",
    key=("source", "batch_id", "row_hash"),
    partition_by=("ingest_date",),
    append_only=True,
    checks=(("counted", "n_rows >= 1 and size(rules) >= 1"),),
    columns=(
        Column(
            "row_hash",
            STRING,
            "SHA-256 of the raw row, of what is kept of it where ids are pseudonyms or people were forgotten",
        ),
        Column(
            "payload",
            STRING,
            "the raw row as JSON, without plain user ids where they are pseudonyms; null where the rule's policy is"
            " drop, and of forgotten users",
            nullable=True,
        ),
        Column("rules", array_of(STRING), "ids of all rules that the row broke, sorted"),
        Column("n_rows", LONG, "how many rows of the batch were equal to this one"),
        Column("source", STRING, "name of the source"),
        Column("batch_id", STRING, "the batch that brought the row"),
        Column("ingest_date", DATE, "UTC day on which the batch was first accepted"),
    ),
)

INGEST_FILES = TableSpec(
    name="ingest_files",
    grain="one raw file of one batch",
    key=("source", "batch_id", "path"),
    append_only=True,
    columns=(
        Column("source", STRING, "name of the source"),
        Column("batch_id", STRING, "the batch that took the file"),
        Column(
            "batch_number", INT, "place of the batch among the source's batches, from 1; a rebuild replays this order"
        ),
        Column("path", STRING, "URI of the file"),
        Column("size_bytes", LONG, "size of the file when it was taken, bytes"),
        Column("accepted_at", TIMESTAMP, "when the batch was first accepted, UTC"),
        Column(
            "late_before",
            TIMESTAMP,
            "events of the batch before it were late, UTC; null for a source's first batch",
            nullable=True,
        ),
        Column(
            "newest_event_time",
            TIMESTAMP,
            "newest time among the batch's rows that were neither rejected nor late, UTC; null where there is none",
            nullable=True,
        ),
    ),
)

BATCH_STATISTICS = TableSpec(
    name="batch_statistics",
    grain="one statistic that a rule judged a batch by, kept so that a replay judges alike",
    key=("source", "batch_id", "rule_id", "user_id", "group_value"),
    append_only=True,
    columns=(
        Column("source", STRING, "name of the source"),
        Column("batch_id", STRING, "the batch"),
        Column("rule_id", STRING, "id of the rule, or missing.<column>"),
        Column("definition", STRING, "the rule as JSON: a changed rule measures anew"),
        Column("user_id", STRING, "who is measured; empty where the groups are no users"),
        Column(
            "group_value",
            STRING,
            "value of the rule's `by` column; UTC day of a robot; empty where a user or the whole batch is one group",
        ),
        Column("low", DOUBLE, "smallest value that is no outlier", nullable=True),
        Column("high", DOUBLE, "largest value that is no outlier", nullable=True),
        Column("fill", STRING, "what a missing value becomes", nullable=True),
        Column("n_rows", LONG, "rows that the statistic is made of"),
    ),
)

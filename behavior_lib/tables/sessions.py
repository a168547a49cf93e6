"""Sessions, and the ids that they had before a late event changed them."""

from behavior_lib.tables.spec import (
    BOOLEAN,
    DATE,
    DOUBLE,
    LONG,
    STRING,
    TIMESTAMP,
    Column,
    TableSpec,
    map_of,
)

SESSIONS = TableSpec(
    name="sessions",
    grain="one session of one user in one source",
    key=("session_id",),
    partition_by=("session_date",),
    sort_by=("user_id", "session_start"),
    checks=(("ordered", "session_end >= session_start and n_events >= 1"),),
    filter_on=("source", "session_end"),
    columns=(
        Column(
            "session_id",
            STRING,
            "hash of source, user_id and session_start, or of the source's own session key: the same after a rebuild",
        ),
        Column("user_id", STRING, "who"),
        Column("source", STRING, "name of the source"),
        Column("session_key", STRING, "the source's own session; null where silence ends a session", nullable=True),
        Column("session_start", TIMESTAMP, "UTC time of the first event"),
        Column("session_end", TIMESTAMP, "UTC time of the last event"),
        Column("n_events", LONG, "events in the session"),
        Column("n_items", LONG, "distinct items in the session"),
        Column("events_by_type", map_of(STRING, LONG), "events of each type"),
        Column("value_sum", DOUBLE, "sum of the events' values; null where none has one", nullable=True),
        Column("is_open", BOOLEAN, "an event at the source's newest event time would still join the session"),
        Column("session_date", DATE, "UTC day of session_start"),
    ),
)

SESSION_ALIAS = TableSpec(
    name="session_alias",
    grain="one session whose id changed: re-opened at its start, or merged, by a batch with older events",
    key=("old_session_id", "session_id", "batch_id"),
    append_only=True,
    columns=(
        Column("old_session_id", STRING, "the id it had"),
        Column("session_id", STRING, "the id of the session that holds its events now"),
        Column("batch_id", STRING, "the newest batch among the events that changed it"),
    ),
)

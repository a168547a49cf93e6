"""All tables, one TableSpec each."""

from behavior_lib.tables.embeddings import EVALUATIONS, ITEM_EMBEDDINGS, USER_EMBEDDINGS
from behavior_lib.tables.events import BATCH_STATISTICS, EVENTS, EVENTS_QUARANTINE, INGEST_FILES
from behavior_lib.tables.item_graph import ITEM_GRAPH
from behavior_lib.tables.items import EVENT_TYPES, ITEMS
from behavior_lib.tables.pipeline_runs import PIPELINE_RUNS
from behavior_lib.tables.privacy import FORGOTTEN_USERS, PSEUDONYM_KEYS
from behavior_lib.tables.sequences import SEQUENCES
from behavior_lib.tables.sessions import SESSION_ALIAS, SESSIONS
from behavior_lib.tables.spec import TableSpec

ALL_TABLES: tuple[TableSpec, ...] = (
    EVENTS,
    EVENTS_QUARANTINE,
    INGEST_FILES,
    BATCH_STATISTICS,
    PSEUDONYM_KEYS,
    FORGOTTEN_USERS,
    SESSIONS,
    SESSION_ALIAS,
    ITEMS,
    EVENT_TYPES,
    SEQUENCES,
    ITEM_GRAPH,
    USER_EMBEDDINGS,
    ITEM_EMBEDDINGS,
    EVALUATIONS,
    PIPELINE_RUNS,
)

__all__ = [
    "ALL_TABLES",
    "BATCH_STATISTICS",
    "EVALUATIONS",
    "EVENTS",
    "EVENTS_QUARANTINE",
    "EVENT_TYPES",
    "FORGOTTEN_USERS",
    "INGEST_FILES",
    "ITEMS",
    "ITEM_EMBEDDINGS",
    "ITEM_GRAPH",
    "PIPELINE_RUNS",
    "PSEUDONYM_KEYS",
    "SEQUENCES",
    "SESSIONS",
    "SESSION_ALIAS",
    "USER_EMBEDDINGS",
    "TableSpec",
]

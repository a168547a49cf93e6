"""The stable vocabularies: items and event types, each with an index that is never given twice."""

from behavior_lib.tables.spec import FLOAT, INT, LONG, STRING, TIMESTAMP, Column, TableSpec, array_of, map_of

PADDING_INDEX = 0
MASK_INDEX = 1
UNKNOWN_INDEX = 2
FIRST_INDEX = 3

ITEMS = TableSpec(
    name="items",
    grain="one item that events have named often enough for a number (vocabulary.min_count)",
    key=("item_id",),
    sort_by=("item_index",),
    checks=(("numbered", "item_index >= 3"),),
    columns=(
        Column("item_id", STRING, "the source's id of the item"),
        Column(
            "item_index",
            INT,
            "append-only number, never changed or reused: 0 padding, 1 mask, 2 unknown, items from 3; numbers that a "
            "constraint buckets_from_N keeps free are those of buckets, which rare items share",
        ),
        Column("n_events", LONG, "events that name the item; 0 where all who did were forgotten"),
        Column("first_seen", TIMESTAMP, "UTC time of its first event; null where none is left", nullable=True),
        Column("last_seen", TIMESTAMP, "UTC time of its last event; null where none is left", nullable=True),
        Column("attributes", map_of(STRING, STRING), "what the source's item file says of it", nullable=True),
        Column(
            "known_from",
            TIMESTAMP,
            "UTC time of the event by which it had been seen vocabulary.min_count times; as of a cut before it the "
            "item is a rare one. null: as first_seen",
            nullable=True,
        ),
        Column(
            "vectors",
            map_of(STRING, array_of(FLOAT)),
            "vectors of it that the source's item file has, by their names, as they are there",
            nullable=True,
        ),
    ),
)

EVENT_TYPES = TableSpec(
    name="event_types",
    grain="one event type",
    key=("event_type",),
    sort_by=("type_index",),
    checks=(("numbered", "type_index >= 3"),),
    columns=(
        Column("event_type", STRING, "the type"),
        Column(
            "type_index", INT, "append-only number, never changed or reused: 0 padding, 1 mask, 2 unknown, types from 3"
        ),
    ),
)

"""The training table: histories as arrays of one fixed length."""

from behavior_lib.tables.spec import FLOAT, INT, STRING, TIMESTAMP, Column, TableSpec, array_of

TRAIN, VALIDATION, TEST, REFIT = "train", "validation", "test", "refit"

SEQUENCES = TableSpec(
    name="sequences",
    grain="one chunk of one user's history before a split's cut; chunk 0 holds the newest events, oldest first",
    key=("user_id", "chunk_id", "split"),
    partition_by=("split",),
    keeps_files=True,
    columns=(
        Column("user_id", STRING, "who"),
        Column("chunk_id", INT, "0 for the newest events, 1 for those before them, …"),
        Column(
            "split",
            STRING,
            "train: before the validation cut; validation, test: newest events before that cut; refit, where it is"
            " asked for: as train, before the test cut",
        ),
        Column(
            "item_index",
            array_of(INT),
            "items as numbered at the cut, right-padded with 0; a rare item has the number of its bucket where there "
            "are buckets; 2 for every other event",
        ),
        Column("event_type", array_of(INT), "type indexes, right-padded with 0"),
        Column(
            "gap_seconds",
            array_of(INT),
            "seconds from the user's event before it, both times rounded down to whole seconds; 0 for the user's first"
            " and within one second; 2,147,483,647 at most; right-padded with 0",
        ),
        Column("value", array_of(FLOAT), "values, 0 where the event has none, right-padded with 0"),
        Column("length", INT, "events in the chunk; the rest is padding"),
        Column(
            "first_event_time",
            TIMESTAMP,
            "time of the chunk's oldest event; with the gaps behind it that of every event, to the second; null: no"
            " event, or a row from before there was this column",
            nullable=True,
        ),
        Column(
            "target_index",
            array_of(INT),
            "distinct items of the user's first session after the cut, or the item of the event that is held out,"
            " ascending, right-padded with 0; a 2 for each that has no number; all 0 in train and refit",
        ),
        Column("as_of", TIMESTAMP, "the cut: no event at or after it is in the arrays, but see held_out_id"),
        Column(
            "held_out_id",
            STRING,
            "leave-one-out: event_id of the event of as_of that is held out; of that instant the arrays hold the events"
            " before it by event_id; null: nothing of that instant",
            nullable=True,
        ),
    ),
)

from pathlib import Path

import pyarrow as pa
import pytest

from behavior_lib.tables import ALL_TABLES, EVENTS, SEQUENCES, SESSIONS
from behavior_lib.tables.arrow import arrow_schema
from behavior_lib.tables.ddl import create_table
from behavior_lib.tables.document import PATH, document


def test_the_page_of_tables_is_up_to_date():
    assert (Path(__file__).parents[2] / PATH).read_text(encoding="utf-8") == document()


def test_a_column_is_its_name_and_an_unknown_one_is_an_error():
    assert EVENTS.user_id == "user_id"
    with pytest.raises(AttributeError, match="table events has no column usr_id"):
        EVENTS.usr_id  # noqa: B018


def test_keys_partitions_and_order_name_columns():
    for spec in ALL_TABLES:
        assert set(spec.key + spec.partition_by + spec.sort_by) <= set(spec.column_names), spec.name
        assert all(not spec.column(name).nullable for name in spec.key), spec.name


def test_arrow_schema_of_nested_columns():
    schema = arrow_schema(SESSIONS)
    assert schema.field("events_by_type").type == pa.map_(pa.string(), pa.int64())
    assert schema.field("session_start").type == pa.timestamp("us", tz="UTC")
    assert arrow_schema(SEQUENCES).field("value").type == pa.list_(pa.float32())


def test_the_statement_that_creates_a_table():
    statement = create_table(EVENTS, "main.behavior.events")
    assert statement.startswith(
        "CREATE TABLE IF NOT EXISTS main.behavior.events (\n  `event_id` string NOT NULL COMMENT 'the source\\'s own"
    )
    assert "`value` double COMMENT" in statement
    assert "\nPARTITIONED BY (event_date)\n" in statement
    assert "'delta.enableDeletionVectors' = 'false'" in statement


CONTRACT = {
    "events": "event_id user_id item_id event_type event_time value session_key attributes source batch_id event_date",
    "events_quarantine": "payload rules source batch_id ingest_date row_hash",
    "sessions": "session_id user_id source session_start session_end n_events n_items events_by_type "
    "value_sum is_open session_date",
    "session_alias": "old_session_id session_id batch_id",
    "items": "item_id item_index n_events first_seen last_seen attributes",
    "sequences": "user_id chunk_id split item_index event_type gap_seconds value length as_of",
    "user_embeddings": "user_id model_name model_version embedding n_events last_event_time as_of "
    "events_version run_id",
    "item_embeddings": "item_id item_index model_name model_version embedding",
    "pipeline_runs": "run_id job source batch_id started_at finished_at status rows_read rows_accepted rows_duplicate "
    "rows_quarantined rows_late input_versions output_versions config_hash error",
}


def test_the_columns_that_readers_depend_on_are_there():
    by_name = {spec.name: set(spec.column_names) for spec in ALL_TABLES}
    for table, columns in CONTRACT.items():
        assert set(columns.split()) <= by_name[table], table

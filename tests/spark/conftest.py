"""Small frames for tests of transforms."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest

from behavior_lib.config.schema import VocabularyConfig
from behavior_lib.spark.schema import rows_frame
from behavior_lib.spark.sequences import Vocabulary
from behavior_lib.spark.vocabulary import new_event_types, update_items
from behavior_lib.tables import EVENT_TYPES, EVENTS, ITEMS, TableSpec
from behavior_lib.tables.items import FIRST_INDEX


def event(user: str, time: str, **values: Any) -> dict[str, Any]:
    """One EVENTS row; `time` is ISO text in UTC. What is not given is what most tests do not look at."""
    moment = datetime.fromisoformat(time).replace(tzinfo=timezone.utc)
    row = {
        EVENTS.event_id: f"{user} {time} {values.get('item_id')}",
        EVENTS.user_id: user,
        EVENTS.item_id: None,
        EVENTS.event_type: "view",
        EVENTS.event_time: moment,
        EVENTS.value: None,
        EVENTS.session_key: None,
        EVENTS.attributes: None,
        EVENTS.source: "shop",
        EVENTS.batch_id: "b1",
        EVENTS.flags: [],
        EVENTS.event_date: moment.date().isoformat(),
    }
    return {**row, **values}


def held(spec: TableSpec, frame: Any) -> Any:
    """The frame's rows in a frame that needs nothing else, as if they had been written and read again."""
    rows = [
        {
            name: value.replace(tzinfo=timezone.utc) if isinstance(value, datetime) else value
            for name, value in row.asDict().items()
        }
        for row in frame.collect()
    ]
    return rows_frame(frame.sparkSession, spec, rows)


@pytest.fixture
def events(spark: Any) -> Callable[..., Any]:
    """events(event(…), …) → a frame of EVENTS rows."""
    return lambda *rows: rows_frame(spark, EVENTS, rows)


@pytest.fixture
def vocabulary(spark: Any) -> Callable[..., Vocabulary]:
    """vocabulary(a frame of EVENTS rows) → the numbers of its items and types."""

    def build(frame: Any) -> Vocabulary:
        with update_items(rows_frame(spark, ITEMS, []), frame, None, FIRST_INDEX, VocabularyConfig()) as numbered:
            items = held(ITEMS, numbered)
        with new_event_types(rows_frame(spark, EVENT_TYPES, []), frame, FIRST_INDEX) as numbered:
            types = held(EVENT_TYPES, numbered)
        return Vocabulary(items, types)

    return build

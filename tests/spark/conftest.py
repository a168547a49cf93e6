"""Small frames for tests of transforms."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest

from behavior_lib.spark.schema import rows_frame
from behavior_lib.tables import EVENTS


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


@pytest.fixture
def events(spark: Any) -> Callable[..., Any]:
    """events(event(…), …) → a frame of EVENTS rows."""
    return lambda *rows: rows_frame(spark, EVENTS, rows)

"""Raw histories, as people and other systems hold them, to the arrays that a model reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from behavior_lib.data.histories import Histories, unknown_times
from behavior_lib.errors import DataRefused
from behavior_lib.inference.vocabulary import Vocabulary
from behavior_lib.tables.items import PADDING_INDEX, UNKNOWN_INDEX

USER_ID, ITEM_ID, EVENT_TYPE, EVENT_TIME, VALUE = "user_id", "item_id", "event_type", "event_time", "value"

_ROWS = 4096  # users of a part
_MICROSECONDS = 1_000_000
_LONGEST_GAP = np.iinfo(np.int32).max
_MOST_VALUE = np.finfo(np.float32).max  # as sequences have it


def in_parts(frame: pd.DataFrame) -> list[pd.DataFrame]:
    """A frame of raw histories in parts whose arrays may be held at once; at least one. Raises DataRefused where nobody
    is named.
    """
    if USER_ID not in frame:
        raise DataRefused("column user_id is missing", where="the frame of histories", value=list(frame))
    return [frame[at : at + _ROWS] for at in range(0, max(len(frame), 1), _ROWS)]


def to_histories(columns: Mapping[str, Sequence[Any]], vocabulary: Vocabulary, length: int) -> Histories:
    """The newest `length` events of each row; what is older is not even looked at.

    columns: `item_id` (lists of str) and optionally `event_type` (lists of str), `event_time` (lists of int,
    microseconds since 1970 UTC), `value` (lists of float) and `user_id` (named in complaints); one row a user, each
    list oldest event first. A row whose item_id is null or empty has no event. An item or type that is null or not in
    the vocabulary is the unknown one, as is every type where the column is absent or null; absent values are 0.
    gap_seconds are those between times rounded down to whole seconds, and 0 where times are absent, when
    first_event_time is not known either. The oldest event kept has its true gap where the list goes on before it.
    Raises DataRefused where item_id is absent, a cell is no list, lists of a row differ in length, or times decrease.
    """
    if ITEM_ID not in columns:
        mend = "give user_id and item_id, and optionally event_type, event_time, value"
        raise DataRefused("column item_id is missing", where="the frame of histories", value=sorted(columns), mend=mend)
    n = len(columns[ITEM_ID])
    shape = (n, length)
    item_index = np.full(shape, PADDING_INDEX, dtype=np.int32)
    event_type = np.full(shape, PADDING_INDEX, dtype=np.int32)
    gap_seconds = np.zeros(shape, dtype=np.int32)
    value = np.zeros(shape, dtype=np.float32)
    lengths = np.zeros(n, dtype=np.int32)
    first_event_time = unknown_times(n)
    for row in range(n):
        items = _cell(columns, ITEM_ID, row, None)
        if items is None or not len(items):
            continue
        kept = lengths[row] = min(len(items), length)
        item_index[row, :kept] = vocabulary.item_indexes(items[-kept:])
        types = _cell(columns, EVENT_TYPE, row, len(items))
        event_type[row, :kept] = UNKNOWN_INDEX if types is None else vocabulary.event_type_indexes(types[-kept:])
        times = _cell(columns, EVENT_TIME, row, len(items))
        if times is not None:
            seconds = _seconds(columns, row, times[-kept - 1 :])
            gaps = np.diff(seconds, prepend=seconds[:1])
            gap_seconds[row, :kept] = np.minimum(gaps, _LONGEST_GAP)[-kept:]
            first_event_time[row] = seconds[-kept]
        values = _cell(columns, VALUE, row, len(items))
        if values is not None:
            numbers = _numbers(columns, VALUE, row, values[-kept:], np.float64)
            value[row, :kept] = np.clip(np.where(np.isnan(numbers), 0, numbers), -_MOST_VALUE, _MOST_VALUE)
    return Histories(item_index, event_type, gap_seconds, value, lengths, first_event_time)


def _cell(columns: Mapping[str, Sequence[Any]], name: str, row: int, n_events: int | None) -> Any:
    """The list of one row, or None where it is null or its column absent."""
    if name not in columns:
        return None
    cell = columns[name][row]
    if cell is None or (isinstance(cell, float) and np.isnan(cell)):
        return None
    if not isinstance(cell, list | tuple | np.ndarray):
        raise DataRefused(f"{name} is no list", where=_row(columns, row), value=cell, mend="one list of events a user")
    if n_events is not None and len(cell) != n_events:
        raise DataRefused(f"{name} and item_id differ in length", where=_row(columns, row), value=(len(cell), n_events))
    return cell


def _seconds(columns: Mapping[str, Sequence[Any]], row: int, times: Any) -> NDArray[np.int64]:
    """Whole seconds since 1970, UTC."""
    micros = _numbers(columns, EVENT_TIME, row, times, np.int64)
    if (np.diff(micros) < 0).any():
        mend = "sort each list by time, oldest event first"
        raise DataRefused("event_time decreases", where=_row(columns, row), mend=mend)
    return np.asarray(micros // _MICROSECONDS)


def _numbers(columns: Mapping[str, Sequence[Any]], name: str, row: int, cell: Any, kind: type[Any]) -> NDArray[Any]:
    try:
        if np.asarray(cell).dtype.kind in "mM":  # would turn into a number of whatever unit it has
            raise TypeError
        return np.asarray(cell, dtype=kind)
    except (TypeError, ValueError, OverflowError):
        raise DataRefused(f"{name} holds what is no number", where=_row(columns, row), value=list(cell)) from None


def _row(columns: Mapping[str, Sequence[Any]], row: int) -> str:
    user = columns[USER_ID][row] if USER_ID in columns else None
    return f"row {row}" if user is None else f"the history of user {user!r}"

"""A few users' stories for the report: what they did, what is recommended and why, what they did next."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from behavior_lib.inference.encoder import Encoder
from behavior_lib.inference.explain import Explanation, Occlusion
from behavior_lib.inference.renumber import Renumbering
from behavior_lib.report import data
from behavior_lib.spark.evaluation import JudgedUsers, judged_users, read_vocabulary, seen_events
from behavior_lib.spark.report import Reader, item_of
from behavior_lib.spark.sequences import newest_first
from behavior_lib.spark.sessionize import session_events
from behavior_lib.spark.vocabulary import reserved_buckets
from behavior_lib.tables import EVENT_TYPES, EVENTS, ITEMS, SEQUENCES, SESSIONS
from behavior_lib.tables.sequences import TEST, VALIDATION

_USERS = 3
_MOST_EVENTS = 4096  # of one user; older ones are not told
_REASONS = 3  # of one recommendation
_PLACE, _ITEM, _NAMED = "_place", "_item", "_named"


def stories(
    reader: Reader, encoder: Encoder, wanted: Sequence[str], k: int, explain_events: int
) -> tuple[data.UserStory, ...]:
    """The stories of the `wanted` users, or of three who differ in how much they did.

    They end at the test cut, or at the validation cut where nobody has an event after the test cut.
    explain_events: newest events of each that are left out in turn (Occlusion).
    """
    for split in (TEST, VALIDATION):
        rows = reader.sequences.where((F.col(SEQUENCES.split) == split) & (F.col(SEQUENCES.length) > 0))
        chosen = list(wanted) or _different(rows)
        users = judged_users(rows.where(F.col(SEQUENCES.user_id).isin(*chosen))) if chosen else None
        if users is not None:
            seen = seen_events(reader.events, rows, users)
            return _tell(reader, encoder, Occlusion(encoder, explain_events), users, seen, k)
    return ()


def _different(rows: DataFrame) -> list[str]:
    """A quiet, a middling and a busy user, by the events of their history; the same ones for the same rows."""
    quantiles = F.percentile_approx(SEQUENCES.length, [0.25, 0.5, 0.75])
    lengths = rows.agg(quantiles).collect()[0][0]
    chosen: list[str] = []
    for length in lengths or ():
        own = rows.where((F.col(SEQUENCES.length) == length) & ~F.col(SEQUENCES.user_id).isin(*chosen))
        user = own.agg(F.min(SEQUENCES.user_id)).collect()[0][0]
        chosen += [] if user is None else [user]
    return chosen[:_USERS]


def _tell(
    reader: Reader, encoder: Encoder, occlusion: Occlusion, users: JudgedUsers, seen: DataFrame, k: int
) -> tuple[data.UserStory, ...]:
    vocabulary = read_vocabulary(reader.items, reader.tables.read(EVENT_TYPES), reserved_buckets(reader.tables))
    histories = Renumbering.between(vocabulary, encoder.vocabulary).histories(users.histories)
    explained = occlusion.next_items(histories, k, _REASONS)
    influences = occlusion.influences(histories)
    targets = [what_came(row, vocabulary.item_ids) for row in users.targets]
    events = _events(reader, users.user_ids.tolist(), seen)
    why = {reason.item_id for row in explained for each in row for reason in each.reasons}
    named = {each.item_id for row in explained for each in row} | why | {item for row, _ in targets for item in row}
    names = _names(reader.items, named)
    told = []
    for place, user in enumerate(users.user_ids.tolist()):
        own, length = events.get(user, []), int(users.histories.length[place])
        read = [vocabulary.item_ids[index] for index in users.histories.item_index[place, :length]]
        last = {row[_ITEM]: row[EVENTS.event_time] for row in own}
        came, n_unnamed = targets[place]
        told.append(
            data.UserStory(
                user,
                len(own),
                users.cut_of(place),
                _sessions(own, along(own, read, influences[place])),
                tuple(_recommendation(each, names, last, came) for each in explained[place]),
                tuple(names[item] for item in sorted(came, key=lambda each: names[each].name)),
                n_unnamed,
            )
        )
    return tuple(sorted(told, key=lambda story: story.n_events))


def what_came(targets: NDArray[np.int32], item_ids: Sequence[str | None]) -> tuple[set[str], int]:
    """The ids of one user's targets, and how many more there are that have none. targets: right-padded with 0."""
    ids = [item_ids[index] for index in targets if index]
    named = {item_id for item_id in ids if item_id is not None}
    return named, len(ids) - len(named)


def _recommendation(
    each: Explanation, names: Mapping[str, data.Item], last: Mapping[str, datetime], came: Collection[str]
) -> data.Recommendation:
    reasons = tuple(
        data.Reason(names[reason.item_id], reason.part, reason.n_events, last.get(reason.item_id))
        for reason in each.reasons
    )
    return data.Recommendation(names[each.item_id], each.item_id in last, each.item_id in came, each.path, reasons)


def along(events: Sequence[Row], read: Sequence[str | None], influence: NDArray[np.float64]) -> list[float | None]:
    """The influence of each of a user's events; None for those that nothing is known of.

    read: the items of the history that the model read; influence: of the newest of these events. Events and history end
    alike where both were made of one state of the log. Where they name other items, nothing is known of any event.
    """
    n = min(len(influence), len(events))
    pairs = zip(read[len(read) - n :], events[len(events) - n :], strict=True)
    if any(item is not None and item != event[_ITEM] for item, event in pairs):
        n = 0
    return [*[None] * (len(events) - n), *influence[len(influence) - n :].tolist()]


def _names(items: DataFrame, wanted: Collection[str]) -> dict[str, data.Item]:
    if not wanted:
        return {}
    rows = items.where(F.col(ITEMS.item_id).isin(*wanted)).select(ITEMS.item_id, ITEMS.attributes).collect()
    return {item: data.Item(item, item, "") for item in wanted} | {row[0]: item_of(*row) for row in rows}


def _events(reader: Reader, users: Sequence[str], seen: DataFrame) -> dict[str, list[Row]]:
    """Each user's events before the cut, oldest first, in the order in which a history holds them.

    seen: EVENTS rows before the cut. An event without an item has its type in place of it.
    """
    is_chosen = F.col(EVENTS.user_id).isin(*users)
    own = session_events(reader.sessions.where(is_chosen), seen.where(is_chosen))
    rows = (
        own.withColumn(_PLACE, F.row_number().over(newest_first()))
        .where(F.col(_PLACE) <= _MOST_EVENTS)
        .join(reader.items.select(ITEMS.item_id, F.col(ITEMS.attributes).alias(_NAMED)), ITEMS.item_id, "left")
        .withColumn(_ITEM, F.coalesce(EVENTS.item_id, EVENTS.event_type))
        .select(EVENTS.user_id, SESSIONS.session_id, EVENTS.event_time, EVENTS.value, _ITEM, _NAMED)
        .orderBy(EVENTS.user_id, EVENTS.event_time, EVENTS.event_id)
        .collect()
    )
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row[EVENTS.user_id], []).append(row)
    return found


def _sessions(events: Sequence[Row], influences: Sequence[float | None]) -> tuple[data.Session, ...]:
    """A user's sessions with an event before the cut, oldest first, by the items of those events."""
    by_session: dict[str, list[int]] = {}
    for place, row in enumerate(events):
        by_session.setdefault(row[SESSIONS.session_id], []).append(place)
    return tuple(
        _session([events[place] for place in places], tuple(influences[place] for place in places))
        for places in by_session.values()
    )


def _session(rows: Sequence[Row], influences: tuple[float | None, ...]) -> data.Session:
    values = [row[EVENTS.value] for row in rows if row[EVENTS.value] is not None]
    items = tuple(item_of(row[_ITEM], row[_NAMED]) for row in rows)
    return data.Session(rows[0][EVENTS.event_time], sum(values) if values else None, items, influences)

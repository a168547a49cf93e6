"""A few users' stories for the report: what they did, what is recommended, what they did next."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pyspark.sql import DataFrame, Row, Window
from pyspark.sql import functions as F

from behavior_lib.inference.encoder import Encoder
from behavior_lib.inference.renumber import Renumbering
from behavior_lib.report import data
from behavior_lib.spark.evaluation import JudgedUsers, judged_users, read_vocabulary, seen_events
from behavior_lib.spark.report import Reader, item_of
from behavior_lib.spark.sessionize import session_events
from behavior_lib.spark.vocabulary import reserved_buckets
from behavior_lib.tables import EVENT_TYPES, EVENTS, ITEMS, SEQUENCES, SESSIONS
from behavior_lib.tables.sequences import TEST, VALIDATION

_USERS = 3
_MOST_EVENTS = 4096  # of one user; older ones are not told
_PLACE, _ITEM, _NAMED = "_place", "_item", "_named"


def stories(reader: Reader, encoder: Encoder, wanted: Sequence[str], k: int) -> tuple[data.UserStory, ...]:
    """The stories of the `wanted` users, or of three who differ in how much they did.

    They end at the test cut, or at the validation cut where nobody has an event after the test cut.
    """
    for split in (TEST, VALIDATION):
        rows = reader.sequences.where((F.col(SEQUENCES.split) == split) & (F.col(SEQUENCES.length) > 0))
        chosen = list(wanted) or _different(rows)
        users = judged_users(rows.where(F.col(SEQUENCES.user_id).isin(*chosen))) if chosen else None
        if users is not None:
            return _tell(reader, encoder, users, seen_events(reader.events, rows, users), k)
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


def _tell(reader: Reader, encoder: Encoder, users: JudgedUsers, seen: DataFrame, k: int) -> tuple[data.UserStory, ...]:
    vocabulary = read_vocabulary(reader.items, reader.tables.read(EVENT_TYPES), reserved_buckets(reader.tables))
    histories = Renumbering.between(vocabulary, encoder.vocabulary).histories(users.histories)
    recommended, _ = encoder.next_items(histories, k)
    targets = [[vocabulary.item_ids[index] for index in row if index] for row in users.targets]
    sessions = _sessions(reader, users.user_ids.tolist(), seen)
    named = {item for items in (*recommended, *targets) for item in items if item is not None}
    names = _names(reader.items, named)
    told = []
    for place, user in enumerate(users.user_ids.tolist()):
        own = sessions.get(user, ())
        had = {item.id for session in own for item in session.items}
        came = {item for item in targets[place] if item is not None}
        told.append(
            data.UserStory(
                user,
                sum(len(session.items) for session in own),
                users.as_of,
                own,
                tuple(data.Recommendation(names[item], item in had, item in came) for item in recommended[place]),
                tuple(names[item] for item in sorted(came, key=lambda each: names[each].name)),
            )
        )
    return tuple(sorted(told, key=lambda story: story.n_events))


def _names(items: DataFrame, wanted: Collection[str]) -> dict[str, data.Item]:
    if not wanted:
        return {}
    rows = items.where(F.col(ITEMS.item_id).isin(*wanted)).select(ITEMS.item_id, ITEMS.attributes).collect()
    return {item: data.Item(item, item, "") for item in wanted} | {row[0]: item_of(*row) for row in rows}


def _sessions(reader: Reader, users: Sequence[str], seen: DataFrame) -> dict[str, tuple[data.Session, ...]]:
    """Each user's sessions with an event before the cut, oldest first, by the items of those events.

    seen: EVENTS rows before the cut.
    """
    is_chosen = F.col(EVENTS.user_id).isin(*users)
    own = session_events(reader.sessions.where(is_chosen), seen.where(is_chosen))
    newest_first = Window.partitionBy(EVENTS.user_id).orderBy(F.col(EVENTS.event_time).desc(), EVENTS.event_id)
    rows = (
        own.withColumn(_PLACE, F.row_number().over(newest_first))
        .where(F.col(_PLACE) <= _MOST_EVENTS)
        .join(reader.items.select(ITEMS.item_id, F.col(ITEMS.attributes).alias(_NAMED)), ITEMS.item_id, "left")
        .withColumn(_ITEM, F.coalesce(EVENTS.item_id, EVENTS.event_type))
        .select(EVENTS.user_id, SESSIONS.session_id, EVENTS.event_time, EVENTS.value, _ITEM, _NAMED)
        .orderBy(EVENTS.user_id, EVENTS.event_time, EVENTS.event_id)
        .collect()
    )
    by_session: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        by_session.setdefault((row[EVENTS.user_id], row[SESSIONS.session_id]), []).append(row)
    found: dict[str, list[data.Session]] = {}
    for (user, _), events_of in by_session.items():
        found.setdefault(user, []).append(_session(events_of))
    return {user: tuple(sessions) for user, sessions in found.items()}


def _session(rows: Sequence[Row]) -> data.Session:
    values = [row[EVENTS.value] for row in rows if row[EVENTS.value] is not None]
    items = tuple(item_of(row[_ITEM], row[_NAMED]) for row in rows)
    return data.Session(rows[0][EVENTS.event_time], sum(values) if values else None, items)

"""People are forgotten: their rows leave every table, and what was counted of them is counted again without them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from functools import reduce
from typing import cast

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType, _parse_datatype_string

from behavior_lib.config.source import SourceConfig
from behavior_lib.privacy.keys import FORGOTTEN, Keyring
from behavior_lib.privacy.needles import is_distinctive, spellings
from behavior_lib.spark.hidden import hidden_frame
from behavior_lib.spark.tables import Tables
from behavior_lib.tables import (
    ALL_TABLES,
    EVENTS,
    EVENTS_QUARANTINE,
    FORGOTTEN_USERS,
    ITEM_GRAPH,
    ITEMS,
    SEQUENCES,
    SESSION_ALIAS,
    SESSIONS,
    TableSpec,
)

USER = EVENTS.user_id
# Derived tables before those that they are found by, so that a killed run finds its way again.
USER_TABLES = (
    *(spec for spec in ALL_TABLES if USER in spec.column_names and spec not in (SESSIONS, EVENTS)),
    SESSIONS,
    EVENTS,
)
ERASED = (SESSION_ALIAS, EVENTS_QUARANTINE, ITEM_GRAPH, *USER_TABLES, ITEMS)
_NEEDLE, _PATTERN, _IS_DISTINCTIVE = "_needle", "_pattern", "_is_distinctive"
UNREADABLE_RULE = "unreadable_row"
_LETTER = r"[\p{L}\p{N}]"


class People:
    """Some users and every name that the tables may have for them: the ids, and their pseudonyms under every key."""

    def __init__(self, spark: SparkSession, ids: Sequence[str], ring: Keyring) -> None:
        self._spark, self._ring = spark, ring
        self.ids = tuple(ids)
        self.pseudonyms = {key.hash(name): name for name in ids for key in ring.keys.values()}
        self.names = (*ids, *self.pseudonyms)

    def id_of(self, name: str) -> str:
        """The id behind a name."""
        return self.pseudonyms.get(name, name)

    def frame(self) -> DataFrame:
        """One row a name, in the column user_id."""
        return F.broadcast(hidden_frame(self._spark, f"{USER} string", [(name,) for name in self.names]))

    def patterns(self) -> DataFrame:
        """One row a spelling of a name: user_id, the spelling, its regular expression as a whole word, and whether it
        is distinctive: `true` or `false`.
        """
        rows = [
            (name, text, f"(?<!{_LETTER}){_quoted(text)}(?!{_LETTER})", str(is_distinctive(name)).lower())
            for name in self.names
            for text in spellings(name)
        ]
        ddl = f"{USER} string, {_NEEDLE} string, {_PATTERN} string, {_IS_DISTINCTIVE} string"
        return F.broadcast(hidden_frame(self._spark, ddl, rows))

    def hashes(self) -> dict[str, str]:
        """Hash of forgotten_users → id, under every key."""
        return {key.hash(FORGOTTEN + name): name for name in self.ids for key in self._ring.keys.values()}

    def newest_hash(self, name: str) -> str:
        """The hash that an id is remembered by."""
        return self._ring.newest.hash(FORGOTTEN + name)


class Forgetting:
    """Removes people from the tables of one warehouse. Every step can be repeated; a killed run is finished by the
    next one, which finds the same people through forgotten_users.
    """

    def __init__(self, spark: SparkSession, tables: Tables, source: SourceConfig, people: People) -> None:
        self._spark, self._tables, self._source, self.people = spark, tables, source, people

    def find(self) -> dict[str, dict[str, int]]:
        """Table → id → rows; tables without a row of theirs are left out."""
        found = {spec.name: self._counts(self._rows(spec)) for spec in (*USER_TABLES, EVENTS_QUARANTINE)}
        return {name: counts for name, counts in found.items() if counts}

    def remembered(self) -> dict[str, datetime | None]:
        """Id → when its erasure was done, None where it was begun and not finished; only ids that were begun."""
        hashes = self.people.hashes()
        ours = hidden_frame(self._spark, f"{FORGOTTEN_USERS.user_hash} string", [(text,) for text in hashes])
        rows = self._tables.read(FORGOTTEN_USERS).join(F.broadcast(ours), FORGOTTEN_USERS.user_hash, "left_semi")
        return {hashes[row[FORGOTTEN_USERS.user_hash]]: row[FORGOTTEN_USERS.erased_at] for row in rows.collect()}

    def remember(self, now: datetime, run_id: str) -> int:
        """Write the ids into forgotten_users: from now on ingest refuses their rows. Returns the table's version."""
        known = self.remembered()
        new = [(self.people.newest_hash(name),) for name in self.people.ids if name not in known]
        if not new:
            return self._tables.version(FORGOTTEN_USERS)
        rows = hidden_frame(self._spark, f"{FORGOTTEN_USERS.user_hash} string", new).withColumns(
            {
                FORGOTTEN_USERS.forgotten_at: F.lit(now),
                FORGOTTEN_USERS.run_id: F.lit(run_id),
                FORGOTTEN_USERS.erased_at: F.lit(None).cast("timestamp"),
            }
        )
        return self._tables.merge(FORGOTTEN_USERS, rows, update=False)

    def close(self, now: datetime) -> int:
        """Write that nothing of them is left. Returns the version of forgotten_users."""
        ours = hidden_frame(self._spark, f"{FORGOTTEN_USERS.user_hash} string", [(t,) for t in self.people.hashes()])
        rows = self._tables.read(FORGOTTEN_USERS).join(F.broadcast(ours), FORGOTTEN_USERS.user_hash, "left_semi")
        return self._tables.merge(FORGOTTEN_USERS, rows.withColumn(FORGOTTEN_USERS.erased_at, F.lit(now)))

    def delete(self, spec: TableSpec) -> None:
        """Delete their rows of one table of ERASED; in items the counts are taken again. The item graph, whose edges do
        not say who made them, loses all where they have sequences, which go later: the next build makes it again.
        """
        if spec == ITEMS:
            self._tables.allow_nulls(ITEMS)
            self._tables.merge(ITEMS, recounted(self._tables.read(ITEMS), self._tables.read(EVENTS)))
        elif spec == ITEM_GRAPH:
            if not self._rows(SEQUENCES).isEmpty():
                self._tables.replace(ITEM_GRAPH, self._tables.read(ITEM_GRAPH).limit(0))
        elif spec == SESSION_ALIAS:
            self._delete_aliases()
        elif spec == EVENTS_QUARANTINE:
            self._tables.delete(spec, self._rows(spec).select(*spec.key).distinct())
        else:
            self._tables.delete(spec, self.people.frame())

    def _rows(self, spec: TableSpec) -> DataFrame:
        """Their rows of a table, with `user_id`, the name that was found."""
        if not self._tables.exists(spec):
            # Reading a table makes it: nobody wants empty tables from a job that only takes away.
            return hidden_frame(self._spark, ", ".join(f"{name} string" for name in {USER, *spec.key}), [])
        table = self._tables.read(spec)
        if spec == EVENTS_QUARANTINE:
            return theirs(table, self.people, self._source)
        return table.join(self.people.frame(), USER, "left_semi")

    def _counts(self, rows: DataFrame) -> dict[str, int]:
        counts: dict[str, int] = {}
        for row in rows.groupBy(USER).count().collect():
            name = self.people.id_of(row[0])
            counts[name] = counts.get(name, 0) + row[1]
        return counts

    def _delete_aliases(self) -> None:
        """Aliases of their sessions, and aliases of what those were called before."""
        aliases = self._tables.read(SESSION_ALIAS)
        current = self._tables.read(SESSIONS).join(self.people.frame(), USER, "left_semi").select(SESSIONS.session_id)
        led: set[str] = set()
        while True:
            older = aliases.join(current, SESSION_ALIAS.session_id, "left_semi").select(SESSION_ALIAS.old_session_id)
            new = {row[0] for row in older.distinct().collect()} - led
            if not new:
                break
            led |= new
            current = hidden_frame(self._spark, f"{SESSION_ALIAS.session_id} string", [(name,) for name in new])
        gone = hidden_frame(self._spark, f"{SESSION_ALIAS.old_session_id} string", [(name,) for name in led])
        self._tables.delete(SESSION_ALIAS, gone)


def recounted(items: DataFrame, events: DataFrame) -> DataFrame:
    """ITEMS rows whose counts are not those of the EVENTS rows, with the right ones.

    An item that no event names any more keeps its row and its number, which models know: 0 events, never seen.
    known_from moves on to the item's next event that is left, or back to its last one: never to one that is gone.
    """
    counts = (ITEMS.n_events, ITEMS.first_seen, ITEMS.last_seen, ITEMS.known_from)
    time = F.col(EVENTS.event_time)
    since = items.select(ITEMS.item_id, F.coalesce(ITEMS.known_from, ITEMS.first_seen).alias("_since"))
    seen = (
        events.join(since, EVENTS.item_id)
        .groupBy(EVENTS.item_id)
        .agg(
            F.count("*").alias("_n_events"),
            F.min(time).alias("_first_seen"),
            F.max(time).alias("_last_seen"),
            F.coalesce(F.min(F.when(time >= F.col("_since"), time)), F.max(time)).alias("_known_from"),
        )
    )
    joined = items.join(seen, ITEMS.item_id, "left").withColumn("_n_events", F.coalesce("_n_events", F.lit(0)))
    is_other = reduce(lambda a, b: a | b, (~F.col(name).eqNullSafe(F.col(f"_{name}")) for name in counts))
    right = {name: F.col(f"_{name}").cast(ITEMS.column(name).type.ddl) for name in counts}
    return joined.where(is_other).withColumns(right).select(*ITEMS.column_names)


def theirs(quarantine: DataFrame, people: People, source: SourceConfig) -> DataFrame:
    """EVENTS_QUARANTINE rows of the people, with `user_id`, the name by which each was found.

    A readable row of the source is theirs where the source's own expression gives their id. Any row whose payload holds
    a distinctive id as a whole word is theirs too, and a line that could not be read, or a row of another source, where
    it holds any of the ids: rather a bad row too many than one of theirs.
    """
    is_unreadable = F.array_contains(EVENTS_QUARANTINE.rules, UNREADABLE_RULE)
    own = (F.col(EVENTS_QUARANTINE.source) == source.name) & ~is_unreadable
    told = _with_users(quarantine.where(own), source)
    payload = F.col(EVENTS_QUARANTINE.payload)
    held = payload.contains(F.col(_NEEDLE)) & F.rlike(payload, F.col(_PATTERN))
    counts = F.lit(told is None) | (F.col(_IS_DISTINCTIVE) == "true") | ~own
    found = quarantine.join(people.patterns(), held & counts).select(*quarantine.columns, USER)
    if told is not None:
        found = found.unionByName(told.join(people.frame(), USER, "left_semi").select(*found.columns))
    return found.dropDuplicates([*EVENTS_QUARANTINE.key, USER])


def _with_users(quarantine: DataFrame, source: SourceConfig) -> DataFrame | None:
    """The rows with what the source's expression of user_id gives; None where the payload's types are not known."""
    expression = source.columns[EVENTS.user_id]
    declared = [] if source.schema is None else list(cast(StructType, _parse_datatype_string(source.schema)))
    names = {field.name.lower() for field in declared}
    words = {word.lower(): word for word in re.findall(r"[^\W\d]\w*", expression)}
    others = [StructField(word, StringType()) for lower, word in sorted(words.items()) if lower not in names]
    raw = F.from_json(EVENTS_QUARANTINE.payload, StructType([*declared, *others]))
    try:
        # Beside the table's own columns a raw one of the same name would be ambiguous.
        apart = quarantine.select(F.struct("*").alias("_row"), raw.alias("_raw")).select("_row", "_raw.*")
        return apart.select("_row", F.expr(f"cast(({expression}) as string)").alias(USER)).select("_row.*", USER)
    except AnalysisException:
        return None


def _quoted(text: str) -> str:
    """The text as a Java regular expression that matches it alone."""
    return re.sub(r"([^\w\s])", r"\\\1", text)

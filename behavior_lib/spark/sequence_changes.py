"""Which users' SEQUENCES rows may differ from those that are stored, so that only theirs are made again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from behavior_lib.spark.history import has_only, has_same_rows
from behavior_lib.spark.ledger import BUILD, Ledger
from behavior_lib.spark.past import HISTORY_FROM, users_with_changes
from behavior_lib.spark.sequences import without_padding
from behavior_lib.spark.tables import Tables
from behavior_lib.tables import EVENTS, ITEMS, SEQUENCES, SESSIONS
from behavior_lib.tables import PIPELINE_RUNS as RUNS
from behavior_lib.tables.sequences import REFIT, TEST, TRAIN


@dataclass(frozen=True)
class LastBuild:
    """What the stored sequences of a source were made of, as versions.

    events: the older of the log that was read and the log that the sessions were made of. sessions, items: what was
    read. sequences: what was written.
    """

    events: int
    sessions: int
    items: int
    sequences: int


class LastBuilds:
    """Finds the build that the next one may go on from."""

    def __init__(self, spark: SparkSession, tables: Tables, source: str) -> None:
        self._spark, self._tables, self._source = spark, tables, source

    def find(self, ledger: Ledger, config_hash: str, since: datetime) -> LastBuild | None:
        """The last good build of the source; None where all sequences have to be made.

        That is so without one, and where its configuration was another, its sessions are from before `since` (files of
        so old versions may be gone), someone else wrote the table since, sessions were replaced and not merged, or the
        past of a table was erased.
        """
        run = ledger.last_success(BUILD, self._source, wrote=SEQUENCES)
        if run is None or run[RUNS.config_hash] != config_hash:
            return None
        told = ledger.last_success("sessionize", self._source, before=run[RUNS.started_at])
        if told is None or told[RUNS.finished_at] < since:
            return None
        read, written = run[RUNS.input_versions], run[RUNS.output_versions]
        events = min(read[EVENTS.name], told[RUNS.input_versions][EVENTS.name])
        last = LastBuild(events, read[SESSIONS.name], written[ITEMS.name], written[SEQUENCES.name])
        return last if self._can_be_read(last) else None

    def _can_be_read(self, last: LastBuild) -> bool:
        for spec, version in ((EVENTS, last.events), (ITEMS, last.items)):
            if version < int(self._tables.properties(spec).get(HISTORY_FROM, "0")):
                return False
        sessions, sequences = (self._tables.version(spec) for spec in (SESSIONS, SEQUENCES))
        return has_same_rows(self._spark, self._tables, SEQUENCES, last.sequences, sequences) and has_only(
            self._spark, self._tables, SESSIONS, last.sessions, sessions, ("MERGE",)
        )


def has_cuts(stored: DataFrame, validation: datetime, test: datetime) -> bool:
    """Whether the stored SEQUENCES rows were all made for these cuts. False where train or test has no row to tell."""
    split = F.col(SEQUENCES.split)
    cut = F.when(split.isin(TEST, REFIT), F.lit(test)).otherwise(F.lit(validation))
    told = [F.bool_and(F.col(SEQUENCES.as_of) == cut), F.bool_or(split == TRAIN), F.bool_or(split == TEST)]
    return all(stored.agg(*told).first() or (False,))


def touched_users(tables: Tables, source: str, last: LastBuild, events_version: int, items: DataFrame) -> DataFrame:
    """user_id of every user of the source whose rows may differ from those of the last build, once each.

    Whoever gained or lost an event since, and whoever has an event of an item whose number is another than it was, or
    is known from another time on: an item may come into the vocabulary long after an event of it. items: ITEMS rows of
    now.
    """
    number = [ITEMS.item_id, ITEMS.item_index, ITEMS.known_from]
    numbers = [frame.select(*number) for frame in (tables.read(ITEMS, last.items), items)]
    in_both = numbers[0].unionByName(numbers[1]).groupBy(*number).count()
    renumbered = in_both.where("count = 1").select(ITEMS.item_id)
    own = tables.read(EVENTS, events_version).where(F.col(EVENTS.source) == source)
    affected = own.join(renumbered, ITEMS.item_id, "left_semi").select(EVENTS.user_id)
    return users_with_changes(tables, source, last.events, events_version).unionByName(affected).distinct()


def with_rows_of(stored: DataFrame, made: DataFrame, users: DataFrame) -> DataFrame:
    """Rows for `lay_out`: the stored SEQUENCES rows, with those made in place of all rows of the users.

    made: not padded yet. users: user_id, once each.
    """
    others = stored.join(users, SEQUENCES.user_id, "left_anti").select(*SEQUENCES.column_names)
    return without_padding(others).unionByName(made)

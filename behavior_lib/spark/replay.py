"""Quarantined rows judged again, after a rule changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_

from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from behavior_lib.config.schema import PrivacyConfig
from behavior_lib.config.source import SourceConfig
from behavior_lib.errors import DataRefused
from behavior_lib.progress import Progress
from behavior_lib.spark.batches import Batch, BatchRegistry
from behavior_lib.spark.canonical import RAW, canonical
from behavior_lib.spark.clean import BROKEN, accepted, is_late, judge
from behavior_lib.spark.dedupe import IS_CONFLICT, IS_DUPLICATE, mark_duplicates
from behavior_lib.spark.elements import NO_ELEMENT
from behavior_lib.spark.ingest import as_events
from behavior_lib.spark.ledger import RowCounts
from behavior_lib.spark.memory import StatisticsMemory
from behavior_lib.spark.presence import is_marker, named_in, personal_columns, with_array
from behavior_lib.spark.privacy import Privacy
from behavior_lib.spark.raw import read_raw
from behavior_lib.spark.raw_files import UNREADABLE
from behavior_lib.spark.rules import CONFLICT
from behavior_lib.spark.tables import Tables
from behavior_lib.tables import EVENTS, EVENTS_QUARANTINE

_IS_HELD = "_is_held"
_NEED_THE_FILES = ("unreadable_row", "no_element", CONFLICT)


@dataclass(frozen=True)
class _Fates:
    """What becomes of the rows of one batch that were judged again."""

    read: int
    accepted: int
    duplicate: int
    conflict: int
    late: int
    held: int


class QuarantineReplay:
    """Moves the rows that pass by today's rules from EVENTS_QUARANTINE to EVENTS, under the batch that brought them.

    Rows without payload (policy drop), unreadable lines and conflicts stay: their files are needed, so a rebuild judges
    them. So do, under pseudonyms, rows that broke a rule of ids. A row whose id a later batch has given to an event is
    held back for the same reason: the earliest batch's row wins, and only a rebuild can put it in the other's place.
    Killed and run again it ends in the same tables.
    """

    def __init__(
        self, spark: SparkSession, tables: Tables, source: SourceConfig, privacy: PrivacyConfig, progress: Progress
    ) -> None:
        self._spark, self._tables, self._source, self._progress = spark, tables, source, progress
        self._privacy = Privacy(spark, tables, source, privacy)
        self._memory = StatisticsMemory(tables, source)

    def run(self) -> tuple[RowCounts, int]:
        """Judge all batches again. Returns where the rows went, and how many of the quarantined are held back."""
        batches = BatchRegistry(self._spark, self._tables, self._source.name).batches()
        waiting = self._waiting().select(EVENTS_QUARANTINE.batch_id).distinct().collect()
        names = {row[0] for row in waiting}
        fates = []
        for place, batch in enumerate(batches):
            if batch.batch_id in names:
                with self._progress.step(f"judging the quarantined rows of batch {batch.batch_id}"):
                    fates.append(self._replay(batch, [later.batch_id for later in batches[place + 1 :]]))
        read, fresh, duplicate, conflict, late, held = (
            sum(getattr(fate, name) for fate in fates) for name in _Fates.__dataclass_fields__
        )
        rows = RowCounts(read, fresh, duplicate, read - fresh - duplicate - late, late, conflict)
        return rows, held

    def _waiting(self) -> DataFrame:
        """Quarantined rows that can be judged again."""
        beyond = F.array(*(F.lit(rule) for rule in _NEED_THE_FILES))
        readable = ~F.arrays_overlap(EVENTS_QUARANTINE.rules, beyond)
        own = F.col(EVENTS_QUARANTINE.source) == self._source.name
        return self._tables.pinned(EVENTS_QUARANTINE).where(
            own & readable & F.col(EVENTS_QUARANTINE.payload).isNotNull()
        )

    def _replay(self, batch: Batch, later: Sequence[str]) -> _Fates:
        marked = self._judged(batch, later).persist(StorageLevel.MEMORY_AND_DISK)
        try:
            passes = F.size(BROKEN) == 0
            is_duplicate, is_conflict, is_held = (F.col(name) for name in (IS_DUPLICATE, IS_CONFLICT, _IS_HELD))
            moves = passes & ~is_duplicate & ~is_held
            goes = passes & ~is_conflict & ~is_held
            row = marked.agg(
                F.count("*"),
                F.count_if(moves),
                F.count_if(goes & is_duplicate),
                F.count_if(passes & is_conflict & ~is_held),
                F.count_if(is_late()),
                F.count_if(is_held),
            ).first()
            fates = _Fates(*(row or ()))
            if fates.accepted:
                events = accepted(marked.where(moves)).drop(IS_DUPLICATE, IS_CONFLICT, _IS_HELD)
                self._tables.insert(EVENTS, as_events(events, self._source.name, batch.batch_id))
            if fates.accepted + fates.duplicate:
                self._tables.delete(EVENTS_QUARANTINE, marked.where(goes).select(*EVENTS_QUARANTINE.key).distinct())
            return fates
        finally:
            marked.unpersist()

    def _judged(self, batch: Batch, later: Sequence[str]) -> DataFrame:
        """The batch's waiting rows, judged, with the quarantine's key, `_is_duplicate`, `_is_conflict`, `_is_held`."""
        raw = read_raw(self._spark, self._source, batch.files)
        privacy = self._privacy.of(batch.batch_id)
        waiting = self._waiting().where(F.col(EVENTS_QUARANTINE.batch_id) == batch.batch_id)
        if privacy.keys is not None:
            self._check_that_rows_tell([name for name in raw.columns if not is_marker(name)])
            waiting = waiting.where(~_was_judged_by_ids())
        statistics = self._memory.of_batch(privacy.before_rules(canonical(raw, self._source)), batch)
        fields = privacy.payload_schema(raw.drop(UNREADABLE, NO_ELEMENT).schema)
        copies = waiting.withColumn(
            "_copy", F.explode(F.sequence(F.lit(1), F.col(EVENTS_QUARANTINE.n_rows).cast("int")))
        )
        parsed = copies.select(
            F.from_json(EVENTS_QUARANTINE.payload, fields).alias("_row"),
            *(F.col(name).alias(f"_{name}") for name in EVENTS_QUARANTINE.key),
        )
        keys = [f"_{name}" for name in EVENTS_QUARANTINE.key]
        markers = {UNREADABLE: F.lit(None).cast("string"), NO_ELEMENT: F.lit(False)}
        rows = canonical(
            parsed.select("_row.*", *keys).withColumns({k: v for k, v in markers.items() if k in raw.columns}),
            self._source,
        )
        named = privacy.as_stored(rows).withColumns({name: F.col(RAW)[f"_{name}"] for name in EVENTS_QUARANTINE.key})
        judged = judge(named, self._source, batch.accepted_at, batch.late_before, statistics)
        judged = privacy.after_rules_of_stored(judged)
        log = self._tables.pinned(EVENTS)
        passing = mark_duplicates(judged.where(F.size(BROKEN) == 0), log)
        taken = log.where((F.col(EVENTS.source) == self._source.name) & F.col(EVENTS.batch_id).isin(list(later)))
        held = taken.select(EVENTS.event_id, F.lit(True).alias(_IS_HELD))
        passing = passing.join(held, EVENTS.event_id, "left").withColumn(_IS_HELD, F.coalesce(_IS_HELD, F.lit(False)))
        failing = judged.where(F.size(BROKEN) > 0)
        no = {name: F.lit(False) for name in (IS_DUPLICATE, IS_CONFLICT, _IS_HELD)}
        return passing.unionByName(failing.withColumns(no))

    def _check_that_rows_tell(self, raw_columns: Sequence[str]) -> None:
        """Raises DataRefused where a rule, or another column than the user's, asks for what pseudonyms took away."""
        ids = (EVENTS.user_id, EVENTS.event_id)
        asking = [rule.id for rule in self._source.rules if rule.column in ids or named_in(rule.keep_if or "", ids)]
        personal = set(personal_columns(self._source, raw_columns))
        asking += [
            name
            for name, expression in self._source.columns.items()
            if name not in ids and personal & set(named_in(with_array(self._source, expression), raw_columns))
        ]
        if asking:
            what, mend = "quarantined rows have no plain ids, which are asked for", "run behavior rebuild"
            raise DataRefused(what, where=f"source {self._source.name}", value=", ".join(asking), mend=mend)


def _was_judged_by_ids() -> Column:
    """Whether a quarantined row broke a rule of its user's or its own id, which its pseudonym does not break."""
    prefixes = [f"{name}_" for name in (EVENTS.user_id, EVENTS.event_id)]
    return F.exists(EVENTS_QUARANTINE.rules, lambda rule: reduce(or_, (rule.startswith(each) for each in prefixes)))

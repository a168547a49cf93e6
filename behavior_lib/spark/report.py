"""What the report shows, gathered from the tables: aggregated in Spark, small when it comes here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from behavior_lib.report import data
from behavior_lib.report.projection import nearest
from behavior_lib.spark.ledger import FAILED
from behavior_lib.spark.tables import Tables
from behavior_lib.tables import (
    EVALUATIONS,
    EVENTS,
    EVENTS_QUARANTINE,
    ITEM_EMBEDDINGS,
    ITEMS,
    PIPELINE_RUNS,
    SEQUENCES,
    SESSIONS,
)
from behavior_lib.tables.sequences import TEST, VALIDATION

MOST_ITEMS = 2000  # on the map; more take minutes to place and cannot be told apart
_KNOWN_ITEMS, _NEAREST = 10, 6
_NAMES = ("name", "title", "description")
_GROUPS = ("department", "category", "product_category", "genre", "type", "brand")
_KINDS = ("product_category", "category", "product_type", *_GROUPS)
_COUNT, _RANK, _KEY, _VALUE = "_count", "_rank", "_key", "_value"


@dataclass(frozen=True)
class Reader:
    """The tables of one source, read for its report. versions: of the tables, so that all parts see one state."""

    tables: Tables
    source: str
    versions: Mapping[str, int]

    @property
    def events(self) -> DataFrame:
        """The source's EVENTS."""
        return self._own(self.tables.read(EVENTS, self.versions[EVENTS.name]))

    @property
    def sessions(self) -> DataFrame:
        """The source's SESSIONS."""
        return self._own(self.tables.read(SESSIONS, self.versions[SESSIONS.name]))

    @property
    def items(self) -> DataFrame:
        """ITEMS, of all sources."""
        return self.tables.read(ITEMS, self.versions[ITEMS.name])

    @property
    def sequences(self) -> DataFrame:
        """SEQUENCES."""
        return self.tables.read(SEQUENCES, self.versions[SEQUENCES.name])

    def totals(self) -> data.Totals | None:
        """What the tables hold; None where there is no event."""
        time = F.col(EVENTS.event_time)
        events = self.events.agg(F.count("*"), F.min(time), F.max(time), F.count_distinct(EVENTS.user_id)).first()
        if events is None or not events[0]:
            return None
        own = self.items.where(F.col(ITEMS.n_events) > 0)
        return data.Totals(events[0], events[3], self.sessions.count(), own.count(), events[1], events[2])

    def batches(self) -> tuple[data.Batch, ...]:
        """Every batch that was taken, oldest first, with where its rows went."""
        runs = PIPELINE_RUNS
        counted = self._runs().where(
            (F.col(runs.status) != FAILED) & F.col(runs.batch_id).isNotNull() & F.col(runs.rows_read).isNotNull()
        )
        columns = (runs.rows_read, runs.rows_accepted, runs.rows_duplicate, runs.rows_quarantined, runs.rows_late)
        rows = counted.select(runs.batch_id, runs.finished_at, *columns).orderBy(runs.finished_at, runs.run_id)
        return tuple({row[0]: data.Batch(*row) for row in rows.collect()}.values())

    def rules(self) -> dict[str, int]:
        """Rows set aside by the rule that they broke."""
        rows = self._own(self.tables.read(EVENTS_QUARANTINE))
        rule = F.explode(EVENTS_QUARANTINE.rules).alias(_KEY)
        counts = rows.select(rule, EVENTS_QUARANTINE.n_rows).groupBy(_KEY).agg(F.sum(EVENTS_QUARANTINE.n_rows))
        return {row[0]: row[1] for row in counts.collect()}

    def jobs(self) -> tuple[data.JobRun, ...]:
        """The newest run of each job but those that make the report, in the order in which they ended."""
        runs = PIPELINE_RUNS
        newest = Window.partitionBy(runs.job).orderBy(F.col(runs.finished_at).desc(), F.col(runs.run_id))
        others = self._runs().where(~F.col(runs.job).isin("report", "pipeline"))
        rows = others.withColumn(_RANK, F.row_number().over(newest)).where(F.col(_RANK) == 1)
        return tuple(
            data.JobRun(
                row[runs.job],
                row[runs.finished_at],
                (row[runs.finished_at] - row[runs.started_at]).total_seconds(),
                row[runs.status],
                row[runs.output_versions],
                row[runs.error],
            )
            for row in rows.orderBy(runs.finished_at).collect()
        )

    def events_by_day(self) -> dict[date, int]:
        """Events of each UTC day that has any."""
        return {row[0]: row[1] for row in self.events.groupBy(EVENTS.event_date).count().collect()}

    def cuts(self) -> dict[str, datetime]:
        """The cut of each split that users are judged on; of leave-one-out there is none."""
        judged = self.sequences.where(F.col(SEQUENCES.split).isin(VALIDATION, TEST)).groupBy(SEQUENCES.split)
        rows = judged.agg(F.max(SEQUENCES.as_of), F.count(SEQUENCES.held_out_id)).collect()
        return {split: cut for split, cut, n_held_out in rows if not n_held_out}

    def session_lengths(self) -> data.Sessions | None:
        """How long sessions are; None where there is none."""
        start, end = F.unix_micros(SESSIONS.session_start), F.unix_micros(SESSIONS.session_end)
        before = F.lag(start).over(Window.partitionBy(SESSIONS.user_id).orderBy(SESSIONS.session_start))
        day, minute = 86_400_000_000, 60_000_000
        events = self._distribution(F.col(SESSIONS.n_events))
        minutes = self._distribution(F.floor((end - start) / minute))
        days_apart = self._distribution(F.floor((start - before) / day))
        return data.Sessions(events, minutes, days_apart) if events else None

    def scores(self, model: str, version: int) -> tuple[data.Score, ...]:
        """The figures of a model version and of the methods beside it."""
        table = EVALUATIONS
        rows = self.tables.read(table, self.versions[table.name]).where(_is_of(model, version))
        columns = (table.split, table.method, table.metric, table.value, table.standard_error, table.n_users)
        return tuple(data.Score(*row) for row in rows.select(*columns, table.lead_standard_error).collect())

    def vectors(self, model: str, version: int, always: tuple[str, ...] = ()) -> data.ItemVectors | None:
        """The vectors of the most frequent items, and of those in `always`; None where the version wrote none."""
        vectors = self.tables.read(ITEM_EMBEDDINGS, self.versions[ITEM_EMBEDDINGS.name]).where(_is_of(model, version))
        joined = vectors.select(ITEMS.item_id, ITEM_EMBEDDINGS.embedding).join(self.items, ITEMS.item_id)
        order = (F.col(ITEMS.n_events).desc(), F.col(ITEMS.item_index))
        chosen = joined.orderBy(*order).limit(MOST_ITEMS)
        if always:
            chosen = chosen.unionByName(joined.where(F.col(ITEMS.item_id).isin(*always))).dropDuplicates(
                [ITEMS.item_id]
            )
        rows = chosen.orderBy(*order).collect()
        if not rows:
            return None
        items = [item_of(row[ITEMS.item_id], row[ITEMS.attributes]) for row in rows]
        return data.ItemVectors(
            tuple(item.id for item in items),
            tuple(item.name for item in items),
            tuple(item.group for item in items),
            np.array([row[ITEMS.n_events] for row in rows], dtype=np.int64),
            np.array([row[ITEM_EMBEDDINGS.embedding] for row in rows], dtype=np.float32),
            _first_key(rows[0][ITEMS.attributes], _GROUPS) or "group",
        )

    def well_known(self, wanted: tuple[str, ...], vectors: data.ItemVectors) -> tuple[data.Neighbours, ...]:
        """The neighbours of the items in `wanted`, or of the most frequent named item of each of ten kinds."""
        place = {item: index for index, item in enumerate(vectors.ids)}
        chosen = [place[item] for item in wanted if item in place] if wanted else self._one_a_kind(vectors, place)
        return tuple(
            data.Neighbours(
                _item_at(vectors, index),
                int(vectors.events[index]),
                tuple((_item_at(vectors, near), value) for near, value in nearest(vectors.vectors, index, _NEAREST)),
            )
            for index in chosen
        )

    def _one_a_kind(self, vectors: data.ItemVectors, place: Mapping[str, int]) -> list[int]:
        rows = self.items.orderBy(F.col(ITEMS.n_events).desc(), F.col(ITEMS.item_index)).limit(MOST_ITEMS).collect()
        kinds: dict[str, int] = {}
        for row in rows:
            attributes = row[ITEMS.attributes] or {}
            kind = attributes.get(_first_key(attributes, _KINDS) or "", row[ITEMS.item_id])
            if row[ITEMS.item_id] in place and (_first_key(attributes, _NAMES) or not any(vectors.groups)):
                kinds.setdefault(kind, place[row[ITEMS.item_id]])
        return list(kinds.values())[:_KNOWN_ITEMS]

    def _distribution(self, value: Column) -> dict[int, int]:
        measured = self.sessions.select(F.col(SESSIONS.user_id), value.alias(_VALUE))
        counts = measured.where(F.col(_VALUE).isNotNull()).groupBy(_VALUE).count()
        return {int(row[0]): row[1] for row in counts.collect()}

    def _runs(self) -> DataFrame:
        return self._own(self.tables.read(PIPELINE_RUNS))

    def _own(self, frame: DataFrame) -> DataFrame:
        return frame.where(F.col(EVENTS.source) == self.source)


def item_of(item_id: str, attributes: Mapping[str, str] | None) -> data.Item:
    """An item by its name and group where the source's item file gives them, else by its id."""
    known = {key: value for key, value in (attributes or {}).items() if value}
    name, group = _first_key(known, _NAMES), _first_key(known, _GROUPS)
    return data.Item(item_id, known[name] if name else item_id, known[group] if group else "")


def _first_key(attributes: Mapping[str, str] | None, wanted: tuple[str, ...]) -> str | None:
    return next((key for key in wanted if (attributes or {}).get(key)), None)


def _item_at(vectors: data.ItemVectors, index: int) -> data.Item:
    return data.Item(vectors.ids[index], vectors.names[index], vectors.groups[index])


def _is_of(model: str, version: int) -> Column:
    return (F.col(EVALUATIONS.model_name) == model) & (F.col(EVALUATIONS.model_version) == version)

"""Number the items and turn histories into training sequences, split by time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from behavior_lib.config.schema import SplitKind
from behavior_lib.errors import DataRefused
from behavior_lib.spark.dimension import read_dimension
from behavior_lib.spark.fullness import Fullness
from behavior_lib.spark.item_graph import item_graph
from behavior_lib.spark.job import Job, exit_with, main
from behavior_lib.spark.ledger import UNCHANGED, Summary
from behavior_lib.spark.sequence_changes import LastBuilds, has_cuts, touched_users, with_rows_of
from behavior_lib.spark.sequences import IN_ORDER_OF_USERS, Shape, Vocabulary, lay_out
from behavior_lib.spark.session import session_settings
from behavior_lib.spark.splits import cuts, global_rows, leave_one_out_rows
from behavior_lib.spark.vocabulary import buckets_of, write_event_types, write_items
from behavior_lib.tables import EVENT_TYPES, EVENTS, ITEM_GRAPH, ITEMS, SEQUENCES, SESSIONS
from behavior_lib.tables.sequences import REFIT, TEST, TRAIN, VALIDATION


def run(job: Job) -> Summary:
    """Items and event types from all events; sequences of the source's events, and the item graph of what they teach,
    in place of those before.
    """
    inputs = {spec.name: job.tables.version(spec) for spec in (EVENTS, SESSIONS)}
    config_hash = job.config_hash("sequences", "split", "vocabulary", makes=SEQUENCES)
    if job.is_done(inputs, config_hash) and job.sequences_owner() == job.source.name:
        job.progress.say("no new event")
        return Summary(UNCHANGED, inputs=inputs, config_hash=config_hash)
    events = job.tables.read(EVENTS, inputs[EVENTS.name])
    written = _write_vocabulary(job, events)
    material = _material(job, inputs, written)
    bounds = _cuts(job, material.events)
    since = job.started_at - timedelta(hours=job.config.maintain.retention_hours)
    last = LastBuilds(job.spark, job.tables, job.source.name).find(job.ledger, config_hash, since)
    stored = job.tables.pinned(SEQUENCES)
    metrics: dict[str, float] = {}
    if last is None or (bounds is not None and not has_cuts(stored, *bounds)):
        with job.progress.step("writing sequences"):
            written[SEQUENCES.name] = _write(job, _rows(job, material, bounds))
    else:
        users = touched_users(job.tables, job.source.name, last, inputs[EVENTS.name], material.vocabulary.items)
        users = users.persist()
        metrics["users_made_again"] = users.count()
        with job.progress.step(f"writing sequences of {metrics['users_made_again']:,} users again"):
            made = _rows(job, material.of(users), bounds)
            written[SEQUENCES.name] = _write(job, with_rows_of(stored, made, users))
        users.unpersist()
    if job.config.sequences.neighbours:
        with job.progress.step("writing the item graph"):
            written[ITEM_GRAPH.name] = _write_graph(job, written[SEQUENCES.name])
    found = Fullness.of(job.tables.read(SEQUENCES), job.config.sequences.length)
    _tell(job, found, bounds)
    metrics |= {f"rows_{split}": found.rows.get(split, 0) for split in (TRAIN, VALIDATION, TEST)}
    metrics["padding_share"] = round(found.padding_share, 4)
    if job.config.split.refit:
        metrics[f"rows_{REFIT}"] = found.rows.get(REFIT, 0)
    extra = {} if bounds is None else {"validation_cut": bounds[0].isoformat(), "test_cut": bounds[1].isoformat()}
    return Summary(inputs=inputs, tables=written, metrics=metrics, config_hash=config_hash, extra=extra)


def _tell(job: Job, found: Fullness, bounds: tuple[datetime, datetime] | None) -> None:
    told = "leave one out" if bounds is None else f"cuts {bounds[0]} and {bounds[1]}"
    job.progress.say(f"{told}; rows {dict(found.rows)}")
    if bounds is not None and not found.rows.get(TRAIN):
        mend = "move it by --set split.days=… or, where the source names its cuts, split.validation=… and split.test=…"
        job.progress.say(f"nothing to learn from: no event lies before the first cut; {mend}")
    if (advice := found.advice()) is not None:
        job.progress.say(advice)


@dataclass(frozen=True)
class Material:
    """What sequences are made of: the source's EVENTS and SESSIONS rows, and the numbers."""

    events: DataFrame
    sessions: DataFrame
    vocabulary: Vocabulary

    def of(self, users: DataFrame) -> Material:
        """That of some users. users: user_id, once each."""
        events, sessions = (rows.join(users, EVENTS.user_id, "left_semi") for rows in (self.events, self.sessions))
        return Material(events, sessions, self.vocabulary)


def _write_vocabulary(job: Job, events: DataFrame) -> dict[str, int]:
    with job.progress.step("numbering items"):
        dimension = None if job.source.items is None else read_dimension(job.spark, job.source.items)
        items = write_items(job.tables, events, dimension, job.config.vocabulary)
        types = write_event_types(job.tables, events)
    return {ITEMS.name: items, EVENT_TYPES.name: types}


def _material(job: Job, inputs: Mapping[str, int], written: Mapping[str, int]) -> Material:
    events, sessions = (
        job.tables.read(spec, inputs[spec.name]).where(F.col(spec.source) == job.source.name)
        for spec in (EVENTS, SESSIONS)
    )
    items, types = (job.tables.read(spec, written[spec.name]) for spec in (ITEMS, EVENT_TYPES))
    buckets = buckets_of(job.tables, job.config.vocabulary.hash_buckets)
    return Material(events, sessions, Vocabulary(items, types, buckets, items.count()))


def _cuts(job: Job, events: DataFrame) -> tuple[datetime, datetime] | None:
    """The validation and the test cut; None for leave-one-out. Raises DataRefused where there is no event."""
    newest = events.agg(F.max(EVENTS.event_time)).first()
    if newest is None or newest[0] is None:
        raise DataRefused("there is no event to learn from", where=f"source {job.source.name}", mend="run ingest first")
    if job.config.split.kind is SplitKind.leave_one_out:
        return None
    return cuts(job.config.split, job.source.split, newest[0])


def _rows(job: Job, material: Material, bounds: tuple[datetime, datetime] | None) -> DataFrame:
    config = job.config.sequences
    shape = Shape(config.length, config.max_events_per_user, config.stride)
    refit = job.config.split.refit
    if bounds is None:
        return leave_one_out_rows(material.events, material.vocabulary, shape, refit)
    return global_rows(material.events, material.sessions, material.vocabulary, shape, *bounds, refit)


def _write(job: Job, rows: DataFrame) -> int:
    config = job.config.sequences
    with session_settings(job.spark, IN_ORDER_OF_USERS):
        return job.tables.replace(SEQUENCES, lay_out(rows, config.files, config.length), row_group=config.row_group)


def _write_graph(job: Job, version: int) -> int:
    """That of the rows that were written, those of users who were not made again among them."""
    sequences, kept = job.tables.read(SEQUENCES, version), job.config.sequences.neighbours
    return job.tables.replace(ITEM_GRAPH, item_graph(sequences, version, job.source.gap, kept))


if __name__ == "__main__":
    exit_with(main(run))

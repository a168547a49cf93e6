"""Number the items and turn histories into training sequences, split by time."""

from datetime import datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from behavior_lib.errors import DataRefused
from behavior_lib.spark.job import Job, exit_with, main
from behavior_lib.spark.ledger import UNCHANGED, Summary
from behavior_lib.spark.sequences import Vocabulary, histories, split_rows, targets
from behavior_lib.spark.splits import cuts
from behavior_lib.spark.vocabulary import buckets_of, read_dimension, write_event_types, write_items
from behavior_lib.tables import EVENT_TYPES, EVENTS, ITEMS, SEQUENCES, SESSIONS
from behavior_lib.tables.sequences import TEST, TRAIN, VALIDATION


def run(job: Job) -> Summary:
    """Items and event types from all events; sequences of the source's events, in place of those before."""
    inputs = {spec.name: job.tables.version(spec) for spec in (EVENTS, SESSIONS)}
    config_hash = job.config_hash("sequences", "split", "vocabulary")
    if job.is_done(inputs, config_hash):
        job.progress.say("no new event")
        return Summary(UNCHANGED, inputs=inputs, config_hash=config_hash)
    events = job.tables.read(EVENTS, inputs[EVENTS.name])
    written = _write_vocabulary(job, events)
    own = events.where(F.col(EVENTS.source) == job.source.name)
    newest = own.agg(F.max(EVENTS.event_time)).first()
    if newest is None or newest[0] is None:
        raise DataRefused("there is no event to learn from", where=f"source {job.source.name}", mend="run ingest first")
    validation, test = cuts(job.config.split, job.source.split, newest[0])
    with job.progress.step("writing sequences"):
        rows = _sequences(job, own, inputs[SESSIONS.name], validation, test)
        written[SEQUENCES.name] = job.tables.replace(SEQUENCES, rows)
    counts = {row[0]: row[1] for row in job.tables.read(SEQUENCES).groupBy(SEQUENCES.split).count().collect()}
    job.progress.say(f"cuts {validation} and {test}; rows {counts}")
    metrics = {f"rows_{split}": counts.get(split, 0) for split in (TRAIN, VALIDATION, TEST)}
    extra = {"validation_cut": validation.isoformat(), "test_cut": test.isoformat()}
    return Summary(inputs=inputs, tables=written, metrics=metrics, config_hash=config_hash, extra=extra)


def _write_vocabulary(job: Job, events: DataFrame) -> dict[str, int]:
    with job.progress.step("numbering items"):
        dimension = None if job.source.items is None else read_dimension(job.spark, job.source.items)
        items = write_items(job.tables, events, dimension, job.config.vocabulary)
        types = write_event_types(job.tables, events)
    return {ITEMS.name: items, EVENT_TYPES.name: types}


def _sequences(job: Job, events: DataFrame, sessions_version: int, validation: datetime, test: datetime) -> DataFrame:
    """The three splits in one frame; train rows lie shuffled by user in as many files as configured."""
    config = job.config.sequences
    buckets = buckets_of(job.tables, job.config.vocabulary.hash_buckets)
    vocabulary = Vocabulary(job.tables.read(ITEMS), job.tables.read(EVENT_TYPES), buckets)
    sessions = job.tables.read(SESSIONS, sessions_version).where(F.col(SESSIONS.source) == job.source.name)

    def rows(split: str, cut: datetime, until: datetime | None) -> DataFrame:
        chunks = histories(events, vocabulary, cut, config.length, config.max_events_per_user)
        judged = split != TRAIN
        target = targets(events, sessions, vocabulary.items, cut, until, config.length) if judged else None
        return split_rows(chunks, target, split, cut, config.length)

    frame = (
        rows(TRAIN, validation, None)
        .unionByName(rows(VALIDATION, validation, test))
        .unionByName(rows(TEST, test, None))
    )
    place = F.pmod(F.xxhash64(SEQUENCES.user_id), F.lit(config.files))
    # By range and not by hash: a hash would put two places into one file and leave another empty, and where files are
    # mixed one after the other a large one would be mixed for itself.
    return frame.repartitionByRange(config.files, place).sortWithinPartitions(
        SEQUENCES.split, F.xxhash64(SEQUENCES.user_id), SEQUENCES.user_id, SEQUENCES.chunk_id
    )


if __name__ == "__main__":
    exit_with(main(run))

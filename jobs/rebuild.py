"""Make a source's events and sessions anew from its raw files; what is right already is left alone."""

from pyspark.sql import functions as F

from behavior_lib.spark.even_tasks import read_evenly
from behavior_lib.spark.job import Job, exit_with, main
from behavior_lib.spark.ledger import UNCHANGED, Summary
from behavior_lib.spark.rebuild import LogRebuild, fingerprint
from behavior_lib.spark.sessionize import find_spread, sessionize, settings_hash
from behavior_lib.tables import EVENTS, SESSIONS

WORK = "log"


def run(job: Job) -> Summary:
    """Replay all batches beside the present tables, then put what differs in its place."""
    digest = job.config_hash("late")
    config = job.config
    rebuild = LogRebuild(
        job.spark, job.tables, config.paths.warehouse, job.source, config.privacy, job.progress, digest
    )
    rows = rebuild.replay()
    written = rebuild.swap()
    with job.alone("sessionize"):
        written |= _sessions(job)
    if not written:
        job.progress.say("events and sessions are what the raw files say")
    return Summary(rows=rows, tables=written, status=Summary.status if written else UNCHANGED)


def _sessions(job: Job) -> dict[str, int]:
    """All sessions of the source; the sessionize job goes on from the events that they were made of."""
    version = job.tables.version(EVENTS)
    events = job.tables.read(EVENTS, version).where(F.col(EVENTS.source) == job.source.name)
    count, newest = events.agg(F.count("*"), F.max(F.unix_micros(EVENTS.event_time))).first() or (0, None)
    own = f"source = '{job.source.name}'"
    with job.progress.step("making all sessions"), read_evenly(job.spark, job.tables, EVENTS):
        spread = find_spread(events, count, job.spark.sparkContext.defaultParallelism)
        new = sessionize(events, job.source.gap, newest or 0, spread).persist()
        is_same = fingerprint(new) == fingerprint(job.tables.read(SESSIONS).where(own))
        written = {} if is_same else {SESSIONS.name: job.tables.replace(SESSIONS, new, own)}
        new.unpersist()
    settings = settings_hash(job.source.gap)
    job.record_as("sessionize", Summary(inputs={EVENTS.name: version}, tables=written, config_hash=settings))
    return written


if __name__ == "__main__":
    exit_with(main(run))

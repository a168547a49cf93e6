"""Turn new events into sessions."""

from collections.abc import Sequence
from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from behavior_lib.spark.even_tasks import read_evenly
from behavior_lib.spark.job import Job, exit_with, main
from behavior_lib.spark.ledger import UNCHANGED, Summary
from behavior_lib.spark.past import new_events
from behavior_lib.spark.sessionize import (
    SessionChanges,
    Touched,
    find_endless,
    find_spread,
    find_touched,
    sessionize,
    settings_hash,
    update_sessions,
)
from behavior_lib.tables import EVENTS, SESSION_ALIAS, SESSIONS


def run(job: Job) -> Summary:
    """Make the sessions that events of this source touched since the last good run; all of them for another gap."""
    settings = settings_hash(job.source.gap)
    version, last = job.tables.version(EVENTS), job.last_version(EVENTS, settings)
    nothing = Summary(UNCHANGED, inputs={EVENTS.name: version}, config_hash=settings)
    if last is not None and job.has_same_rows(EVENTS.name, last, version):
        job.progress.say("no new event")
        return nothing
    is_own = F.col(EVENTS.source) == job.source.name
    events = job.tables.read(EVENTS, version).where(is_own)
    new = events if last is None else new_events(job.tables, job.source.name, last, version)
    count, oldest, newest = _span(new, EVENTS.event_time)
    if newest is None or oldest is None:
        return nothing
    if last is None:
        with job.progress.step("making all sessions"), read_evenly(job.spark, job.tables, EVENTS):
            spread = find_spread(events, count, job.spark.sparkContext.defaultParallelism)
            sessions = sessionize(events, job.source.gap, newest, spread)
            written = job.tables.replace(SESSIONS, sessions, f"source = '{job.source.name}'")
        return _summary(job, version, {SESSIONS.name: written})
    stored = job.tables.pinned(SESSIONS).where(F.col(SESSIONS.source) == job.source.name)
    # Of a session that ended later the file's statistics know; most updates bring the newest event and read no file.
    later = stored.where(F.col(SESSIONS.session_end) > F.timestamp_micros(F.lit(newest)))
    newest = _span(later, SESSIONS.session_end)[2] or newest
    with job.progress.step("making the sessions that new events touched"):
        touched = find_touched(stored, new, job.source.gap, newest, oldest)
        touched = Touched(touched.sessions.persist(), touched.arrived.persist())
        days = [row[0] for row in touched.sessions.select(SESSIONS.session_date).distinct().collect()]
        changes = update_sessions(touched, events, new, job.source.gap, newest, find_endless(touched))
        written_tables = _write(job, changes, days)
        for frame in (touched.sessions, touched.arrived):
            frame.unpersist()
    return _summary(job, version, written_tables)


def _span(rows: DataFrame, time: str) -> tuple[int, int | None, int | None]:
    """The number of rows, their smallest and their largest time, µs since 1970."""
    row = rows.agg(F.count("*"), F.min(F.unix_micros(time)), F.max(F.unix_micros(time))).first()
    return (0, None, None) if row is None else (row[0], row[1], row[2])


def _write(job: Job, changes: SessionChanges, touched: Sequence[date]) -> dict[str, int]:
    """Aliases first: once the sessions are written, a repeated run no longer sees the old ids.

    touched: the days of the stored sessions that change or go.
    """
    frames = (changes.changed.persist(), changes.stale.persist(), changes.aliases.persist())
    changed, stale, aliases = frames
    written = {}
    # Most updates merge no two sessions, and a merge of nothing costs as much as one of something.
    if not aliases.isEmpty():
        written[SESSION_ALIAS.name] = job.tables.merge(SESSION_ALIAS, aliases, update=False)
    written[SESSIONS.name] = job.tables.merge(SESSIONS, changed, stale, within=touched)
    for frame in frames:
        frame.unpersist()
    return written


def _summary(job: Job, events_version: int, written: dict[str, int]) -> Summary:
    sessions = job.tables.read(SESSIONS).where(F.col(SESSIONS.source) == job.source.name).count()
    job.progress.say(f"{sessions:,} sessions")
    return Summary(
        inputs={EVENTS.name: events_version},
        tables=written,
        metrics={"sessions": sessions},
        config_hash=settings_hash(job.source.gap),
    )


if __name__ == "__main__":
    exit_with(main(run))

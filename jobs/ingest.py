"""Take new raw files into the event log: clean, set bad rows aside, drop duplicates, account for every row."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timezone

from behavior_lib.config.source import promised_batches
from behavior_lib.errors import ConfigError, TornFiles
from behavior_lib.spark.batches import Batch
from behavior_lib.spark.failures import torn_file
from behavior_lib.spark.ingest import BatchIngest
from behavior_lib.spark.inputs import named_files, new_files
from behavior_lib.spark.job import Job, exit_with, main
from behavior_lib.spark.ledger import UNCHANGED, Summary
from behavior_lib.spark.raw_files import RawFile
from behavior_lib.tables import EVENTS, EVENTS_QUARANTINE

WORK = "log"  # what changes a source's part of the event log is done by one run at a time
FLAGS = {"--missing": "run.missing=true"}


def run(job: Job) -> Summary:
    """Finish what an earlier run left half done, then take the new batch, or those that the schedule misses."""
    if job.config.run.missing and job.source.schedule is None:
        mend = "add schedule: {every: 1d, first: …, input: …{batch}…}"
        raise ConfigError("nothing says which batches there must be", where=f"source {job.source.name}", mend=mend)
    ingest = BatchIngest(job.spark, job.tables, job.source, job.config.privacy, job.progress)
    done = job.ledger.finished_batches(job.name, job.source.name)
    for batch in ingest.registry.batches():
        if batch.batch_id not in done and batch.batch_id != job.config.run.batch_id:
            job.record_also(_take(job, ingest, batch))
    last, torn = Summary(UNCHANGED), []
    for batch in _requested(job, ingest):
        if batch.batch_id in done:
            last = Summary(UNCHANGED, batch_id=batch.batch_id)
            continue
        if last.rows is not None:
            job.record_also(last)
        taken, left = _take_whole(job, ingest, batch)
        torn += left
        last = taken or last
    if torn:
        if last.rows is not None:
            job.record_also(last)
        raise torn[0]
    if last.status == UNCHANGED:
        job.progress.say("no new file")
    return _with_gaps(job, ingest, last)


def _requested(job: Job, ingest: BatchIngest) -> Iterator[Batch]:
    """The batches that the command asks for; none where no file is new."""
    batch_id, pattern = job.config.run.batch_id, job.config.run.input
    if job.config.run.missing:
        for name in _missing(job, ingest):
            yield from _by_hand(job, ingest, name, str(job.source.schedule and job.source.schedule.input))
        return
    if pattern is not None:
        yield from _by_hand(job, ingest, batch_id, pattern)
        return
    known = ingest.registry.batches()
    registered = next((batch for batch in known if batch.batch_id == batch_id), None)
    if registered is not None:
        yield registered
        return
    files = new_files(job.spark, job.source, known)
    if files:
        yield _propose(job, ingest, batch_id, files)


def _by_hand(job: Job, ingest: BatchIngest, batch_id: str | None, pattern: str) -> Iterator[Batch]:
    try:
        place = pattern.replace("{batch}", batch_id or "")
        files = named_files(job.spark, job.source, place, ingest.registry.batches(), batch_id)
    except Exception as error:
        if not job.config.run.missing:
            raise
        job.progress.warn(f"promised batch {batch_id} has no file yet: {str(error).splitlines()[0]}")
        return
    if files:
        yield _propose(job, ingest, batch_id, files)


def _propose(job: Job, ingest: BatchIngest, batch_id: str | None, files: Sequence[RawFile]) -> Batch:
    return ingest.registry.propose(batch_id, files, datetime.now(timezone.utc), job.config.late.max_days)


def _missing(job: Job, ingest: BatchIngest) -> list[str]:
    """Ids of the batches that the schedule promised and no run has taken."""
    if job.source.schedule is None:
        return []
    taken = {batch.batch_id for batch in ingest.registry.batches()}
    where = f"source {job.source.name}"
    promised = promised_batches(job.source.schedule, datetime.now(timezone.utc), where)
    return [name for name in promised if name not in taken]


def _take_whole(job: Job, ingest: BatchIngest, batch: Batch) -> tuple[Summary | None, list[TornFiles]]:
    """Take the batch. Where the command does not say which files belong to it, torn ones are left for a later one."""
    is_free = job.config.run.input is None and job.config.run.batch_id is None and not job.config.run.missing
    torn: list[TornFiles] = []
    while batch.files:
        try:
            return _take(job, ingest, batch), torn
        except Exception as error:
            problem, file = torn_file(error, batch.files)
            if file is None or problem is None or not is_free or batch in ingest.registry.batches():
                raise
            job.progress.warn(f"left out: {problem}")
            torn.append(problem)
            whole = [other for other in batch.files if other != file]
            batch = _propose(job, ingest, None, whole) if whole else Batch("", 0, batch.accepted_at, ())
    return None, torn


def _take(job: Job, ingest: BatchIngest, batch: Batch) -> Summary:
    rows = ingest.take(batch)
    told = ", ".join(f"{count:,} {name}" for name, count in vars(rows).items() if name != "read")
    job.progress.say(f"batch {batch.batch_id}: {rows.read:,} rows: {told}")
    versions = {spec.name: job.tables.version(spec) for spec in (EVENTS, EVENTS_QUARANTINE)}
    return Summary(rows=rows, tables=versions, batch_id=batch.batch_id, extra={"batch_id": batch.batch_id})


def _with_gaps(job: Job, ingest: BatchIngest, summary: Summary) -> Summary:
    missing = _missing(job, ingest)
    if not missing:
        return summary
    shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
    job.progress.warn(f"{len(missing)} batches that the schedule promised were not taken: {shown}")
    return replace(summary, extra={**summary.extra, "missing_batches": missing})


if __name__ == "__main__":
    exit_with(main(run))

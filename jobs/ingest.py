"""Take new raw files into the event log: clean, set bad rows aside, drop duplicates, account for every row."""

from collections.abc import Sequence
from datetime import datetime, timezone

from behavior_lib.spark.batches import Batch
from behavior_lib.spark.ingest import BatchIngest
from behavior_lib.spark.job import Job, exit_with, main
from behavior_lib.spark.ledger import UNCHANGED, Summary
from behavior_lib.spark.raw import RawFile, find_files
from behavior_lib.tables import EVENTS, EVENTS_QUARANTINE


def run(job: Job) -> Summary:
    """Finish what an earlier run left half done, then take the new batch."""
    ingest = BatchIngest(job.spark, job.tables, job.source, job.config.late.max_days, job.progress)
    done = job.ledger.finished_batches(job.name, job.source.name)
    known = ingest.registry.batches()
    for batch in known:
        if batch.batch_id not in done and batch.batch_id != job.config.run.batch_id:
            job.record_also(_take(job, ingest, batch))
    requested = _requested(job, ingest, known)
    if requested is None or requested.batch_id in done:
        job.progress.say("no new file")
        return Summary(UNCHANGED, batch_id=None if requested is None else requested.batch_id)
    return _take(job, ingest, requested)


def _requested(job: Job, ingest: BatchIngest, known: Sequence[Batch]) -> Batch | None:
    """The batch that the command asks for; None where no file is new."""
    batch_id, pattern = job.config.run.batch_id, job.config.run.input
    if pattern is not None:
        files: Sequence[RawFile] = find_files(job.spark, pattern)
    else:
        registered = next((batch for batch in known if batch.batch_id == batch_id), None)
        if registered is not None:
            return registered
        taken = {file.path for batch in known for file in batch.files}
        files = [file for file in find_files(job.spark, job.source.path) if file.path not in taken]
    return ingest.registry.propose(batch_id, files, datetime.now(timezone.utc)) if files else None


def _take(job: Job, ingest: BatchIngest, batch: Batch) -> Summary:
    rows = ingest.take(batch)
    job.progress.say(
        f"{rows.read:,} rows: {rows.accepted:,} accepted, {rows.duplicate:,} duplicate, "
        f"{rows.quarantined:,} quarantined, {rows.late:,} late"
    )
    versions = {spec.name: job.tables.version(spec) for spec in (EVENTS, EVENTS_QUARANTINE)}
    return Summary(rows=rows, tables=versions, batch_id=batch.batch_id, extra={"batch_id": batch.batch_id})


if __name__ == "__main__":
    exit_with(main(run))

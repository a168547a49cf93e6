"""Judge quarantined rows again by today's rules, and move those that pass into the event log."""

from behavior_lib.spark.job import Job, exit_with, main
from behavior_lib.spark.ledger import SUCCEEDED, UNCHANGED, Summary
from behavior_lib.spark.replay import QuarantineReplay
from behavior_lib.tables import EVENTS, EVENTS_QUARANTINE

WORK = "log"


def run(job: Job) -> Summary:
    """Move what passes; say what is held back."""
    rows, held = QuarantineReplay(job.spark, job.tables, job.source, job.config.privacy, job.progress).run()
    job.progress.say(f"{rows.read:,} rows judged again: {rows.accepted:,} moved, {rows.duplicate:,} were duplicates")
    if held:
        job.progress.warn(
            f"{held:,} rows pass, but a later batch has their ids: run rebuild to put them in their place"
        )
    is_changed = rows.accepted + rows.duplicate > 0
    versions = {spec.name: job.tables.version(spec) for spec in (EVENTS, EVENTS_QUARANTINE)} if is_changed else {}
    return Summary(SUCCEEDED if is_changed else UNCHANGED, rows=rows, tables=versions, extra={"rows_held": held})


if __name__ == "__main__":
    exit_with(main(run))

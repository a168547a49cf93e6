"""Remove the people of a file (--ids FILE, one user id a line) from every table and its past, and prove it."""

from __future__ import annotations

from datetime import datetime, timezone

from behavior_lib.errors import DataRefused
from behavior_lib.privacy.ids import read_ids
from behavior_lib.privacy.keys import Keyring
from behavior_lib.privacy.scan import Proof
from behavior_lib.spark.folders import delete_folder
from behavior_lib.spark.forget import ERASED, Forgetting, People
from behavior_lib.spark.job import Job, exit_with, main
from behavior_lib.spark.ledger import SUCCEEDED, UNCHANGED, Summary
from behavior_lib.spark.past import History
from behavior_lib.spark.proof import Remains
from behavior_lib.spark.rebuild import staging_root
from behavior_lib.tables import EVENTS, FORGOTTEN_USERS

WORK = "log"
FLAGS = {"--ids": "forget.ids="}


def run(job: Job) -> Summary:
    """Remember the people, delete their rows, erase the past of the tables, remove pages and traces, prove it."""
    config = job.config
    ids = read_ids(config.forget.ids)
    ring = Keyring.read(config.privacy)
    ring.newest  # noqa: B018  # without a key nobody can be remembered: say so before Spark starts
    people = People(job.spark, tuple(ids), ring)
    work = Forgetting(job.spark, job.tables, job.source, people)
    with job.progress.step(f"looking for {len(ids):,} people"):
        found, begun = work.find(), work.remembered()
    _refuse_unknown(job, ids, {name for counts in found.values() for name in counts} | begun.keys())
    is_new = bool(found) or any(begun.get(name) is None for name in ids)
    if is_new:
        _erase(job, work)
    remains = Remains(job.spark, job.tables, config, people.names)
    removed = remains.remove_pages_and_traces()
    proof = _prove(job, work, remains)
    versions = {spec.name: job.tables.version(spec) for spec in ERASED if job.tables.exists(spec)} if is_new else {}
    if is_new:
        versions[FORGOTTEN_USERS.name] = work.close(datetime.now(timezone.utc))
    rows = {f"rows_{table}": sum(counts.values()) for table, counts in sorted(found.items())}
    metrics = {"people": len(ids), **rows, "files_removed": len(removed)}
    told = {"rows": 0, "files": proof.files, "bytes": proof.bytes, "hits": proof.hits}
    return Summary(SUCCEEDED if is_new else UNCHANGED, tables=versions, metrics=metrics, extra={"proof": told})


def _refuse_unknown(job: Job, ids: dict[str, int], known: set[str]) -> None:
    """A mistyped id must not end in a proof that nothing of it is left."""
    unknown = [line for name, line in ids.items() if name not in known]
    if unknown and not job.config.forget.allow_unknown:
        what = f"{len(unknown)} of {len(ids)} ids are in no table and were not forgotten before"
        mend = "correct them, or take them too with --set forget.allow_unknown=true"
        raise DataRefused(what, where=f"line {unknown[0]} of {job.config.forget.ids}", mend=mend)


def _erase(job: Job, work: Forgetting) -> None:
    work.remember(job.started_at, job.run_id)
    # What a killed rebuild left is theirs too.
    delete_folder(job.spark, staging_root(job.config.paths.warehouse))
    history = History(job.spark, job.tables)
    stored = [spec for spec in ERASED if job.tables.exists(spec)]
    if EVENTS in stored:
        history.announce(EVENTS)
    for spec in stored:
        with job.progress.step(f"deleting from {spec.name}"):
            work.delete(spec)
    for spec in stored:
        with job.progress.step(f"erasing the past of {spec.name}"):
            history.erase(spec)


def _prove(job: Job, work: Forgetting, remains: Remains) -> Proof:
    with job.progress.step("searching what is left"):
        left = work.find()
        proof = remains.scan(job.progress.say)
    if left or proof.hits:
        where = f"table {min(left)}" if left else proof.guilty[0]
        mend = "end what else reads or writes there, remove a file that is no table's, and rerun"
        raise DataRefused("something of them is left", where=where, mend=mend)
    return proof


if __name__ == "__main__":
    exit_with(main(run))

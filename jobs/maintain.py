"""Care for the tables: join small files, keep the log short to read, remove files that no version needs."""

from dataclasses import asdict

from behavior_lib.spark.files import FileReport
from behavior_lib.spark.job import Job, exit_with, main
from behavior_lib.spark.ledger import SUCCEEDED, UNCHANGED, Summary
from behavior_lib.spark.maintain import Caretaker, TableCare, check_retention
from behavior_lib.spark.maintain_report import care_table
from behavior_lib.tables import ALL_TABLES


def run(job: Job) -> Summary:
    """Care for every table that exists. No row changes, so no other job finds anything new afterwards."""
    check_retention(job.config.maintain)
    caretaker = Caretaker(job.spark, job.tables, job.config.maintain)
    present = [spec for spec in ALL_TABLES if job.tables.exists(spec)]
    inputs = {spec.name: job.tables.version(spec) for spec in present}
    cares: dict[str, TableCare] = {}
    for spec in present:
        with job.progress.step(f"caring for {spec.name}"):
            cares[spec.name] = caretaker.care(spec)
    job.progress.show(care_table(cares))
    versions = {spec.name: job.tables.version(spec) for spec in present}
    is_unchanged = all(care.is_unchanged for care in cares.values())
    return Summary(
        UNCHANGED if is_unchanged else SUCCEEDED,
        inputs=inputs,
        tables={name: version for name, version in versions.items() if version != inputs[name]},
        metrics=_metrics(cares),
        extra={"report": {name: _told(care) for name, care in cares.items()}},
    )


def _metrics(cares: dict[str, TableCare]) -> dict[str, float]:
    def total(name: str, when: str) -> int:
        reports: list[FileReport] = [getattr(care, when) for care in cares.values()]
        return sum(getattr(report, name) for report in reports)

    return {
        "files_before": total("files", "before"),
        "files_after": total("files", "after"),
        "bytes_before": total("bytes", "before"),
        "bytes_after": total("bytes", "after"),
        "partitions_rewritten": sum(care.partitions_rewritten for care in cares.values()),
        "files_removed": sum(care.files_removed for care in cares.values()),
        "properties_set": sum(care.properties_set for care in cares.values()),
        "checkpoints_written": sum(care.has_new_checkpoint for care in cares.values()),
    }


def _told(care: TableCare) -> dict[str, int]:
    return {**asdict(care.after), "files_before": care.before.files, "partitions_rewritten": care.partitions_rewritten}


if __name__ == "__main__":
    exit_with(main(run))

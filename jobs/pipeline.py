"""All jobs in order: from raw files to vectors and a report; only what is new is done."""

import json
import sys
from pathlib import Path
from typing import Any

from behavior_lib import samples
from behavior_lib.cli import load_job
from behavior_lib.errors import DataRefused, GateNotPassed, TornFiles
from behavior_lib.evaluation.judge import CHAMPION
from behavior_lib.registry import Registry, may_hold_a_secret
from behavior_lib.spark.job import Job, execute, exit_with, main
from behavior_lib.spark.ledger import STOPPED, SUCCEEDED, UNCHANGED, Summary

TRAINS = True  # ranks that another launcher started wait for it
STEPS = ("ingest", "sessionize", "build_sequences", "train", "evaluate", "embed", "report")


def run(job: Job) -> Summary:
    """Run each step as its own job, with its own line in the ledger.

    A model that does not pass the gate ends the run with GateNotPassed, but only after the present champion, where
    there is one, has read the new events, and the report has told by how much the new one missed. Torn files end it
    with TornFiles, but only after what was taken beside them has gone the whole way. Where training is asked to end
    (SIGTERM) before its last step, so is this; the same command goes on.
    """
    if job.config.pipeline.sample is not None:
        with job.progress.step(f"sample data {job.config.pipeline.sample}"):
            samples.write(job.config.pipeline.sample, Path(job.config.paths.raw))
    told: list[dict[str, Any]] = []
    refusal: DataRefused | None = None
    for name in STEPS:
        if name == "embed" and isinstance(refusal, GateNotPassed) and not _has_champion(job):
            continue
        try:
            told.append(execute(Job(name, job.loaded.for_job(name), job.ranks), load_job(name).run))
            print(json.dumps(told[-1], ensure_ascii=False), file=sys.stderr)
        except (GateNotPassed, TornFiles) as error:
            job.progress.warn(str(error))
            refusal = error
        if told and told[-1]["status"] == STOPPED:
            return Summary(STOPPED, tables=told[-1]["tables"])
    _say_where_to_look(job)
    if refusal is not None:
        raise refusal
    return _summary(job, told)


def _has_champion(job: Job) -> bool:
    return Registry(job.config.mlflow.tracking_uri, job.config.mlflow.model_name).resolve(CHAMPION) is not None


def _summary(job: Job, told: list[dict[str, Any]]) -> Summary:
    metrics = {key: value for result in told for key, value in result["metrics"].items()}
    tables = {key: value for result in told for key, value in result["tables"].items()}
    is_unchanged = all(result["status"] == UNCHANGED for result in told)
    extra = {"job_seconds": {result["job"]: result["seconds"] for result in told}, "report": job.config.report.path}
    return Summary(UNCHANGED if is_unchanged else SUCCEEDED, tables=tables, metrics=metrics, extra=extra)


def _say_where_to_look(job: Job) -> None:
    config = job.config
    job.progress.say(f"tables: {config.tables.catalog or config.paths.warehouse}")
    address = "…" if may_hold_a_secret(config.mlflow.tracking_uri) else config.mlflow.tracking_uri
    job.progress.say(f"models: mlflow ui --backend-store-uri {address}")
    job.progress.say(f"report: {config.report.path}")


if __name__ == "__main__":
    exit_with(main(run))

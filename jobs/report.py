"""Write the report: one HTML file about the rows, the events, the model and what it recommends."""

import os
from dataclasses import replace
from pathlib import Path

from behavior_lib.evaluation.judge import CHAMPION
from behavior_lib.inference.encoder import Encoder
from behavior_lib.registry import CHALLENGER, Registered, Registry, may_hold_a_secret
from behavior_lib.report import ReportData, data, render
from behavior_lib.report.curves import training_curve
from behavior_lib.report.verdict import headline
from behavior_lib.spark.job import Job, exit_with, main
from behavior_lib.spark.ledger import UNCHANGED, Summary
from behavior_lib.spark.report import Reader
from behavior_lib.spark.report_users import stories
from behavior_lib.tables import (
    EVALUATIONS,
    EVENTS,
    EVENTS_QUARANTINE,
    INGEST_FILES,
    ITEM_EMBEDDINGS,
    ITEMS,
    SEQUENCES,
    SESSIONS,
)

_READ = (EVENTS, SESSIONS, ITEMS, SEQUENCES, ITEM_EMBEDDINGS, EVALUATIONS)
_OF_BATCHES = (INGEST_FILES, EVENTS_QUARANTINE)  # what a batch writes that brings no event


def run(job: Job) -> Summary:
    """Write the report anew where a table, the model or the configuration changed, or the file is gone."""
    job.config.evaluate.check()
    job.config.report.check()
    registry = Registry(job.config.mlflow.tracking_uri, job.config.mlflow.model_name)
    job.check_sequences()
    alias, model = _shown(job, registry)
    versions = {spec.name: job.tables.version(spec) for spec in _READ}
    inputs = versions | {spec.name: job.tables.version(spec) for spec in _OF_BATCHES}
    if model is not None:
        inputs[f"models:/{model.name}@{alias}"] = model.version
    config_hash = job.config_hash("report", "evaluate.k")
    path = Path(job.config.report.path).absolute()
    extra = {"report": str(path)}
    if path.is_file() and job.is_done(inputs, config_hash):
        job.progress.say(f"nothing new to tell; {path} stays")
        return Summary(UNCHANGED, inputs=inputs, config_hash=config_hash, extra=extra)
    reader = Reader(job.tables, job.source.name, versions)
    with job.progress.step("counting rows, events and sessions"):
        content = _without_model(job, reader, alias)
    if model is not None:
        with job.progress.step(f"asking version {model.version} for neighbours and next items"):
            content = _with_model(job, content, reader, registry, model, alias)
    with job.progress.step("writing the report"):
        _write(path, render(content))
    job.progress.say(f"report: {path}")
    return Summary(inputs=inputs, config_hash=config_hash, extra=extra)


def _shown(job: Job, registry: Registry) -> tuple[str, Registered | None]:
    """The champion, or the challenger where there is none, if it learned from this source; "" and None without."""
    for alias in (CHAMPION, CHALLENGER):
        model = registry.resolve(alias)
        if model is not None and model.is_of(job.source.name):
            return alias, model
        if model is not None:
            job.progress.warn(f"the {alias} of {model.name} is of source {model.source}: the report leaves it out")
    return "", None


def _without_model(job: Job, reader: Reader, alias: str) -> ReportData:
    return ReportData(
        source=job.source.name,
        made_at=job.started_at.replace(tzinfo=None),
        totals=reader.totals(),
        batches=reader.batches(),
        rules=reader.rules(),
        jobs=reader.jobs(),
        events_by_day=reader.events_by_day(),
        cuts=reader.cuts(),
        sessions=reader.session_lengths(),
        places=_places(job, alias),
    )


def _with_model(
    job: Job, content: ReportData, reader: Reader, registry: Registry, model: Registered, alias: str
) -> ReportData:
    wanted = tuple(job.config.report.known_items)
    vectors = reader.vectors(model.name, model.version, wanted)
    if vectors is not None and (unknown := sorted(set(wanted) - set(vectors.ids))):
        reason = f"of what version {model.version} has no vector there are no neighbours"
        job.progress.warn(f"report.known_items names {', '.join(unknown)}: {reason}")
    with registry.bundle(model) as folder:
        encoder = Encoder.load(folder)
    users, k = job.config.report.users, job.config.evaluate.k
    told = stories(reader, encoder, users, k, job.config.report.explain_events)
    if untold := sorted(set(users) - {story.user_id for story in told}):
        reason = "who has no event before the cut and a session after it has no story"
        job.progress.warn(f"report.users names {', '.join(untold)}: {reason}")
    return replace(
        content,
        model=data.Model(
            model.name,
            model.version,
            alias,
            training_curve(job.config.mlflow.tracking_uri, model.run_id),
            model.is_refit,
        ),
        scores=headline(reader.scores(model.name, model.version), k),
        vectors=vectors,
        neighbours=() if vectors is None else reader.well_known(wanted, vectors),
        stories=told,
    )


def _places(job: Job, alias: str) -> dict[str, str]:
    config = job.config
    places = {
        "Raw files": job.source.path,
        "Tables": config.tables.catalog or str(Path(config.paths.warehouse).absolute()),
    }
    if alias:
        places["Model"] = f"models:/{config.mlflow.model_name}@{alias}"
    if not may_hold_a_secret(config.mlflow.tracking_uri):
        places["Runs and models"] = f"mlflow ui --backend-store-uri {config.mlflow.tracking_uri}"
    return places


def _write(path: Path, page: str) -> None:
    """Readers see the old report or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(page, encoding="utf-8")
    os.replace(partial, path)


if __name__ == "__main__":
    exit_with(main(run))

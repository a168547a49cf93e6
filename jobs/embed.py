"""Write the champion's vectors of all users and items back into the tables."""

from datetime import datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from behavior_lib.errors import DataRefused
from behavior_lib.inference.encoder import read_bundle
from behavior_lib.registry import Registered, Registry
from behavior_lib.spark.admission import Admission
from behavior_lib.spark.embed import Serving, item_embeddings, user_embeddings
from behavior_lib.spark.job import Job, exit_with, main
from behavior_lib.spark.ledger import UNCHANGED, Summary
from behavior_lib.tables import EVENT_TYPES, EVENTS, ITEM_EMBEDDINGS, ITEMS, USER_EMBEDDINGS, TableSpec


def run(job: Job) -> Summary:
    """Vectors of every user and item as of now, in place of those that the champion's version wrote before."""
    registry = Registry(job.config.mlflow.tracking_uri, job.config.mlflow.model_name)
    champion = registry.champion()
    mend = "evaluate a model of this source first"
    Admission(job.source.name, f"model {champion.name}", mend, job.progress.warn, DataRefused).check_origin(champion)
    inputs = {spec.name: job.tables.version(spec) for spec in (EVENTS, ITEMS, EVENT_TYPES)}
    extra = {"model_name": champion.name, "model_version": champion.version}
    if _is_done(job, champion, inputs[EVENTS.name]):
        job.progress.say(f"version {champion.version} has seen every event")
        return Summary(UNCHANGED, inputs=inputs, extra=extra)
    with registry.bundle(champion) as folder:
        files = read_bundle(folder)
    items, types = (job.tables.read(spec, inputs[spec.name]) for spec in (ITEMS, EVENT_TYPES))
    serving = Serving.of(files, items, types)
    events = job.tables.read(EVENTS, inputs[EVENTS.name]).where(F.col(EVENTS.source) == job.source.name)
    with job.progress.step("embedding items"):
        item_rows = item_embeddings(items, serving.shipment)
        item_version = _replace(job, ITEM_EMBEDDINGS, item_rows, champion, {})
    with job.progress.step("embedding users"):
        lineage = {
            USER_EMBEDDINGS.as_of: F.lit(_newest(events)).cast("timestamp"),
            USER_EMBEDDINGS.events_version: F.lit(inputs[EVENTS.name]).cast("bigint"),
            USER_EMBEDDINGS.run_id: F.lit(job.run_id),
        }
        user_rows = user_embeddings(events, serving)
        user_version = _replace(job, USER_EMBEDDINGS, user_rows, champion, lineage)
    written = {ITEM_EMBEDDINGS.name: item_version, USER_EMBEDDINGS.name: user_version}
    counts = {f"{spec.name}": _own(job, spec, champion).count() for spec in (USER_EMBEDDINGS, ITEM_EMBEDDINGS)}
    job.progress.say(f"{counts[USER_EMBEDDINGS.name]:,} users and {counts[ITEM_EMBEDDINGS.name]:,} items")
    return Summary(inputs=inputs, tables=written, metrics=counts, extra=extra)


def _is_done(job: Job, champion: Registered, events_version: int) -> bool:
    """Items are written before users, so a run that died between the two is done again."""
    last = _own(job, USER_EMBEDDINGS, champion).agg(F.max(USER_EMBEDDINGS.events_version)).first()
    return last is not None and last[0] is not None and job.has_same_rows(EVENTS.name, last[0], events_version)


def _newest(events: DataFrame) -> datetime | None:
    row = events.agg(F.max(EVENTS.event_time)).first()
    return None if row is None else row[0]


def _own(job: Job, spec: TableSpec, champion: Registered) -> DataFrame:
    return job.tables.read(spec).where(_condition(champion))


def _condition(champion: Registered) -> str:
    name = champion.name.replace("'", "\\'")
    return f"{USER_EMBEDDINGS.model_version} = {champion.version} and {USER_EMBEDDINGS.model_name} = '{name}'"


def _replace(job: Job, spec: TableSpec, rows: DataFrame, champion: Registered, lineage: dict[str, Column]) -> int:
    named = {USER_EMBEDDINGS.model_name: F.lit(champion.name), USER_EMBEDDINGS.model_version: F.lit(champion.version)}
    complete = rows.withColumns({**named, **lineage}).select(*spec.column_names)
    return job.tables.replace(spec, complete.sortWithinPartitions(*spec.sort_by), _condition(champion))


if __name__ == "__main__":
    exit_with(main(run))

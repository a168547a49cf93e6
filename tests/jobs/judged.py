"""What tests of judged models share: the registered model of conftest made champion, run, and asked without Spark."""

import mlflow
from mlflow import MlflowClient
from pyspark.sql import functions as F

from behavior_lib.cli import load_job
from behavior_lib.registry import CHALLENGER
from behavior_lib.spark.job import execute
from behavior_lib.tables import EVENTS

LENGTH = 48  # of a history, in events


def make_champion(registry, version, job):
    client = MlflowClient(job("evaluate").config.mlflow.tracking_uri)
    client.set_registered_model_alias(registry.model_name, "champion", str(version.version))
    client.delete_registered_model_alias(registry.model_name, CHALLENGER)


def run(job):
    return execute(job, load_job(job.name).run)


def predict(job, registry, before=None):
    """What the registered model says of every user's raw history up to a time, and the histories."""
    event = F.struct(
        F.unix_micros(EVENTS.event_time).alias(EVENTS.event_time),
        EVENTS.event_id,
        EVENTS.item_id,
        EVENTS.event_type,
        EVENTS.value,
    )
    events = job.tables.read(EVENTS).where(F.lit(True) if before is None else F.col(EVENTS.event_time) < F.lit(before))
    together = events.groupBy(EVENTS.user_id).agg(F.array_sort(F.collect_list(event)).alias("events"))
    names = (EVENTS.item_id, EVENTS.event_type, EVENTS.event_time, EVENTS.value)
    histories = together.select(EVENTS.user_id, *(F.col("events")[name].alias(name) for name in names)).toPandas()
    mlflow.set_tracking_uri(job.config.mlflow.tracking_uri)
    try:
        return mlflow.pyfunc.load_model(f"models:/{registry.model_name}@champion").predict(histories), histories
    finally:
        mlflow.set_tracking_uri(None)

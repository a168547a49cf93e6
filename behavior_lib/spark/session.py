"""The Spark session of a job."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pyspark.sql import SparkSession

from behavior_lib.config.schema import SparkConfig
from behavior_lib.doctor.java import require_java
from behavior_lib.layout import conf_root
from behavior_lib.spark.jars import DELTA_SESSION_CONFIGS, delta_configs


def start_session(name: str, config: SparkConfig) -> SparkSession:
    """The running session where there is one (spark-submit, a notebook, another job of this process), else a new one.

    Raises EnvironmentProblem where Java is missing or of a version that Spark 4 cannot run on.
    """
    running = SparkSession.getActiveSession()
    if running is None:
        # A `java` of another version may stand first on the path: Spark takes JAVA_HOME's.
        os.environ["JAVA_HOME"] = str(require_java().home)
    # PySpark turns times into Python's in the process's own zone, without saying which: make that UTC.
    os.environ["TZ"] = "UTC"
    time.tzset()
    # Executors must run the interpreter that the driver runs: theirs is what holds the libraries.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName(name)
    if config.master is not None and running is None and "PYSPARK_GATEWAY_PORT" not in os.environ:
        builder = builder.master(config.master)
    if config.driver_memory is not None:
        builder = builder.config("spark.driver.memory", config.driver_memory)
    for key, value in {**DELTA_SESSION_CONFIGS, **delta_configs(), **config.conf, **_logging(config)}.items():
        builder = builder.config(key, value)
    with _standard_output_spared():
        session = builder.getOrCreate()
    # PySpark logs every error of a query with its stack trace; the job tells it in one sentence.
    logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL)
    return session


@contextmanager
def session_settings(spark: SparkSession, values: Mapping[str, str]) -> Iterator[None]:
    """Inside, some keys of the session have other values."""
    before = {key: spark.conf.get(key, None) for key in values}
    for key, value in values.items():
        spark.conf.set(key, value)
    try:
        yield
    finally:
        for key, old in before.items():
            if old is None:
                spark.conf.unset(key)
            else:
                spark.conf.set(key, old)


@contextmanager
def local_time(spark: SparkSession, timezone: str) -> Iterator[None]:
    """Inside, times without an offset are read in `timezone`. Frames must be analysed before the block ends."""
    with session_settings(spark, {"spark.sql.session.timeZone": timezone}):
        yield


@contextmanager
def _standard_output_spared() -> Iterator[None]:
    """A JVM that starts inside writes to standard error: VACUUM prints, and standard output is for the job's JSON line.

    One that runs already, as under spark-submit, keeps its streams.
    """
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _logging(config: SparkConfig) -> dict[str, str]:
    """A JVM of our own says only errors; one that runs already keeps its habits."""
    key = "spark.driver.extraJavaOptions"
    if "PYSPARK_GATEWAY_PORT" in os.environ or "DATABRICKS_RUNTIME_VERSION" in os.environ:
        return {}
    quiet = f"-Dlog4j2.configurationFile={(conf_root() / 'log4j2.properties').as_uri()}"
    return {key: f"{config.conf.get(key, '')} {quiet}".strip()}

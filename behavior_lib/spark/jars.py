"""Where Spark gets Delta's jars from: the folder that set-up filled, or Maven Central."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

DELTA_COORDINATE = "io.delta:delta-spark_4.0_2.13:4.4.0"

# Delta's artifact names a newer Hadoop, Parquet and log4j than the ones Spark 4.0 ships. Two versions of one class on
# one class path fail at run time, so everything that Spark has already stays out; seven jars are left.
DELTA_EXCLUDES = ",".join(
    (
        "org.apache.hadoop:*",
        "org.apache.parquet:*",
        "org.apache.logging.log4j:*",
        "org.slf4j:*",
        "com.fasterxml.jackson.core:*",
        "com.fasterxml.jackson.datatype:*",
        "com.github.luben:*",
        "com.google.code.findbugs:*",
        "commons-logging:*",
        "commons-pool:*",
        "io.airlift:*",
        "javax.annotation:*",
        "org.locationtech.jts:*",
        "org.roaringbitmap:*",
        "org.xerial.snappy:*",
    )
)

DELTA_SESSION_CONFIGS: Mapping[str, str] = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}


def default_jars_dir() -> Path:
    """The folder inside this Python environment that set-up fills; named by version, so that an upgrade misses it."""
    return Path(sys.prefix) / "jars" / DELTA_COORDINATE.replace(":", "-")


def delta_configs(jars_dir: Path | None = None, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Spark settings that put Delta on the class path of a session about to start.

    jars_dir: a folder of Delta's jars; by default the one that set-up filled. With jars in it they are used as they
    are, without network; otherwise Spark resolves them from Maven Central.
    Returns no setting on Databricks, whose runtime brings Delta, and under spark-submit, whose JVM runs already and
    took its jars from `--packages` or from spark-defaults.conf (set-up writes one beside pip's Spark).
    """
    if "DATABRICKS_RUNTIME_VERSION" in environ or "PYSPARK_GATEWAY_PORT" in environ:
        return {}
    jars = sorted((jars_dir or default_jars_dir()).glob("*.jar"))
    if jars:
        return {"spark.jars": ",".join(str(jar) for jar in jars)}
    return {"spark.jars.packages": DELTA_COORDINATE, "spark.jars.excludes": DELTA_EXCLUDES}

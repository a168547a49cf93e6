"""Folders wherever Spark can write them: local disks and object stores alike."""

from __future__ import annotations

from pyspark.sql import SparkSession


def delete_folder(spark: SparkSession, folder: str) -> None:
    """Remove a folder and all below it; nothing where it is not there."""
    context = spark.sparkContext
    path = context._jvm.org.apache.hadoop.fs.Path(folder)  # type: ignore[union-attr]
    path.getFileSystem(context._jsc.hadoopConfiguration()).delete(path, True)

"""Writes and reads a small Delta table, by which `behavior doctor` sees whether Spark, Java and Delta fit together."""

import sys
import tempfile
from pathlib import Path

from behavior_lib.config.schema import SparkConfig
from behavior_lib.errors import BehaviorError
from behavior_lib.spark.session import start_session

ROWS = 3
_CONF = {
    "spark.ui.enabled": "false",
    "spark.sql.shuffle.partitions": "1",
    "spark.databricks.delta.snapshotPartitions": "1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.extraJavaOptions": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
}


def main() -> int:
    """Write, read back, compare; print one line. Returns the exit code."""
    try:
        spark = start_session("behavior doctor", SparkConfig(master="local[1]", driver_memory="1g", conf=_CONF))
    except BehaviorError as problem:
        print(problem, file=sys.stderr)
        return problem.exit_code
    with tempfile.TemporaryDirectory() as folder:
        table = str(Path(folder, "table"))
        spark.range(ROWS).write.format("delta").save(table)
        read = sorted(row.id for row in spark.read.format("delta").load(table).collect())
    version = spark.version
    spark.stop()
    if read != list(range(ROWS)):
        print(f"{len(read)} of {ROWS} rows came back from a Delta table", file=sys.stderr)
        return 1
    print(f"Spark {version} wrote a Delta table and read it back")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A job that trains without tables or Spark, as another launcher starts it: `-m tests.distributed.external_job`.

run.input: the sequences table; run.batch_id=refuse: it refuses before it trains.
"""

from pathlib import Path

from behavior_lib.data.snapshot import Snapshot, count_train
from behavior_lib.errors import DataRefused
from behavior_lib.spark.job import exit_with, main
from behavior_lib.spark.ledger import Summary
from behavior_lib.train.plan import plan
from tests.sequences_example import with_values

TRAINS = True


class Unwritten:
    """A ledger that keeps nothing."""

    def write(self, *_):
        return 0


def run(job):
    job.ledger = Unwritten()
    if job.config.run.batch_id == "refuse":
        raise DataRefused("nothing to train on", where="this test")
    snapshot = Snapshot.resolve(job.config.run.input, int(job.config.run.batch_id))
    counts = with_values(count_train(snapshot))
    settings = plan(job.config, counts, Path(job.config.paths.var) / "run")
    heard = []
    result = job.ranks.launch(settings, snapshot, counts, heard.append)
    return Summary(extra={"checkpoint": result.checkpoint, "messages": len(heard)})


if __name__ == "__main__":
    exit_with(main(run))

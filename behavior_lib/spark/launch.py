"""Training in Spark tasks, one rank in each: horovod.spark.run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from pyspark.sql import SparkSession

from behavior_lib.data.snapshot import Snapshot, TrainCounts
from behavior_lib.errors import BehaviorError, ConfigError, TrainingFailed
from behavior_lib.train.communicator import without_horovod
from behavior_lib.train.executor import reason, run_in_task
from behavior_lib.train.launch import fetch
from behavior_lib.train.messages import Message, Note
from behavior_lib.train.settings import FitResult, RunSettings
from behavior_lib.train.store import FolderStore


def launch_in_tasks(
    spark: SparkSession,
    settings: RunSettings,
    snapshot: Snapshot,
    counts: TrainCounts,
    listen: Callable[[Message], None],
) -> FitResult:
    """Train in settings.workers Spark tasks, which must all run at once, and wait for the result.

    The executors must reach the files of the snapshot and settings.checkpoints, and have this package and Horovod.
    listen: called with what the epochs told, once all are done. Where a task dies without a reason of its own all
    start again from the newest state, up to settings.restarts times. Raises ConfigError for another communicator than
    horovod or fewer cores than workers, EnvironmentProblem without Horovod, TrainingFailed, and what a rank refused.
    """
    if settings.communicator != "horovod":
        mend = "--set train.communicator=horovod, or train.launcher=local"
        raise ConfigError("train.launcher=spark needs Horovod", value=settings.communicator, mend=mend)
    cores = spark.sparkContext.defaultParallelism
    if cores < settings.workers:
        mend = f"--set train.workers={cores}, or give Spark more cores"
        raise ConfigError(
            "fewer cores than train.workers", where=str(spark.sparkContext.master), value=cores, mend=mend
        )
    store = FolderStore(settings.checkpoints_of(snapshot))
    shutil.rmtree(settings.folder, ignore_errors=True)
    Path(settings.folder).mkdir(parents=True)
    reason(store)  # what a driver that was killed did not hear is not this run's
    for left in reversed(range(settings.restarts + 1)):
        try:
            result = _run(settings, snapshot, counts)
            break
        except Exception as problem:
            failure = reason(store)
            if failure is not None or isinstance(problem, BehaviorError):
                raise failure or problem from None
            lost = TrainingFailed("the tasks ended early", where="Spark", value=str(problem), mend="see their logs")
            if not left:
                raise lost from None
            listen(Note(f"{lost}; starting again from the newest state"))
    for epoch in result.epochs:
        listen(epoch)
    return fetch(result, settings, snapshot)


def _run(settings: RunSettings, snapshot: Snapshot, counts: TrainCounts) -> FitResult:
    try:
        import horovod.spark
    except ImportError:
        raise without_horovod("train.launcher=local train.communicator=torch") from None
    arguments = (settings.to_json(), snapshot.to_json(), counts.arrays())
    told = horovod.spark.run(run_in_task, args=arguments, num_proc=settings.workers, use_gloo=True, env=None, verbose=0)
    return FitResult.from_json(told[0])

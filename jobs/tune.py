"""Search for the configuration with the best validation NDCG@k, trial by trial; `behavior train` takes up the best."""

import shlex
import threading
from pathlib import Path
from typing import Any

from behavior_lib.config.train import LauncherName
from behavior_lib.data.snapshot import Snapshot, TrainCounts, count_train
from behavior_lib.errors import ConfigError, TrainingFailed
from behavior_lib.registry import Registry
from behavior_lib.spark.item_attributes import with_known
from behavior_lib.spark.item_graph import with_graph
from behavior_lib.spark.job import Job, exit_with, main
from behavior_lib.spark.ledger import STOPPED, SUCCEEDED, UNCHANGED, Summary
from behavior_lib.tables import ITEMS, SEQUENCES
from behavior_lib.tables.sequences import TRAIN
from behavior_lib.train.launch import asked_to_end
from behavior_lib.tune.runs import StudyRuns
from behavior_lib.tune.search import Search, as_settings
from behavior_lib.tune.space import read_space
from behavior_lib.tune.study import Found, Study
from behavior_lib.tune.trainer import Trainer, subject_of

WORK = "train"  # a trial may take up the states of a training, and a training those of a trial: one at a time


def run(job: Job) -> Summary:
    """Try configurations on the newest sequences until tune.trials of the study have ended, and tell the best."""
    tune = job.config.tune
    tune.check()
    if job.config.train.launcher is LauncherName.spark:
        raise ConfigError("tune does not train in Spark tasks", mend="--set train.launcher=local")
    if job.config.train.start_model is not None:
        raise ConfigError("trials start from no other model", mend="--set train.start_model=null")
    job.check_sequences()
    model = job.config.model
    read = (SEQUENCES, *([ITEMS] if model.item_attributes or model.item_vectors else []))
    inputs = {spec.name: job.tables.version(spec) for spec in read}
    config_hash = job.config_hash("model", "train", "tune", "evaluate", "mlflow", "seed")
    snapshot = Snapshot.resolve(job.tables.location(SEQUENCES), inputs[SEQUENCES.name])
    snapshot = with_graph(job.spark, job.tables, snapshot, TRAIN)
    with job.progress.step("reading sequences"):
        counts = with_known(count_train(snapshot), job.tables.read(ITEMS, inputs.get(ITEMS.name)), model)
    study = _study(job, snapshot, counts)
    found, is_done = study.found(), job.is_done(inputs, config_hash)
    if is_done and found.ended >= tune.trials:
        job.progress.say(f"study {study.name} has its {found.ended} trials")
        status, extra = UNCHANGED, {}
    else:
        found, run_id = _search(job, study, snapshot, counts, inputs[SEQUENCES.name])
        status, extra = SUCCEEDED if found.ended >= tune.trials else STOPPED, {"mlflow_run_id": run_id}
    k = job.config.evaluate.k
    _tell(job, study, found, k)
    return Summary(
        status,
        inputs=inputs,
        metrics={} if found.best is None else {f"best_validation_ndcg_at_{k}": found.best.value},
        config_hash=config_hash,
        extra={**_result(study, found), **extra},
    )


def _study(job: Job, snapshot: Snapshot, counts: TrainCounts) -> Study:
    """The study of this configuration and these sequences; a new one begins with the configuration as it stands."""
    tune, loaded = job.config.tune, job.loaded.for_job("train")
    space = read_space(tune.space)
    subject = subject_of(loaded, space, snapshot, counts.attributes_digest())
    name = tune.study or f"{job.source.name}-{subject}"
    study = Study(tune.storage, name, subject, space, job.config.seed, tune.pruner)
    if study.begin_with({key: loaded.value(key) for key in space.ranges}):
        job.progress.say("trial 0 is the configuration as it stands")
    return study


def _search(job: Job, study: Study, snapshot: Snapshot, counts: TrainCounts, version: int) -> tuple[Found, str]:
    """Go on with the study. Returns what was found, and the id of its run in MLflow."""
    config, asked = job.config, threading.Event()
    folder = Path(config.paths.var) / "tune" / job.source.name
    trainer = Trainer(job.loaded, snapshot, counts, folder, asked.is_set)
    k = trainer.settings({}).fit.k  # what is wrong with the configuration itself is told before any trial
    registry = Registry(config.mlflow.tracking_uri, config.mlflow.model_name)
    experiment = registry.experiment(config.mlflow.experiment, config.mlflow.artifacts)
    tags = {f"{SEQUENCES.name}_version": version}
    runs = StudyRuns(config.mlflow.tracking_uri, experiment, study, tags)
    job.progress.say(f"study {study.name}: {study.found().ended} of {config.tune.trials} trials have ended")
    try:
        with asked_to_end(asked.set):
            found = Search(study, runs, trainer, k, job.progress.say).run(config.tune, asked.is_set)
    except BaseException:
        runs.fail()
        raise
    runs.end(found, k, found.ended >= config.tune.trials)
    return found, runs.run_id


def _tell(job: Job, study: Study, found: Found, k: int) -> None:
    """For people. Raises TrainingFailed where all trials have ended and none came to a model."""
    if found.ended < job.config.tune.trials:
        job.progress.say(f"{found.ended} of {job.config.tune.trials} trials; the same command goes on from there")
    elif found.best is None:
        mend = "choose another tune.space"
        raise TrainingFailed("no trial came to a model", where=f"study {study.name}", value=found.reason, mend=mend)
    if found.best is not None:
        told = f"{found.complete} complete, {found.pruned} pruned, {found.failed} failed"
        job.progress.say(f"{told}; best: trial {found.best.trial}, validation NDCG@{k} {found.best.value:.4f}")
        words = [word for setting in as_settings(found.best.parameters) for word in ("--set", setting)]
        job.progress.say(f"to take it up, the same words with train in place of tune, and {shlex.join(words)}")


def _result(study: Study, found: Found) -> dict[str, Any]:
    best = found.best
    return {
        "study": study.name,
        "trials": {"complete": found.complete, "pruned": found.pruned, "failed": found.failed},
        "best": None if best is None else {**vars(best), "parameters": dict(best.parameters)},
    }


if __name__ == "__main__":
    exit_with(main(run))

"""Train a model on the sequences and register it as challenger."""

import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from pyspark.sql import functions as F

from behavior_lib.config.train import LauncherName, TrainSplit
from behavior_lib.data.snapshot import Snapshot, TrainCounts, count_train
from behavior_lib.errors import ConfigError
from behavior_lib.evaluation.judge import CHAMPION
from behavior_lib.inference.encoder import Encoder, read_bundle
from behavior_lib.inference.renumber import same_names
from behavior_lib.inference.vocabulary import Vocabulary
from behavior_lib.registry import SOURCE, START_MODEL, TAUGHT_BY, TAUGHT_LABELS, TRAIN_CUT, Registered, Registry
from behavior_lib.spark.admission import Admission, Cut
from behavior_lib.spark.evaluation import read_vocabulary
from behavior_lib.spark.item_attributes import with_known
from behavior_lib.spark.item_graph import with_graph
from behavior_lib.spark.job import Job, exit_with, main
from behavior_lib.spark.launch import launch_in_tasks
from behavior_lib.spark.ledger import STOPPED, TRIED, UNCHANGED, Summary
from behavior_lib.spark.vocabulary import reserved_buckets
from behavior_lib.tables import EVENT_TYPES, EVENTS, ITEMS, SEQUENCES
from behavior_lib.train.board import Board
from behavior_lib.train.display import TrainingDisplay
from behavior_lib.train.launch import Listener, launch
from behavior_lib.train.messages import Message
from behavior_lib.train.plan import plan
from behavior_lib.train.settings import EpochResult, FitResult, RunSettings
from behavior_lib.train.start import check_graph
from behavior_lib.train.store import FolderStore
from behavior_lib.train.trace import FILE, TRACE
from behavior_lib.train.tracking import Tracker
from behavior_lib.train.transfer import Origin
from behavior_lib.train.trial import estimate, overfit

FLAGS = {
    "--dry-run": "train.dry_run=true",
    "--overfit-one-batch": "train.overfit_one_batch=true",
    "--profile": "train.profile=true",
}
TRAINS = True  # ranks that another launcher started wait for it
OVERFIT_STEPS = 100


def run(job: Job) -> Summary:
    """Train on the newest sequences, unless the same was done before, and make the result the challenger."""
    registry = Registry(job.config.mlflow.tracking_uri, job.config.mlflow.model_name)
    model, start = job.config.model, _start_model(job, registry)
    _warn_of_champion(job, registry)
    names = [*model.item_attributes, *model.item_vectors]
    job.check_sequences()
    inputs = {spec.name: job.tables.version(spec) for spec in (SEQUENCES, *([ITEMS] if names else []))}
    inputs |= {} if start is None else {START_MODEL: start.version}
    config_hash = job.config_hash("model", "train", "mlflow", "seed", "evaluate.k")
    if job.is_done(inputs, config_hash):
        job.progress.say("the model of these sequences and this configuration is trained")
        return Summary(UNCHANGED, inputs=inputs, config_hash=config_hash)
    with job.progress.step("reading sequences"):
        snapshot = Snapshot.resolve(job.tables.location(SEQUENCES), inputs[SEQUENCES.name])
        snapshot = snapshot.taught_by(job.config.train.split.value)
        snapshot = with_graph(job.spark, job.tables, snapshot, job.config.train.split.value)
        counts = with_known(count_train(snapshot), job.tables.read(ITEMS, inputs.get(ITEMS.name)), model)
    cut = _cut(job, inputs[SEQUENCES.name], start)
    versions = {f"{spec.name}_version": job.tables.version(spec) for spec in (SEQUENCES, EVENTS, ITEMS, EVENT_TYPES)}
    origin = None if start is None else _origin(registry, start, _vocabulary(job, versions))
    settings = plan(job.config, counts, Path(job.config.paths.var) / "train" / job.source.name, origin)
    check_graph(settings.spec, snapshot)
    if job.config.train.dry_run:
        return _tell(job, settings, snapshot, counts, inputs)
    if job.config.train.overfit_one_batch:
        return _overfit(job, settings, snapshot, counts, inputs)
    store, tags = FolderStore(settings.checkpoints_of(snapshot)), _tags(job, versions, cut, origin, start)
    if origin is not None:
        origin.put(store)
    experiment = registry.experiment(job.config.mlflow.experiment, job.config.mlflow.artifacts)
    tracker = Tracker(job.config.mlflow.tracking_uri, experiment, {**tags, "job_run_id": job.run_id})
    result = _train(job, settings, snapshot, counts, tracker)
    if result.is_stopped:
        job.progress.say(f"stopped after step {result.steps}; the same command goes on from there")
        metrics = {"steps": result.steps, "train_seconds": round(result.seconds, 1)}
        return Summary(STOPPED, inputs=inputs, metrics=metrics, config_hash=config_hash)
    vocabulary = _vocabulary(job, versions).learnt(counts.items)
    with job.progress.step("registering the model"):
        made = registry.register(tracker.run_id, Path(result.checkpoint), vocabulary, tags)
    if (Path(result.checkpoint).parent / TRACE).exists():
        job.progress.say(f"the trace of a few steps is the artifact {TRACE}/{FILE} of MLflow run {tracker.run_id}")
    job.progress.say(f"version {made.version} is challenger")
    return Summary(
        inputs=inputs,
        metrics=_figures(result, settings.fit.k),
        config_hash=config_hash,
        extra={"model_name": made.name, "model_version": made.version, "mlflow_run_id": tracker.run_id},
        afterwards=store.clear,
    )


def _start_model(job: Job, registry: Registry) -> Registered | None:
    """The version that train.start_model names; None where it names none."""
    name, is_refit = job.config.train.start_model, job.config.train.split is TrainSplit.refit
    if name is None:
        return None
    found = registry.find_any(name, "train.start_model")
    if found.is_refit and found.is_of(job.source.name) and not is_refit:
        what, mend = "a refit has learned from what validation asks for", "start from another version"
        raise ConfigError(what, where="train.start_model", value=name, mend=mend)
    return found


def _warn_of_champion(job: Job, registry: Registry) -> None:
    champion = registry.resolve(CHAMPION)
    if champion is not None and not champion.is_of(job.source.name):
        of_other = f"the champion of {champion.name} is of source {champion.source}"
        job.progress.warn(f"{of_other}: evaluate will refuse this model; name another: mlflow.model_name=…")


def _cut(job: Job, version: int, start: Registered | None) -> Cut | None:
    """That of the rows to learn from. Raises ConfigError where a start of the same source has learned from later ones:
    what is asked of this model would be known to it.
    """
    is_taught = F.col(SEQUENCES.split) == job.config.train.split.value
    cut = Cut.of(job.tables.read(SEQUENCES, version).where(is_taught))
    if start is not None and start.is_of(job.source.name):
        mend = "start from another version"
        Admission(job.source.name, "train.start_model", mend, job.progress.warn).check_cut(start, cut)
    return cut


def _origin(registry: Registry, start: Registered, tables: Vocabulary) -> Origin:
    """What a run takes of a version. tables: the names that sequences are numbered by."""
    with registry.bundle(start) as folder:
        files = read_bundle(folder)
    items, event_types = same_names(tables, Encoder.from_bytes(files).vocabulary)
    return Origin(f"{start.name}/{start.version}", files, items, event_types)


def _vocabulary(job: Job, versions: Mapping[str, int]) -> Vocabulary:
    items, types = (job.tables.read(spec, versions[f"{spec.name}_version"]) for spec in (ITEMS, EVENT_TYPES))
    return read_vocabulary(items, types, reserved_buckets(job.tables))


def _tags(
    job: Job, versions: Mapping[str, int], cut: Cut | None, origin: Origin | None, start: Registered | None
) -> dict[str, object]:
    """What the run and the version say of where the model comes from."""
    started = {} if origin is None else {START_MODEL: origin.identity}
    if start is not None and start.is_of(job.source.name) and start.taught_labels:
        started[TAUGHT_LABELS] = start.tags[TAUGHT_LABELS]
    until = {} if cut is None else {TRAIN_CUT: cut}
    return {**versions, TAUGHT_BY: job.config.train.split.value, **until, SOURCE: job.source.name, **started}


def _tell(
    job: Job, settings: RunSettings, snapshot: Snapshot, counts: TrainCounts, inputs: Mapping[str, int]
) -> Summary:
    """What the run would take, for people and as metrics."""
    with job.progress.step("trying a few steps"):
        found = estimate(settings, snapshot, counts)
    events = f"{counts.tokens:,} events of {counts.n_items:,} items"
    job.progress.say(f"{events}, {found.parameters:,} parameters, {found.steps:,} steps")
    memory = f"{found.state_mb:,.0f} MB state, {found.loader_mb:,.0f} MB rows, {found.step_mb:,.0f} MB a step"
    job.progress.say(f"each of {settings.workers} workers: {memory}")
    minutes = f"{found.seconds / 60:,.1f} minutes at {found.step_seconds:.3f} s a step"
    job.progress.say(f"at most {minutes}, without validation; a worker with {settings.fit.threads} threads alone")
    return Summary(TRIED, inputs=inputs, metrics=found.as_metrics())


def _overfit(
    job: Job, settings: RunSettings, snapshot: Snapshot, counts: TrainCounts, inputs: Mapping[str, int]
) -> Summary:
    """Whether the model can learn one batch by heart: for people and as metrics."""
    with job.progress.step(f"{OVERFIT_STEPS} steps on one batch"):
        losses = overfit(settings, snapshot, counts, OVERFIT_STEPS)
    job.progress.say(f"loss {losses[0]:.3f} at the first step, {losses[-1]:.3f} at the last")
    return Summary(TRIED, inputs=inputs, metrics={"first_loss": losses[0], "last_loss": losses[-1]})


def _train(job: Job, settings: RunSettings, snapshot: Snapshot, counts: TrainCounts, tracker: Tracker) -> FitResult:
    """Train in processes of their own; every epoch is in MLflow as soon as it ends."""
    job.progress.say(
        f"{counts.tokens:,} events of {counts.n_items:,} items, {settings.workers} x {settings.communicator}"
    )
    folder, k = job.config.train.tensorboard, settings.fit.k
    with (
        tracker.failing(),
        TrainingDisplay(job.name, k, job.config.run.show_progress) as display,
        contextlib.nullcontext() if folder is None else contextlib.closing(Board(folder, tracker.run_id, k)) as board,
    ):

        def listen(message: Message) -> None:
            display.show(message)
            if board is not None:
                board.show(message)
            if isinstance(message, EpochResult):
                tracker.epoch(message, k)

        tracker.parameters(settings)
        result = _launcher(job)(settings, snapshot, counts, listen)
    if result.is_stopped:
        tracker.stop()
    else:
        tracker.finish(result, settings.fit.k)
    return result


def _launcher(job: Job) -> Callable[[RunSettings, Snapshot, TrainCounts, Listener], FitResult]:
    """What brings the ranks into being, or together."""
    name = job.config.train.launcher
    if job.ranks is not None:
        return job.ranks.launch
    if name is LauncherName.external:
        raise ConfigError("nobody has started other ranks of this job", value=name.value, mend="use behavior train")
    return partial(launch_in_tasks, job.spark) if name is LauncherName.spark else launch


def _figures(result: FitResult, k: int) -> dict[str, float]:
    return {
        f"validation_ndcg_at_{k}": result.best.validation_ndcg,
        "loss": result.best.loss,
        "best_epoch": result.best_epoch,
        "epochs": len(result.epochs),
        "steps": result.steps,
        "tokens_per_second": result.best.tokens_per_second,
        "train_seconds": round(result.seconds, 1),
        "peak_memory_mb": round(result.peak_memory_mb),
    }


if __name__ == "__main__":
    exit_with(main(run))

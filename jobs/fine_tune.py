"""Teach a head on user vectors, and the encoder where that is wanted, the source's labels of users."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from behavior_lib.config.fine_tune import EncoderMode, FineTuneConfig
from behavior_lib.config.keys import nearest
from behavior_lib.config.source import UsersConfig
from behavior_lib.errors import ConfigError, DataRefused
from behavior_lib.evaluation.labels import JudgedLabel, as_table, groups, judge_label, objection
from behavior_lib.evaluation.probes import Label
from behavior_lib.evaluation.probes_folds import part
from behavior_lib.inference.encoder import Encoder, read_bundle
from behavior_lib.inference.raw import USER_ID
from behavior_lib.models.build import save_model
from behavior_lib.registry import (
    SOURCE,
    START_MODEL,
    TAUGHT_BY,
    TAUGHT_LABELS,
    TRAIN_CUT,
    Registered,
    Registry,
    label_kind,
)
from behavior_lib.spark.admission import Admission, Cut, other_cut
from behavior_lib.spark.embed import Serving
from behavior_lib.spark.fine_tune import Labelled, gather_labelled
from behavior_lib.spark.job import Job, exit_with, main
from behavior_lib.spark.labels import read_labels
from behavior_lib.spark.ledger import Summary
from behavior_lib.spark.splits import cuts, newest_event
from behavior_lib.tables import EVENT_TYPES, EVENTS, ITEMS
from behavior_lib.tables.sequences import TEST, VALIDATION
from behavior_lib.train.fine_tune import FineTuned, FineTuneSettings, LabelledUsers, fine_tune
from behavior_lib.train.tracking import Tracker


def run(job: Job) -> Summary:
    """Learn on the train users, stop by the validation users, judge on the test users, and register the result."""
    users = _check(job)
    base = Registry(job.config.mlflow.tracking_uri, job.config.mlflow.model_name)
    model = base.find_any(job.config.fine_tune.model, "fine_tune.model")
    split = job.config.fine_tune.split
    admission = Admission(job.source.name, "fine_tune.model", other_cut("fine_tune", split), job.progress.warn)
    if model.is_of(job.source.name):
        admission.check_refit(model, split)
    with base.bundle(model) as folder:
        files = read_bundle(folder)
    encoder = Encoder.from_bytes(files)
    inputs = {spec.name: job.tables.version(spec) for spec in (EVENTS, ITEMS, EVENT_TYPES)}
    events = job.tables.read(EVENTS, inputs[EVENTS.name]).where(F.col(EVENTS.source) == job.source.name)
    cut = cuts(job.config.split, job.source.split, newest_event(events, job.source.name))[split == TEST]
    if model.is_of(job.source.name):
        admission.check_cut(model, Cut.at(cut, job.config.split.kind))
    gathered = _gather(job, users, files, events, inputs, cut)
    labelled, left_out = _sorted_out(job, gathered)
    settings = _settings(job.config.fine_tune, job.config.seed)
    with job.progress.step(f"learning {len(labelled.names)} labels of {len(labelled.values):,} users"):
        tuned = fine_tune(encoder.model, labelled, settings)
    labels = [label for label in gathered.labels if label.name in labelled.names]
    if model.is_of(job.source.name) and (taught := sorted(set(model.taught_labels) & set(labelled.names))):
        known = f"version {model.version} was taught {', '.join(taught)} before"
        job.progress.warn(f"{known}: its test users are new to it only where seed, shares and users are those of then")
    judged = [
        judge_label(label, tuned.answers[:, place], tuned.before.numpy(), labelled.fold, job.config.seed)
        for place, label in enumerate(labels)
    ]
    title = f"{model.name} version {model.version}, encoder {settings.encoder}, users as of {cut}"
    job.progress.show(as_table(judged, title))
    with job.progress.step("registering the model"):
        made_of = {**inputs, "cut": cut.isoformat(), **learned(job, model, labels, cut)}
        made = _register(job, model, encoder, tuned, settings, judged, made_of)
    job.progress.say(f"version {made.version} of {made.name}")
    extra = {"model_name": made.name, "model_version": made.version, "mlflow_run_id": made.run_id}
    told = {"labels": {each.name: each.as_dict() for each in judged}, "left_out": left_out, "cut": cut.isoformat()}
    return Summary(inputs=inputs, metrics=_metrics(judged, tuned), extra={**extra, **told})


def _check(job: Job) -> UsersConfig:
    """The source's users with the labels that are asked for."""
    config, users = job.config.fine_tune, job.source.users
    if users is None:
        mend = "name a file of users and their labels: docs/sources.md"
        raise ConfigError("the source has no labels of users", where=f"users of source {job.source.name}", mend=mend)
    if config.split not in (TEST, VALIDATION):
        raise ConfigError(
            "no such split", where="fine_tune.split", value=config.split, mend=f"give {TEST} or {VALIDATION}"
        )
    for name in config.labels:
        if name not in users.names:
            near = nearest(name, users.names)
            mend = f"did you mean {near}?" if near else f"one of {', '.join(users.names)}"
            raise ConfigError("no such label", where="fine_tune.labels", value=name, mend=mend)
    if USER_ID in users.names:
        raise ConfigError("a label cannot be called as the users are", where="users.labels", value=USER_ID)
    config.check()
    return users.only(config.labels or users.names)


def _gather(
    job: Job,
    users: UsersConfig,
    files: Mapping[str, bytes],
    events: DataFrame,
    inputs: Mapping[str, int],
    cut: datetime,
) -> Labelled:
    config = job.config.fine_tune
    items, types = (job.tables.read(spec, inputs[spec.name]) for spec in (ITEMS, EVENT_TYPES))
    with job.progress.step(f"gathering users as of {cut}"):
        serving, known = Serving.of(files, items, types), read_labels(job.spark, users, job.config.privacy)
        return gather_labelled(events, cut, known, serving, config.most_users, job.config.seed)


def _sorted_out(job: Job, gathered: Labelled) -> tuple[LabelledUsers, dict[str, str]]:
    """The users with the labels that can be learned and judged, and by name why others are not."""
    config = job.config.fine_tune
    fold = part(gathered.user_ids, config.validation_share, config.test_share, str(job.config.seed))
    found = {label.name: objection(label, fold) for label in gathered.labels}
    left_out = {name: reason for name, reason in found.items() if reason is not None}
    for name, reason in left_out.items():
        job.progress.warn(f"{name} is not learned: {reason}")
    kept: list[Label] = [label for label in gathered.labels if label.name not in left_out]
    if not kept:
        mend = "the warnings say why; see users.labels, or raise fine_tune.test_share and validation_share"
        raise DataRefused("no label can be learned", where=f"source {job.source.name}", value=list(left_out), mend=mend)
    values = np.stack([label.values for label in kept], axis=1).astype(np.float32)
    is_binary, names = np.array([label.is_binary for label in kept]), tuple(label.name for label in kept)
    return LabelledUsers(gathered.histories, names, is_binary, values, fold, groups(kept, gathered.labels)), left_out


def _settings(config: FineTuneConfig, seed: int) -> FineTuneSettings:
    return FineTuneSettings(
        config.encoder.value,
        config.epochs,
        config.patience,
        config.batch_size,
        config.learning_rate,
        config.encoder_learning_rate,
        config.weight_decay,
        config.hidden,
        seed,
    )


def learned(job: Job, model: Registered, labels: Sequence[Label], cut: datetime) -> dict[str, object]:
    """Tags of what the new version's encoder has learned from: what the old one has; trained, up to the cut too.

    Where the old one has learned up to no time that is known, and so the new one, none tells of a cut.
    """
    is_of_source = model.is_of(job.source.name)
    told = (TAUGHT_BY, TRAIN_CUT, TAUGHT_LABELS) if is_of_source else ()
    known: dict[str, object] = {name: model.tags[name] for name in told if name in model.tags}
    if job.config.fine_tune.encoder is EncoderMode.frozen:
        return known
    before = Cut.learned_by(model) if is_of_source else Cut(cut)
    if before is None or before.time is None:
        known.pop(TRAIN_CUT, None)
    else:
        known[TRAIN_CUT] = Cut(cut)
    names = {name for label in labels for name in (label.name, label.class_of) if name is not None}
    return {**known, TAUGHT_LABELS: json.dumps(sorted(names | set(model.taught_labels if is_of_source else ())))}


def _register(
    job: Job,
    model: Registered,
    encoder: Encoder,
    tuned: FineTuned,
    settings: FineTuneSettings,
    judged: Sequence[JudgedLabel],
    made_of: Mapping[str, object],
) -> Registered:
    mlflow = job.config.mlflow
    registry = Registry(mlflow.tracking_uri, job.config.fine_tune.register_as)
    experiment = registry.experiment(mlflow.experiment, mlflow.artifacts)
    tags = {**made_of, SOURCE: job.source.name, START_MODEL: f"{model.name}/{model.version}"}
    tracker = Tracker(mlflow.tracking_uri, experiment, {**tags, "job_run_id": job.run_id})
    tracker.values({f"fine_tune.{key}": value for key, value in asdict(settings).items()})
    with tracker.failing(), TemporaryDirectory() as name:
        folder = Path(name)
        save_model(encoder.model, folder)
        tuned.head.save(folder)
        kind = label_kind(tuned.head.names)
        made = registry.register(tracker.run_id, folder, encoder.vocabulary, tags, kind)
    losses = {"train_loss": tuned.losses.train, "validation_loss": tuned.losses.validation}
    tracker.end(_metrics(judged, tuned), losses)
    return made


def _metrics(judged: Sequence[JudgedLabel], tuned: FineTuned) -> dict[str, float]:
    figures = {
        f"{label.name}.{method}.{metric}": value
        for label in judged
        for method, by_metric in label.figures.items()
        for metric, value in by_metric.items()
    }
    return {**figures, "best_epoch": float(tuned.losses.best), "epochs": float(len(tuned.losses.train))}


if __name__ == "__main__":
    exit_with(main(run))

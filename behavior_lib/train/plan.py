"""From configuration and data to a training run: what is built, and how."""

from __future__ import annotations

import os
from dataclasses import fields
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Any

from behavior_lib.config import load_source
from behavior_lib.config.duration import parse_duration
from behavior_lib.config.model import ModelConfig
from behavior_lib.config.schema import Config
from behavior_lib.config.train import (
    BatchOf,
    CommunicatorName,
    LauncherName,
    TableOptimizerName,
    TrainConfig,
    TrainSplit,
)
from behavior_lib.data.snapshot import TrainCounts
from behavior_lib.errors import ConfigError
from behavior_lib.models.base import ModelSpec
from behavior_lib.models.losses import sampling_of
from behavior_lib.models.objectives.chosen import NEXT_SESSION, OBJECTIVES, check_objectives
from behavior_lib.train.settings import SCALES, FitSettings, RunSettings
from behavior_lib.train.transfer import Origin


def plan(config: Config, counts: TrainCounts, folder: Path, origin: Origin | None = None) -> RunSettings:
    """The run that the configuration asks for on this train split; folder: it may write there and nowhere else.

    origin: what train.start_model names. Raises ConfigError for values that cannot be.
    """
    train, model = config.train, config.model
    if (model.use_hour or model.use_weekday) and not counts.has_times:
        mend = "run build_sequences again, which makes rows from before first_event_time anew"
        raise ConfigError("model.use_hour and use_weekday read times that rows of train do not have", mend=mend)
    workers = 1 if train.communicator is CommunicatorName.single else train.workers
    _check(config)
    sampling = model.negative_sampling and model.negative_sampling.value
    spec = ModelSpec(
        **_alike(ModelSpec, model, train)
        | {
            "length": counts.length,
            "window": min(model.window, counts.length),
            "n_items": len(counts.items),
            "n_event_types": counts.n_event_types,
            "negative_sampling": sampling_of(model.loss.value, sampling),
            "objectives": dict(model.objectives),
            "prefixes": list(model.prefixes),
            "item_attributes": list(model.item_attributes),
            "attribute_values": counts.attribute_values,
            "item_vectors": list(model.item_vectors),
            "vector_widths": counts.vector_widths,
            "session_gap": _session_gap(config),
        }
    )
    if origin is not None:
        origin.check(spec)
    fit = FitSettings(
        **_alike(FitSettings, train)
        | {
            "batch_size": _batch_size(config, workers),
            "learning_rate": train.learning_rate * SCALES[train.learning_rate_scaling](workers * train.accumulate),
            "seed": config.seed,
            "threads": train.threads or max(1, len(os.sched_getaffinity(0)) // workers),
            "tokens_per_row": counts.tokens / counts.rows,
            "k": config.evaluate.k,
            "keeps_newest": train.split is TrainSplit.refit,
            "origin": None if origin is None else origin.identity,
        }
    )
    place = train.checkpoints if "://" in train.checkpoints else str(Path(train.checkpoints).absolute())
    own = {"spec": spec, "fit": fit, "workers": workers, "folder": str(folder.absolute()), "checkpoints": place}
    return RunSettings(**_alike(RunSettings, train) | own | {"attributes": counts.attributes_digest()})


def _session_gap(config: Config) -> int:
    """Seconds. The source is asked only where it matters."""
    if config.model.session_gap is not None:
        gap = parse_duration(config.model.session_gap, "model.session_gap")
    elif config.model.objectives.get(NEXT_SESSION, 0) > 0:
        gap = load_source(config).gap
    else:
        return ModelSpec.session_gap
    return int(gap.total_seconds())


def _alike(kind: type, *sections: object) -> dict[str, Any]:
    """What the sections of the configuration say under the names of the dataclass's fields, as plain values."""
    names = {field.name for field in fields(kind)}
    told = {key: value for section in sections for key, value in vars(section).items() if key in names}
    return {key: value.value if isinstance(value, Enum) else value for key, value in told.items()}


def _batch_size(config: Config, workers: int) -> int:
    """Rows of one batch of one worker."""
    train = config.train
    parts = 1 if train.batch_of is BatchOf.worker else workers * train.accumulate
    if train.batch_size % parts:
        mend = f"choose a multiple of train.workers * train.accumulate, which is {parts}"
        raise ConfigError("train.batch_size cannot be shared out evenly", value=train.batch_size, mend=mend)
    weights = config.model.objectives
    compared = [name for name, objective in OBJECTIVES.items() if objective.compares_users and weights.get(name, 0) > 0]
    if compared and train.batch_size // parts < 2:
        what = f"{compared[0]} tells rows of a batch apart, and a worker's batches have one row"
        raise ConfigError(what, where="train.batch_size", value=train.batch_size, mend=f"give {2 * parts} or more")
    return train.batch_size // parts


def _check(config: Config) -> None:
    train, model = config.train, config.model
    config.evaluate.check()
    positive = {
        "train.workers": train.workers,
        "train.epochs": train.epochs,
        "train.patience": train.patience,
        "train.batch_size": train.batch_size,
        "train.learning_rate": train.learning_rate,
        "train.accumulate": train.accumulate,
        "train.checkpoint_steps": train.checkpoint_steps,
        "train.keep_checkpoints": train.keep_checkpoints,
        "train.highest_loss": train.highest_loss,
        "train.clip_norm": train.clip_norm,
        "train.negatives": train.negatives,
        "train.boundaries": train.boundaries,
        "train.timeout_minutes": train.timeout_minutes,
        "train.stall_minutes": train.stall_minutes,
        "model.dimension": model.dimension,
        "model.layers": model.layers,
        "model.heads": model.heads,
        "model.window": model.window,
        "model.neighbours": model.neighbours,
        "model.temperature": model.temperature,
    }
    for key, value in positive.items():
        if value <= 0:
            raise ConfigError(f"{key} must be above 0", value=value, mend=f"--set {key}=…")
    _check_min_workers(train)
    if train.max_steps is not None and train.max_steps <= 0:
        mend = "null trains all steps of train.epochs"
        raise ConfigError("train.max_steps must be above 0", value=train.max_steps, mend=mend)
    if train.stop_after is not None and not 1 <= train.stop_after <= train.epochs:
        mend = f"choose 1 to train.epochs, which is {train.epochs}"
        raise ConfigError("train.stop_after cannot be", value=train.stop_after, mend=mend)
    if not 0 <= train.warmup_share <= 1:
        mend = "it is a share of all steps: 0.05"
        raise ConfigError("train.warmup_share must be from 0 to 1", value=train.warmup_share, mend=mend)
    if train.weight_decay < 0:
        raise ConfigError("train.weight_decay is less than 0", value=train.weight_decay, mend="0 leaves it out")
    if not 0 <= train.average < 1:
        raise ConfigError("train.average must be at least 0 and below 1", value=train.average, mend="try 0.999")
    dense = {"attributes": model.item_attributes, "vectors": model.item_vectors}
    for what, names in dense.items():
        if names and train.table_optimizer is TableOptimizerName.rowwise:
            # What they add to all items makes every row's gradient dense.
            mend = f"--set train.table_optimizer=dense, or leave model.item_{what} empty"
            raise ConfigError(f"row-wise tables take no item {what}", value=names, mend=mend)
    _check_model(model)


def _check_model(model: ModelConfig) -> None:
    check_objectives(model.name, model.pooling.value, model.objectives)
    if model.successors < 0:
        raise ConfigError("model.successors is less than 0", value=model.successors, mend="0 leaves the path out")
    if len(set(model.item_vectors)) < len(model.item_vectors):
        raise ConfigError("model.item_vectors names one twice", value=model.item_vectors, mend="name each once")
    if model.repeat_discount < 0:
        mend = "0 counts all events alike"
        raise ConfigError("model.repeat_discount is less than 0", value=model.repeat_discount, mend=mend)
    if not 0 <= model.calibration <= 1:
        mend = "the paper of gbce has 0.75"
        raise ConfigError("model.calibration must be from 0 to 1", value=model.calibration, mend=mend)
    if model.dimension % (2 * model.heads):
        mend = "choose a multiple of 2 * model.heads"
        raise ConfigError("model.dimension does not split into heads of even width", value=model.dimension, mend=mend)
    widths = [0, *model.prefixes, model.dimension]
    if any(wider <= width for width, wider in pairwise(widths)):
        mend = f"give ascending widths from 1 to {model.dimension - 1}"
        raise ConfigError("model.prefixes cannot be", value=model.prefixes, mend=mend)


def _check_min_workers(train: TrainConfig) -> None:
    if train.min_workers is None:
        return
    if not 1 <= train.min_workers <= train.workers:
        mend = f"choose 1 to train.workers, which is {train.workers}"
        raise ConfigError("train.min_workers cannot be", value=train.min_workers, mend=mend)
    if train.max_steps is not None:
        # A lost worker leaves the others more steps for the same rows.
        mend = "--set train.max_steps=null, or train.min_workers=null"
        raise ConfigError("train.max_steps counts the steps of all workers", value=train.max_steps, mend=mend)
    needed: dict[str, Enum] = {
        "train.communicator": CommunicatorName.horovod,
        "train.launcher": LauncherName.local,
        # The rows of an epoch are cut into batches once, whoever reads them.
        "train.batch_of": BatchOf.worker,
    }
    for key, value in needed.items():
        found = getattr(train, key.removeprefix("train."))
        if found is not value:
            mend = f"--set {key}={value.value}, or train.min_workers=null"
            raise ConfigError(f"train.min_workers needs another {key}", value=found.value, mend=mend)

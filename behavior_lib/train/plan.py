"""From configuration and data to a training run: what is built, and how."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

from behavior_lib.config.schema import BatchOf, CommunicatorName, Config, Scaling, TrainConfig
from behavior_lib.data.snapshot import TrainCounts
from behavior_lib.errors import ConfigError
from behavior_lib.models.base import ModelSpec
from behavior_lib.models.losses import sampling_of
from behavior_lib.train.settings import FitSettings, RunSettings

_SCALES: dict[Scaling, Callable[[int], float]] = {
    Scaling.none: lambda parts: 1.0,
    Scaling.sqrt: math.sqrt,
    Scaling.linear: float,
}


def plan(config: Config, counts: TrainCounts, folder: Path) -> RunSettings:
    """The run that the configuration asks for on this train split; folder: it may write there and nowhere else.

    Raises ConfigError for values that cannot be.
    """
    train, model = config.train, config.model
    workers = 1 if train.communicator is CommunicatorName.single else train.workers
    _check(config)
    spec = ModelSpec(
        name=model.name,
        length=counts.length,
        window=min(model.window, counts.length),
        n_items=len(counts.items),
        n_event_types=counts.n_event_types,
        dimension=model.dimension,
        layers=model.layers,
        heads=model.heads,
        dropout=model.dropout,
        repeat_path=model.repeat_path,
        use_event_type=model.use_event_type,
        use_gap=model.use_gap,
        use_value=model.use_value,
        negatives=train.negatives,
        boundaries=train.boundaries,
        loss=model.loss.value,
        negative_sampling=sampling_of(model.loss.value, model.negative_sampling and model.negative_sampling.value),
        calibration=model.calibration,
    )
    place = train.checkpoints if "://" in train.checkpoints else str(Path(train.checkpoints).absolute())
    return RunSettings(
        spec=spec,
        fit=_fit(config, counts, workers),
        communicator=train.communicator.value,
        workers=workers,
        timeout_minutes=train.timeout_minutes,
        folder=str(folder.absolute()),
        checkpoints=place,
        restarts=train.restarts,
        stall_minutes=train.stall_minutes,
    )


def _fit(config: Config, counts: TrainCounts, workers: int) -> FitSettings:
    train = config.train
    return FitSettings(
        epochs=train.epochs,
        patience=train.patience,
        batch_size=_batch_size(train, workers),
        learning_rate=train.learning_rate * _SCALES[train.learning_rate_scaling](workers * train.accumulate),
        weight_decay=train.weight_decay,
        warmup_share=train.warmup_share,
        clip_norm=train.clip_norm,
        reader=train.reader.value,
        seed=config.seed,
        threads=train.threads or max(1, len(os.sched_getaffinity(0)) // workers),
        tokens_per_row=counts.tokens / counts.rows,
        k=config.evaluate.k,
        start=train.start.value,
        accumulate=train.accumulate,
        checkpoint_steps=train.checkpoint_steps,
        keep_checkpoints=train.keep_checkpoints,
        highest_loss=train.highest_loss,
        average=train.average,
        half_gradients=train.half_gradients,
        profile=train.profile,
    )


def _batch_size(train: TrainConfig, workers: int) -> int:
    if train.batch_of is BatchOf.worker:
        return train.batch_size
    parts = workers * train.accumulate
    if train.batch_size % parts:
        mend = f"choose a multiple of train.workers * train.accumulate, which is {parts}"
        raise ConfigError("train.batch_size cannot be shared out evenly", value=train.batch_size, mend=mend)
    return train.batch_size // parts


def _check(config: Config) -> None:
    train, model = config.train, config.model
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
        "train.negatives": train.negatives,
        "train.boundaries": train.boundaries,
        "train.timeout_minutes": train.timeout_minutes,
        "train.stall_minutes": train.stall_minutes,
        "model.dimension": model.dimension,
        "model.layers": model.layers,
        "model.heads": model.heads,
        "model.window": model.window,
    }
    for key, value in positive.items():
        if value <= 0:
            raise ConfigError(f"{key} must be above 0", value=value, mend=f"--set {key}=…")
    if not 0 <= train.average < 1:
        raise ConfigError("train.average must be at least 0 and below 1", value=train.average, mend="try 0.999")
    if not 0 <= model.calibration <= 1:
        mend = "the paper of gbce has 0.75"
        raise ConfigError("model.calibration must be from 0 to 1", value=model.calibration, mend=mend)
    if model.dimension % (2 * model.heads):
        mend = "choose a multiple of 2 * model.heads"
        raise ConfigError("model.dimension does not split into heads of even width", value=model.dimension, mend=mend)

"""A training run in MLflow: parameters, metrics by epoch, input versions, the code that ran, and what it left."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from mlflow.entities import Metric, Param
from mlflow.entities.run_tag import RunTag
from mlflow.tracking import MlflowClient

from behavior_lib.train.code import code_version
from behavior_lib.train.settings import EpochResult, FitResult, RunSettings
from behavior_lib.train.trace import TRACE

EPOCHS_FILE = "epochs.json"
FINISHED, FAILED, KILLED = "FINISHED", "FAILED", "KILLED"


class Tracker:
    """One run of an experiment in the store at tracking_uri.

    Made in the driver alone, before any other process: a sqlite store must not be initialised by two at once.
    """

    def __init__(self, tracking_uri: str, experiment_id: str, tags: Mapping[str, object]) -> None:
        """tags: written on the run beside code_version; versions of the tables that were read belong here."""
        self._client = MlflowClient(tracking_uri)
        texts = {**{key: str(value) for key, value in tags.items()}, "code_version": code_version()}
        self.run_id = str(self._client.create_run(experiment_id, tags=texts).info.run_id)

    def parameters(self, settings: RunSettings) -> None:
        """Everything that was set, by `model.<key>` and `train.<key>`."""
        values = {f"model.{key}": value for key, value in asdict(settings.spec).items()}
        values |= {f"train.{key}": value for key, value in asdict(settings.fit).items()}
        values |= {"train.communicator": settings.communicator, "train.workers": settings.workers}
        self._client.log_batch(self.run_id, params=[Param(key, str(value)) for key, value in values.items()])

    def epoch(self, result: EpochResult, k: int) -> None:
        """The epoch's figures; the metrics' step is its number."""
        values = {
            "loss": result.loss,
            f"validation_ndcg_at_{k}": result.validation_ndcg,
            "epoch_seconds": result.seconds,
            "tokens_per_second": result.tokens_per_second,
        }
        now = time.time_ns() // 1_000_000
        self._client.log_batch(
            self.run_id, metrics=[Metric(key, value, now, result.number) for key, value in values.items()]
        )

    def finish(self, result: FitResult, k: int) -> None:
        """The best epoch's figures and the run's totals, and the checkpoint and all epochs as artifacts."""
        values = {
            f"best_validation_ndcg_at_{k}": result.best.validation_ndcg,
            "best_epoch": float(result.best_epoch),
            "train_seconds": result.seconds,
            "peak_memory_mb": result.peak_memory_mb,
        }
        now = time.time_ns() // 1_000_000
        self._client.log_batch(
            self.run_id,
            metrics=[Metric(key, value, now, 0) for key, value in values.items()],
            tags=[RunTag("best_epoch", str(result.best_epoch))],
        )
        self._client.log_artifacts(self.run_id, result.checkpoint, "checkpoint")
        trace = Path(result.checkpoint).parent / TRACE
        if trace.exists():
            self._client.log_artifacts(self.run_id, str(trace), TRACE)
        self._client.log_dict(self.run_id, {"epochs": [asdict(epoch) for epoch in result.epochs]}, EPOCHS_FILE)
        self._client.set_terminated(self.run_id, FINISHED)

    def stop(self) -> None:
        """The run was asked to end; another goes on from its state."""
        self._client.set_terminated(self.run_id, KILLED)

    def fail(self) -> None:
        """The run ended without a model."""
        self._client.set_terminated(self.run_id, FAILED)

"""A training run in MLflow: parameters, metrics by epoch, input versions, the code that ran, and what it left."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from mlflow.entities import Metric, Param
from mlflow.entities.run_tag import RunTag
from mlflow.tracking import MlflowClient

from behavior_lib.train.code import code_version
from behavior_lib.train.settings import EpochResult, FitResult, RunSettings
from behavior_lib.train.trace import TRACE

EPOCHS_FILE = "epochs.json"
_MOST_METRICS = 1000  # that MLflow takes at once
FINISHED, FAILED, KILLED = "FINISHED", "FAILED", "KILLED"


class Tracker:
    """One run of an experiment in the store at tracking_uri.

    Made in the driver alone, before any other process: a sqlite store must not be initialised by two at once.
    """

    def __init__(
        self,
        tracking_uri: str,
        experiment_id: str,
        tags: Mapping[str, object],
        name: str | None = None,
        earlier: str | None = None,
    ) -> None:
        """tags: written on the run beside code_version; versions of the tables that were read belong here.

        name: what the run is called; None lets MLflow call it something. earlier: id of a run that goes on, with the
        tags, parameters and epochs that it has; None makes a new one.
        """
        self._client = MlflowClient(tracking_uri)
        if earlier is None:
            texts = {**{key: str(value) for key, value in tags.items()}, "code_version": code_version()}
            earlier = str(self._client.create_run(experiment_id, tags=texts, run_name=name).info.run_id)
        else:
            self._client.update_run(earlier, status="RUNNING")
        self.run_id = earlier

    def parameters(self, settings: RunSettings) -> None:
        """Everything that was set, by `model.<key>` and `train.<key>`."""
        values = {f"model.{key}": value for key, value in asdict(settings.spec).items()}
        values |= {f"train.{key}": value for key, value in asdict(settings.fit).items()}
        values |= {"train.communicator": settings.communicator, "train.workers": settings.workers}
        self.values(values)

    def values(self, values: Mapping[str, object]) -> None:
        """Parameters by name; those that the run has already stay as they are."""
        known = self._client.get_run(self.run_id).data.params
        new = [Param(key, str(value)) for key, value in values.items() if key not in known]
        self._client.log_batch(self.run_id, params=new)

    def tag(self, key: str, value: str) -> None:
        """A tag, in place of what it said before."""
        self._client.set_tag(self.run_id, key, value)

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

    def finish(self, result: FitResult, k: int, with_model: bool = True) -> None:
        """The best epoch's figures and the run's totals, and as artifacts all epochs and the checkpoint, if wanted."""
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
        if with_model:
            self._client.log_artifacts(self.run_id, result.checkpoint, "checkpoint")
        trace = Path(result.checkpoint).parent / TRACE
        if trace.exists():
            self._client.log_artifacts(self.run_id, str(trace), TRACE)
        self._client.log_dict(self.run_id, {"epochs": [asdict(epoch) for epoch in result.epochs]}, EPOCHS_FILE)
        self._client.set_terminated(self.run_id, FINISHED)

    def end(self, metrics: Mapping[str, float], epochs: Mapping[str, Sequence[float]]) -> None:
        """The run is done, with these figures. epochs: what each epoch came to, by the name of the metric."""
        now = time.time_ns() // 1_000_000
        entries = [Metric(key, value, now, 0) for key, value in metrics.items()]
        entries += [
            Metric(key, value, now, step) for key, values in epochs.items() for step, value in enumerate(values)
        ]
        for at in range(0, len(entries), _MOST_METRICS):
            self._client.log_batch(self.run_id, metrics=entries[at : at + _MOST_METRICS])
        self._client.set_terminated(self.run_id, FINISHED)

    def stop(self) -> None:
        """The run was asked to end; another goes on from its state."""
        self._client.set_terminated(self.run_id, KILLED)

    @contextmanager
    def failing(self) -> Iterator[None]:
        """What is raised inside ends the run without a model."""
        try:
            yield
        except BaseException:
            self.fail()
            raise

    def fail(self) -> None:
        """The run ended without a model."""
        self._client.set_terminated(self.run_id, FAILED)

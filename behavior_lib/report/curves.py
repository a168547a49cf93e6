"""A model's training curve as the tracking server holds it."""

from __future__ import annotations

from mlflow.entities import Metric
from mlflow.tracking import MlflowClient

from behavior_lib.report.data import Epoch

LOSS, VALIDATION = "loss", "validation_ndcg_at_"


def training_curve(tracking_uri: str, run_id: str) -> tuple[Epoch, ...]:
    """The epochs of a run in order: its metrics `loss` and `validation_ndcg_at_<k>`, whose steps are the epochs.

    Empty where the run logged neither. Raises MlflowException where there is no such run.
    """
    client = MlflowClient(tracking_uri)
    names = client.get_run(run_id).data.metrics
    losses = _by_epoch(client.get_metric_history(run_id, LOSS)) if LOSS in names else {}
    validation_name = next((name for name in sorted(names) if name.startswith(VALIDATION)), None)
    validations = _by_epoch(client.get_metric_history(run_id, validation_name)) if validation_name else {}
    numbers = sorted(losses.keys() | validations.keys())
    return tuple(Epoch(number, losses.get(number), validations.get(number)) for number in numbers)


def _by_epoch(history: list[Metric]) -> dict[int, float]:
    """A resumed run may log an epoch twice; the later value counts."""
    ordered = sorted(history, key=lambda metric: metric.timestamp)
    return {int(metric.step): float(metric.value) for metric in ordered}

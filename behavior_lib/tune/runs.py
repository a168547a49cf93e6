"""A search in MLflow: one run for the study, and one below it for each trial."""

from __future__ import annotations

import time
from collections.abc import Mapping

from mlflow.entities import Metric
from mlflow.entities.run_tag import RunTag
from mlflow.tracking import MlflowClient

from behavior_lib.train.tracking import Tracker
from behavior_lib.tune.space import Value
from behavior_lib.tune.study import Found, Study

KEY, STUDY, TRIAL, STATE, BEST_TRIAL = "study_key", "study", "trial", "trial_state", "best_trial"
COMPLETE, PRUNED, FAILED = "complete", "pruned", "failed"
_PARENT, _NONE = "mlflow.parentRunId", "none"


class StudyRuns:
    """The run of a study and those of its trials; what an earlier run of the same study began goes on in its own."""

    def __init__(self, tracking_uri: str, experiment_id: str, study: Study, tags: Mapping[str, object]) -> None:
        """tags: written on every run; versions of the tables that were read belong here."""
        self._tracking_uri, self._experiment = tracking_uri, experiment_id
        self._client = MlflowClient(tracking_uri)
        self._tags = {**tags, KEY: study.key, STUDY: study.name}
        self._study = self._run(study.name, {TRIAL: _NONE})
        self.run_id = self._study.run_id

    def trial(self, number: int, chosen: Mapping[str, Value]) -> Tracker:
        """The run of a trial, with what was chosen as parameters."""
        tracker = self._run(f"trial {number}", {TRIAL: str(number), _PARENT: self.run_id})
        tracker.values(chosen)
        return tracker

    def show(self, found: Found) -> None:
        """Write what is the best so far on the study's run."""
        if found.best is None:
            return
        texts = {BEST_TRIAL: found.best.trial, **{f"best.{key}": value for key, value in found.best.parameters.items()}}
        self._client.log_batch(self.run_id, tags=[RunTag(key, str(value)) for key, value in texts.items()])

    def end(self, found: Found, k: int, is_done: bool) -> None:
        """The figures, at the number of trials; FINISHED where the search has all of them, KILLED where it goes on."""
        self.show(found)
        counts = {COMPLETE: found.complete, PRUNED: found.pruned, FAILED: found.failed}
        values = {f"trials_{state}": float(count) for state, count in counts.items()}
        if found.best is not None:
            values[f"best_validation_ndcg_at_{k}"] = found.best.value
        now = time.time_ns() // 1_000_000
        metrics = [Metric(key, value, now, found.ended) for key, value in values.items()]
        self._client.log_batch(self.run_id, metrics=metrics)
        self._client.set_terminated(self.run_id, "FINISHED" if is_done else "KILLED")

    def fail(self) -> None:
        """The search ended with an error."""
        self._study.fail()

    def _run(self, name: str, own: Mapping[str, str]) -> Tracker:
        """A run with tags of its own, or the one that has been begun with them."""
        wanted = f"tags.{KEY} = '{self._tags[KEY]}' and tags.{TRIAL} = '{own[TRIAL]}'"
        earlier = next((run.info.run_id for run in self._client.search_runs([self._experiment], wanted)), None)
        return Tracker(self._tracking_uri, self._experiment, {**self._tags, **own}, name, earlier)

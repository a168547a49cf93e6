"""Trial after trial: choose, train, judge on validation, remember."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

from behavior_lib.config.schema import TuneConfig
from behavior_lib.errors import ConfigError, TrainingFailed
from behavior_lib.train.settings import EpochResult, FitResult, FitSettings, RunSettings
from behavior_lib.train.store import FolderStore
from behavior_lib.train.tracking import Tracker
from behavior_lib.tune.runs import COMPLETE, FAILED, PRUNED, STATE, StudyRuns
from behavior_lib.tune.space import Value
from behavior_lib.tune.study import Attempt, Found, Study


class TrialRun:
    """One trial while it trains: what is to be trained, and where its epochs go. Tells the study and MLflow."""

    def __init__(self, attempt: Attempt, tracker: Tracker) -> None:
        self._attempt, self._tracker = attempt, tracker
        self._fit: FitSettings | None = None
        self._epochs: list[EpochResult] = []

    @property
    def number(self) -> int:
        """Of the trial, from 0."""
        return self._attempt.number

    @property
    def chosen(self) -> Mapping[str, Value]:
        """Configuration key → value."""
        return self._attempt.chosen

    @property
    def is_pruned(self) -> bool:
        """Whether the training is to end now: it is not worth going on."""
        return self._attempt.is_pruned

    def begin(self, settings: RunSettings, states: str) -> None:
        """The training that is about to start. states: where its states lie."""
        self._fit = settings.fit
        self._tracker.parameters(settings)
        self._attempt.note_states(states)

    def epoch(self, result: EpochResult) -> None:
        """An epoch that ended, in order; one that an earlier run told counts once, one after the end not at all."""
        if self.is_pruned or self._fit is None:
            return
        if not self._attempt.knows(result):
            self._tracker.epoch(result, self._fit.k)
        self._epochs.append(result)
        self._attempt.report(result, is_last=self._fit.ends_with(self._epochs))


Train = Callable[[TrialRun], FitResult]


class Search:
    """The trials of a study, one after the other."""

    def __init__(self, study: Study, runs: StudyRuns, train: Train, k: int, say: Callable[[str], None]) -> None:
        """train: trains what a trial has chosen, tells it its settings and each epoch, and ends where it is pruned."""
        self._study, self._runs, self._train, self._k, self._say = study, runs, train, k, say

    def run(self, limits: TuneConfig, should_stop: Callable[[], bool]) -> Found:
        """Try until limits.trials have ended, over all runs of the study. Returns what was found, in all.

        should_stop: asked before each trial. The search also ends after limits.minutes, and after a training that was
        stopped but not pruned; that trial goes on with the next call. A training that fails, or whose choices do not
        fit together, is a failed trial; every other error is raised, and the trial goes on with the next call. Of the
        states of trials that ended well those of the best alone are kept.
        """
        deadline = math.inf if limits.minutes is None else time.monotonic() + 60 * limits.minutes
        found = self._study.found()
        while found.ended < limits.trials and time.monotonic() < deadline and not should_stop():
            if not self._try(f"{found.ended + 1} of {limits.trials}"):
                break
            for states in self._study.needless():
                FolderStore(states).clear()
            found = self._study.found()
            self._runs.show(found)
        return found

    def _try(self, place: str) -> bool:
        """One trial. Returns False where it was stopped and is to go on later."""
        attempt = self._study.next()
        self._say(f"trial {attempt.number} ({place}): {' '.join(as_settings(attempt.chosen))}")
        tracker = self._runs.trial(attempt.number, attempt.chosen)
        result, reason = None, ""
        try:
            result = self._train(TrialRun(attempt, tracker))
        except (TrainingFailed, ConfigError) as problem:
            reason = str(problem)
        except BaseException:
            tracker.stop()
            raise
        return self._end(attempt, tracker, result, reason)

    def _end(self, attempt: Attempt, tracker: Tracker, result: FitResult | None, reason: str) -> bool:
        """MLflow first: a trial that the study takes for ended is not looked at again."""
        if attempt.is_pruned:
            tracker.tag(STATE, PRUNED)
            tracker.stop()
            self._study.prune(attempt)
            self._say(f"trial {attempt.number}: pruned")
        elif result is None:
            tracker.tag(STATE, FAILED)
            tracker.fail()
            self._study.fail(attempt, reason)
            self._say(f"trial {attempt.number}: failed: {reason}")
        elif result.is_stopped:
            tracker.stop()
            return False
        else:
            tracker.tag(STATE, COMPLETE)
            tracker.finish(result, self._k, with_model=False)
            self._study.complete(attempt, result.best.validation_ndcg)
            self._say(f"trial {attempt.number}: validation NDCG@{self._k} {result.best.validation_ndcg:.4f}")
        return True


def as_settings(chosen: Mapping[str, Value]) -> list[str]:
    """KEY=VALUE texts, as --set takes them; no number loses a digit."""
    return [f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in chosen.items()]

"""A trial's training: the one that `behavior train` would do with the same settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from behavior_lib.config import Loaded
from behavior_lib.data.snapshot import Snapshot, TrainCounts
from behavior_lib.tables.sequences import TRAIN, VALIDATION
from behavior_lib.train.display import TrainingDisplay
from behavior_lib.train.launch import launch
from behavior_lib.train.messages import Message
from behavior_lib.train.plan import plan
from behavior_lib.train.settings import EpochResult, FitResult, RunSettings
from behavior_lib.tune.search import TrialRun, as_settings
from behavior_lib.tune.space import Space, Value, tunable

_JOB = "train"
# Beside what can vary, this decides what a training comes to.
_DECIDE = ("batch_of", "learning_rate_scaling", "communicator", "workers")


class Trainer:
    """Trains trials in processes of their own, from states of the names that `behavior train` looks for."""

    def __init__(
        self,
        loaded: Loaded,
        snapshot: Snapshot,
        counts: TrainCounts,
        folder: Path,
        should_stop: Callable[[], bool],
        launcher: Callable[..., FitResult] = launch,
    ) -> None:
        """loaded: of the command line; a trial's choices come after it. folder: named like train's, for its name
        counts among what a run's states are found by. should_stop: asked while a trial trains, which then goes on with
        the next run of the search.
        """
        self._loaded, self._snapshot, self._counts, self._folder = loaded, snapshot, counts, folder
        self._should_stop, self._launcher = should_stop, launcher

    def settings(self, chosen: Mapping[str, Value]) -> RunSettings:
        """The run with these choices. Raises ConfigError where they do not fit together."""
        return plan(self._loaded.for_job(_JOB, as_settings(chosen)).config, self._counts, self._folder)

    def __call__(self, run: TrialRun) -> FitResult:
        """Train, and tell the trial of each epoch. Raises what the launcher raises, and ConfigError as `settings`."""
        settings = self.settings(run.chosen)
        run.begin(settings, settings.checkpoints_of(self._snapshot))
        show = self._loaded.config.run.show_progress
        with TrainingDisplay(f"trial {run.number}", settings.fit.k, show) as display:

            def listen(message: Message) -> None:
                display.show(message)
                if isinstance(message, EpochResult):
                    run.epoch(message)

            def should_stop() -> bool:
                return run.is_pruned or self._should_stop()

            return self._launcher(settings, self._snapshot, self._counts, listen, should_stop)


def subject_of(loaded: Loaded, space: Space, snapshot: Snapshot, attributes: str = "") -> str:
    """What the values of trials follow from beside their parameters, as 12 hex digits: the space, what is fixed of the
    configuration, and the files of train and validation. A version that maintenance made has the same files.

    attributes: hash of what is known of items, where it is read.
    """
    fixed = [*tunable(), *(f"{_JOB}.{name}" for name in _DECIDE), "evaluate.k", "seed"]
    values = {key: loaded.value(key) for key in fixed if key not in space.ranges}
    files = [
        [split, file.path.rsplit("/", 1)[-1], file.rows]
        for split in (TRAIN, VALIDATION)
        for file in snapshot.files.get(split, ())
    ]
    text = json.dumps([repr(space), values, files, *([attributes] if attributes else [])], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]

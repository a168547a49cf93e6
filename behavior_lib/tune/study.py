"""What Optuna remembers of a search, from one run of it to the next."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from behavior_lib.config.schema import PrunerName
from behavior_lib.errors import ConfigError, EnvironmentProblem
from behavior_lib.train.settings import EpochResult
from behavior_lib.tune.space import Space, Value

_KEY, _SUBJECT, _STATES, _REASON = "key", "subject", "states", "reason"


@dataclass(frozen=True)
class Best:
    """The trial with the highest validation NDCG@k, the first of equal ones."""

    trial: int
    value: float
    parameters: Mapping[str, Value]


@dataclass(frozen=True)
class Found:
    """What a study knows: its trials that ended, how many of each kind.

    complete: had all their epochs; best: of those, None where there is none. pruned: were ended early. failed: came to
    no model; reason: why the newest of them did.
    """

    complete: int
    pruned: int
    failed: int
    best: Best | None
    reason: str | None

    @property
    def ended(self) -> int:
        """All of them."""
        return self.complete + self.pruned + self.failed


class Attempt:
    """One trial on its way. chosen: configuration key → value. is_pruned: whether it is to end early."""

    def __init__(self, trial: Trial, chosen: Mapping[str, Value], known: int) -> None:
        """known: epochs that an earlier run has reported."""
        self._trial, self._known = trial, known
        self.number, self.chosen, self.is_pruned = trial.number, chosen, False

    def knows(self, result: EpochResult) -> bool:
        """Whether an earlier run has reported this epoch."""
        return result.number < self._known

    def report(self, result: EpochResult, is_last: bool) -> None:
        """Store an epoch's validation NDCG@k and ask the pruner, which judges by the newest epoch that is stored.

        It is not asked after the last, for all is paid for then, nor again where an earlier run went on after it.
        """
        done = result.number + 1
        if not self.knows(result):
            self._trial.report(result.validation_ndcg, done)
        self.is_pruned = not is_last and done >= self._known and self._trial.should_prune()

    def note_states(self, location: str) -> None:
        """Store where the states of the trial's training lie."""
        self._trial.set_user_attr(_STATES, location)

    def note_reason(self, reason: str) -> None:
        """Store why the trial comes to no model."""
        self._trial.set_user_attr(_REASON, reason)


class Study:
    """One search in its storage. At most one process may hold it.

    Every trial's parameters follow from the seed, the trial's number and the trials that ended before it, so that a
    search that was killed goes on as if it had not been (TPE: Bergstra et al., Algorithms for Hyper-Parameter
    Optimization, NIPS 2011).
    """

    def __init__(self, storage: str, name: str, subject: str, space: Space, seed: int, pruner: PrunerName) -> None:
        """storage: path of a sqlite file, which is made where it is missing, or URL of a database. subject: what the
        trials' values follow from beside their parameters.

        Raises EnvironmentProblem where the storage cannot be opened, ConfigError where the name belongs to a study of
        another subject.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.name, self._space, self._seed = name, space, seed
        self._storage = _open(storage)
        self._study = optuna.create_study(
            storage=self._storage, study_name=name, direction="maximize", pruner=_pruner(pruner), load_if_exists=True
        )
        known = self._study.user_attrs
        if known.get(_SUBJECT, subject) != subject:
            mend = "choose another tune.study, or leave it out"
            raise ConfigError("the study has another space, other sequences or other settings", value=name, mend=mend)
        # Tells this study from one of its name that was begun anew in another storage.
        self.key: str = known.get(_KEY, uuid.uuid4().hex)
        for attribute, value in {_KEY: self.key, _SUBJECT: subject}.items():
            if attribute not in known:
                self._study.set_user_attr(attribute, value)

    def begin_with(self, values: Mapping[str, Value]) -> bool:
        """Give these values to the first trial, where there is none yet and the space holds them. Returns whether."""
        is_wanted = not self._study.get_trials(deepcopy=False) and self._space.holds(values)
        if is_wanted:
            self._study.enqueue_trial(dict(values))
        return is_wanted

    def next(self) -> Attempt:
        """The trial that was at work when the last run ended, else a new one."""
        trials = self._study.get_trials(deepcopy=False)
        begun = next((trial for trial in trials if trial.state == TrialState.RUNNING), None)
        waiting = next((trial.number for trial in trials if trial.state == TrialState.WAITING), len(trials))
        number = waiting if begun is None else begun.number
        seed = np.random.SeedSequence((self._seed, number)).generate_state(1)[0]
        self._study.sampler = TPESampler(seed=int(seed))
        if begun is None:
            trial, known = self._study.ask(), 0
        else:
            study_id = self._storage.get_study_id_from_name(self.name)
            trial_id = self._storage.get_trial_id_from_study_id_trial_number(study_id, number)
            trial, known = Trial(self._study, trial_id), begun.last_step or 0
        return Attempt(trial, self._space.suggest(trial), known)

    def found(self) -> Found:
        """How far the search is."""
        failed = self._ended(TrialState.FAIL)
        best = self._best()
        return Found(
            len(self._ended(TrialState.COMPLETE)),
            len(self._ended(TrialState.PRUNED)),
            len(failed),
            None if best is None else Best(best.number, _value(best), dict(best.params)),
            failed[-1].user_attrs.get(_REASON) if failed else None,
        )

    def complete(self, attempt: Attempt, value: float) -> None:
        """The trial had all its epochs; value: its best validation NDCG@k."""
        self._study.tell(attempt.number, value)

    def prune(self, attempt: Attempt) -> None:
        """The trial was ended early."""
        self._study.tell(attempt.number, state=TrialState.PRUNED)

    def fail(self, attempt: Attempt, reason: str) -> None:
        """The trial came to no model."""
        attempt.note_reason(reason)
        self._study.tell(attempt.number, state=TrialState.FAIL)

    def needless(self) -> list[str]:
        """Where the states of trials lie that ended well and are not the best."""
        best = self._best()
        kept = None if best is None else best.user_attrs.get(_STATES)
        ended = [*self._ended(TrialState.COMPLETE), *self._ended(TrialState.PRUNED)]
        return sorted({trial.user_attrs[_STATES] for trial in ended if _STATES in trial.user_attrs} - {kept})

    def _ended(self, state: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=(state,))

    def _best(self) -> FrozenTrial | None:
        return max(self._ended(TrialState.COMPLETE), key=lambda trial: (_value(trial), -trial.number), default=None)


def _value(trial: FrozenTrial) -> float:
    """Of a complete trial."""
    assert trial.value is not None
    return trial.value


def _open(storage: str) -> RDBStorage:
    try:
        if "://" in storage:
            return RDBStorage(storage)
        path = Path(storage).absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        return RDBStorage(f"sqlite:///{path}")
    except (OSError, ImportError, SQLAlchemyError) as problem:
        # Not the value: a URL may hold a password.
        mend = f"{type(problem).__name__}: give the path of a file that can be written, or the URL of a database"
        raise EnvironmentProblem("studies cannot be stored", where="tune.storage", mend=mend) from None


def _pruner(name: PrunerName) -> BasePruner:
    pruners: dict[PrunerName, Callable[[], BasePruner]] = {
        PrunerName.median: MedianPruner,
        # An epoch is the least; after 1, 2, 4, … epochs the better half goes on (Li et al., ASHA, MLSys 2020).
        PrunerName.halving: lambda: SuccessiveHalvingPruner(min_resource=1, reduction_factor=2),
        PrunerName.none: NopPruner,
    }
    return pruners[name]()

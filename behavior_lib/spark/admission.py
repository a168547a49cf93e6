"""Which versions may be judged: those of the source that have learned from nothing that is asked of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from behavior_lib.config.schema import SplitKind
from behavior_lib.errors import BehaviorError, ConfigError
from behavior_lib.registry import TRAIN_CUT, Registered
from behavior_lib.tables import SEQUENCES
from behavior_lib.tables.sequences import VALIDATION


@dataclass(frozen=True)
class Cut:
    """Where histories end. time: UTC, the same for everybody; None: before events of each user that are held out."""

    time: datetime | None

    @classmethod
    def of(cls, sequences: DataFrame) -> Cut | None:
        """That of the SEQUENCES rows of one split; None where there is no row."""
        newest, held_out = F.max(SEQUENCES.as_of), F.count(SEQUENCES.held_out_id)
        time, n_held_out = sequences.agg(newest, held_out).first()  # type: ignore[misc]  # one row, always
        if time is None:
            return None
        return cls(None if n_held_out else time)

    @classmethod
    def at(cls, time: datetime, kind: SplitKind) -> Cut:
        """That of a split of this kind which is judged as of this time."""
        return cls(None if kind is SplitKind.leave_one_out else time)

    @classmethod
    def learned_by(cls, model: Registered) -> Cut | None:
        """That of what a version learned from; None where its tags do not know. Raises ValueError for no such time."""
        text = model.tags.get(TRAIN_CUT)
        if text is None:
            return None
        if text == SplitKind.leave_one_out.value:
            return cls(None)
        time = datetime.fromisoformat(text)
        return cls(time if time.tzinfo is None else time.astimezone(timezone.utc).replace(tzinfo=None))

    def __str__(self) -> str:
        """As the tag has it: an ISO time, or the kind of split."""
        return self.kind.value if self.time is None else self.time.isoformat()

    @property
    def kind(self) -> SplitKind:
        """Of the split."""
        return SplitKind.leave_one_out if self.time is None else SplitKind["global"]

    def is_before(self, other: Cut) -> bool:
        """Whether it is earlier than another one of its kind, as far as the two can be told apart."""
        return self.time is not None and other.time is not None and self.time < other.time


def other_cut(section: str, split: str) -> str:
    """What to do where a version has learned too much for the split that a section of the configuration names."""
    return f"ask on test: {section}.split=test" if split == VALIDATION else "ask as of a later cut: split.test=…"


@dataclass(frozen=True)
class Admission:
    """Refuses the versions that a job must not judge.

    source: whose events they are judged on. where: what names them, for the complaint. mend: what to do where one has
    learned too much. warn: takes a sentence. refusal: the error to raise.
    """

    source: str
    where: str
    mend: str
    warn: Callable[[str], None]
    refusal: type[BehaviorError] = ConfigError

    def check_origin(self, model: Registered) -> None:
        """Raises the refusal where a version learned from another source, as far as its tags know."""
        if not model.is_of(self.source):
            told = f"version {model.version} of {model.source}, asked of {self.source}"
            mend = f"give source={model.source}, or each source a model of its own: mlflow.model_name=…"
            raise self.refusal("a version has learned from another source", where=self.where, value=told, mend=mend)

    def check_refit(self, model: Registered, split: str) -> None:
        """Raises the refusal where a refit is to be asked what it has learned from."""
        if model.is_refit and split == VALIDATION:
            what = "a refit has learned from what follows the cut"
            raise self.refusal(what, where=self.where, value=model.version, mend=self.mend)

    def check_cut(self, model: Registered, asked: Cut | None) -> None:
        """Raises the refusal where a version learned from events after the cut; warns where its tags do not know.

        asked: None: there is nobody to ask of.
        """
        if asked is None:
            return
        try:
            learned = Cut.learned_by(model)
        except ValueError:
            what, mend = f"a version's tag {TRAIN_CUT} is no time", "give it an ISO time, or leave_one_out"
            raise self.refusal(what, where=self.where, value=model.tags[TRAIN_CUT], mend=mend) from None
        if learned is None:
            told = f"version {model.version} does not say up to which cut it has learned"
            self.warn(f"{told} (no tag {TRAIN_CUT}): whether it knows the answers is not noticed")
            return
        told = f"version {model.version} up to {learned}, asked as of {asked}"
        if asked.kind is not learned.kind:
            what, mend = "a version has learned from another kind of split", f"ask with split.kind={learned.kind.value}"
            raise self.refusal(what, where=self.where, value=told, mend=mend)
        if asked.is_before(learned):
            what = "a version has learned from what follows the cut"
            raise self.refusal(what, where=self.where, value=told, mend=self.mend)

"""What the judge asks of a method."""

from __future__ import annotations

from typing import Protocol

from behavior_lib.evaluation.ranking import Scores


class Scorer(Protocol):
    """Anything that scores the catalogue for the users of a split, a batch at a time."""

    def __call__(self, rows: slice) -> Scores:
        """[n, W] for the users rows.start … rows.stop - 1 of the split; -inf for what cannot be recommended."""
        ...

"""Why: which past events moved a user's vector, and which history items a next item rests on.

By occlusion: leave a part of the input out, and see what the model says then (Zeiler and Fergus 2014, "Visualizing and
understanding convolutional networks"; of sequences Li, Monroe and Jurafsky 2016, "Understanding neural networks through
representation erasure"). It asks the model itself and nothing of how it is built, so it explains every encoder and
every path of the score alike. Parts do not add up to a whole: where two items say the same, neither is missed alone.

What is left out never happened: the events behind it move up, but for their times, and of a history longer than the
encoder's window one event more is read. A user whose every event is left out has the empty history: the zero vector,
and the popularity of the items for a score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from behavior_lib.data.histories import Histories
from behavior_lib.errors import DataRefused
from behavior_lib.inference.encoder import Encoder
from behavior_lib.models.base import POPULARITY, VECTORS
from behavior_lib.tables.items import FIRST_INDEX

SMALLEST_PART = 1e-4  # of a logit: less is rounding

_LONGEST_GAP = np.iinfo(np.int32).max


@dataclass(frozen=True)
class Reason:
    """A history item that a next item rests on.

    part: by how much the next item's score (a logit) falls when all of the history item's events are left out.
    n_events: how many these are, of the newest events that the model looks at.
    """

    item_id: str
    part: float
    n_events: int


@dataclass(frozen=True)
class Explanation:
    """A next item with its score. reasons: largest part first, ties by index; none where it rests on no single item.

    path: the part of the score (a name of SequenceModel.score_parts) through which the history lifts the item most:
    what it has there beyond a user without events, of vectors beyond what all items have on average. "popularity" where
    the history lifts it nowhere.
    """

    item_id: str
    score: float
    path: str
    reasons: tuple[Reason, ...]


class Occlusion:
    """Explains what an encoder says of histories, by the newest events of each.

    Every history is encoded once for each event, or each item, that is left out: with `newest` events that many times
    the work of encoding it. Each is worked on alone, so that its neighbours cannot change a digit.
    """

    def __init__(self, encoder: Encoder, newest: int) -> None:
        """newest: events of a history that are left out in turn; what is older is always there, and explains nothing.

        Raises DataRefused where it is not positive.
        """
        if newest < 1:
            raise DataRefused("newest must be at least 1", where="occlusion", value=newest)
        self._encoder, self._newest = encoder, newest

    def influences(self, histories: Histories) -> list[NDArray[np.float64]]:
        """How far each user's vector moves when one event is left out: 1 - cosine, 0 (not at all) to 2.

        One array a history: of its newest events, oldest first, as many as there are but no more than `newest`. A
        vector moves by 1 from or to the zero vector: the only event of a user has that influence.
        """
        return [self._influence(self._read(histories, row)) for row in range(len(histories))]

    def next_items(self, histories: Histories, k: int, most: int) -> list[tuple[Explanation, ...]]:
        """The k next items of each history, as the encoder tells them, with up to `most` reasons each.

        Reasons are items of the newest events that the model has a name for, and all of an item's events are left out
        together. What an item keeps down is no reason, nor is a part below SMALLEST_PART.
        Raises DataRefused where k is not positive.
        """
        names, scores = self._encoder.next_items(histories, k)
        return [
            self._explained(self._read(histories, row), names[row], scores[row], most) for row in range(len(histories))
        ]

    def _read(self, histories: Histories, row: int) -> Histories:
        """The row alone, without padding: the events that the model looks at."""
        end = int(histories.length[row])
        whole = histories.rows(slice(row, row + 1), slice(end))
        older = np.arange(end)[None] < end - self._encoder.length
        return without(whole, older).rows(slice(1), slice(min(end, self._encoder.length)))

    def _influence(self, history: Histories) -> NDArray[np.float64]:
        n = int(history.length[0])
        if not n:
            return np.zeros(0)
        left_out = np.eye(n, dtype=np.bool_)[max(0, n - self._newest) :]
        vectors = self._encoder.encode(without(history, np.concatenate((np.zeros((1, n), np.bool_), left_out))))
        return _distance(vectors[0].astype(np.float64), vectors[1:].astype(np.float64))

    def _explained(
        self, history: Histories, names: list[str], scores: list[float], most: int
    ) -> tuple[Explanation, ...]:
        if not names:
            return ()
        items = self._encoder.vocabulary.item_indexes(names).astype(np.int64)
        own = self._named(history.item_index[0, -self._newest :])
        left_out = history.item_index == np.concatenate(([-1], own))[:, None]
        scored = self._encoder.score_parts(without(history, left_out), items)
        total = np.sum(list(scored.values()), axis=0, dtype=np.float64)
        parts, paths = total[0] - total[1:], self._paths(history, items)
        n_events = left_out[1:].sum(1)
        return tuple(
            Explanation(name, score, path, self._reasons(own, parts[:, column], n_events, most))
            for column, (name, score, path) in enumerate(zip(names, scores, paths, strict=True))
        )

    def _named(self, item_index: NDArray[np.int32]) -> NDArray[np.int32]:
        """The distinct indexes that are items with a name, ascending."""
        item_ids = self._encoder.vocabulary.item_ids
        found = np.unique(item_index)
        is_named = [FIRST_INDEX <= index < len(item_ids) and item_ids[index] is not None for index in found]
        return found[np.array(is_named, dtype=np.bool_)]

    def _reasons(
        self, own: NDArray[np.int32], parts: NDArray[np.float64], n_events: NDArray[np.int64], most: int
    ) -> tuple[Reason, ...]:
        order = np.argsort(-parts, kind="stable")[:most]
        return tuple(
            Reason(str(self._encoder.vocabulary.item_ids[own[place]]), float(parts[place]), int(n_events[place]))
            for place in order
            if parts[place] >= SMALLEST_PART
        )

    def _paths(self, history: Histories, items: NDArray[np.int64]) -> list[str]:
        known = self._encoder.known_items
        parts = self._encoder.score_parts(history, known)
        # A product of vectors that is the same for all items lifts none of them.
        lifts = {name: part[0] - (part[0].mean() if name == VECTORS else 0) for name, part in parts.items()}
        lifts[POPULARITY] = np.zeros(len(known), dtype=np.float32)
        order = [POPULARITY, *(name for name in lifts if name != POPULARITY)]
        best = np.argmax(np.stack([lifts[name] for name in order]), axis=0)
        return [order[best[place]] for place in np.searchsorted(known, items)]


def without(history: Histories, left_out: NDArray[np.bool_]) -> Histories:
    """Of one history of n events, without padding, a history without some of its events for each row of left_out.

    left_out: bool [m, n]. The events that stay keep their times: the gap before each spans what was left out.
    """
    n = left_out.shape[1]
    order = np.argsort(left_out, axis=1, kind="stable")
    length = (~left_out).sum(1).astype(np.int32)
    present = np.arange(n) < length[:, None]

    def take(events: NDArray[Any]) -> NDArray[Any]:
        return np.where(present, events[0][order], 0).astype(events.dtype)

    # Seconds after the first event, whose own gap counts from an event that is not here.
    times = (history.gap_seconds[0].astype(np.int64).cumsum() - history.gap_seconds[0, :1])[order]
    gap = np.minimum(np.diff(times, axis=1, prepend=times[:, :1]), _LONGEST_GAP) * present
    start = np.where(length > 0, history.first_event_time + times[:, :1].sum(1), np.datetime64("NaT"))
    return Histories(
        take(history.item_index), take(history.event_type), gap.astype(np.int32), take(history.value), length, start
    )


def _distance(whole: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64 [m]: 1 - cosine of the vector [d] and each of [m, d]."""
    norms = np.linalg.norm(whole) * np.linalg.norm(others, axis=1)
    cosine = np.divide(others @ whole, norms, out=np.zeros(len(others)), where=norms > 0)
    return np.where((others == whole).all(1), 0.0, np.clip(1 - cosine, 0.0, 2.0))

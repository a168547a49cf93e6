"""What a report is made of: plain values, each part empty or None where there is nothing to show yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Totals:
    """What the tables hold. Times are UTC."""

    events: int
    users: int
    sessions: int
    items: int
    first_event: datetime
    last_event: datetime


@dataclass(frozen=True)
class Batch:
    """Where the rows of one ingest run went: read = accepted + duplicate + quarantined + late."""

    batch_id: str
    finished_at: datetime
    read: int
    accepted: int
    duplicate: int
    quarantined: int
    late: int


@dataclass(frozen=True)
class JobRun:
    """The newest run of one job. versions: table → version that it wrote."""

    job: str
    finished_at: datetime
    seconds: float
    status: str
    versions: Mapping[str, int]
    error: str | None = None


@dataclass(frozen=True)
class Sessions:
    """How long sessions are, as value → number of sessions.

    events: events of a session. minutes: whole minutes from its first to its last event. days_apart: whole days from
    the user's session before it.
    """

    events: Mapping[int, int]
    minutes: Mapping[int, int]
    days_apart: Mapping[int, int]


@dataclass(frozen=True)
class Epoch:
    """One pass over the training data. validation: NDCG@k on the validation split."""

    number: int
    loss: float | None
    validation: float | None


@dataclass(frozen=True)
class Model:
    """The registered model that the report is about. alias: champion, challenger or empty. is_refit: whether it has
    learned up to the test cut, and so is its newest epoch.
    """

    name: str
    version: int
    alias: str
    epochs: tuple[Epoch, ...] = ()
    is_refit: bool = False


@dataclass(frozen=True)
class Score:
    """One metric of one method on one split, as in the table evaluations.

    lead_error: paired standard error of the model's figure minus this one; None for the model or where unknown.
    """

    split: str
    method: str
    metric: str
    value: float
    standard_error: float | None
    n_users: int
    lead_error: float | None = None


@dataclass(frozen=True)
class ItemVectors:
    """The items that are shown, most frequent first.

    names, groups: text from the source, [n]; a group is a department or whatever takes its place. events: [n].
    vectors: float [n, d].
    """

    ids: tuple[str, ...]
    names: tuple[str, ...]
    groups: tuple[str, ...]
    events: NDArray[np.int64]
    vectors: NDArray[np.float32]
    group_title: str = "group"


@dataclass(frozen=True)
class Item:
    """An item: its id, what a person calls it, and its group."""

    id: str
    name: str
    group: str


@dataclass(frozen=True)
class Neighbours:
    """An item and the items nearest to it, with their cosine similarity, nearest first."""

    item: Item
    events: int
    nearest: tuple[tuple[Item, float], ...]


@dataclass(frozen=True)
class Session:
    """One session of a user, an item an event. value: sum of its events' values.

    influences: of each event, how far the user's vector moves without it (1 - cosine); None where that is not known.
    """

    start: datetime
    value: float | None
    items: tuple[Item, ...]
    influences: tuple[float | None, ...]


@dataclass(frozen=True)
class Reason:
    """A history item that a recommendation rests on.

    part: by how much its score falls without the item's n_events events. last: the newest of them, if it is known.
    """

    item: Item
    part: float
    n_events: int
    last: datetime | None


@dataclass(frozen=True)
class Recommendation:
    """One recommended item. had_before: the user has had it already. came: it was in the next session, if known.

    path: the part of the score through which the history lifts it most. reasons: the largest first.
    """

    item: Item
    had_before: bool
    came: bool | None
    path: str
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class UserStory:
    """One user's sessions before the cut, oldest first, what was recommended then, and what came.

    next_items: the items of the user's first session after the cut; None where it is not known. n_unnamed: those of
    them that have no number (`vocabulary.min_count`), so that nobody can recommend them.
    """

    user_id: str
    n_events: int
    cut: datetime
    sessions: tuple[Session, ...]
    recommended: tuple[Recommendation, ...]
    next_items: tuple[Item, ...] | None
    n_unnamed: int


@dataclass(frozen=True)
class ReportData:
    """Everything that one report shows.

    events_by_day: UTC day → events. cuts: name of a split → its cut. places: what → where it lies.
    rules: id of a rule → rows that broke it. vectors: None before `embed` has run.
    """

    source: str
    made_at: datetime
    totals: Totals | None = None
    batches: tuple[Batch, ...] = ()
    rules: Mapping[str, int] = field(default_factory=dict)
    jobs: tuple[JobRun, ...] = ()
    events_by_day: Mapping[date, int] = field(default_factory=dict)
    cuts: Mapping[str, datetime] = field(default_factory=dict)
    sessions: Sessions | None = None
    model: Model | None = None
    scores: tuple[Score, ...] = ()
    vectors: ItemVectors | None = None
    neighbours: tuple[Neighbours, ...] = ()
    stories: tuple[UserStory, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)

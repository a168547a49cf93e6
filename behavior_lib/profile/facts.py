"""The facts that guesses are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ColumnFacts:
    """One raw column, over all readable rows. A text of nothing but space counts as missing.

    type: as the files have it, `string` for all text. missing, distinct (approximate, by HyperLogLog), integers,
    numbers: counts of values, the last two of those that read as one. whole: of those written like `12.0`. spaced: of
    those with a space inside. times: expression of a time → values that it reads. low, high: extremes, of the numbers
    where nearly all values are numbers, of the texts otherwise. top: the most frequent values with their counts, most
    frequent first; empty where there are too many.
    """

    name: str
    type: str
    rows: int
    missing: int
    distinct: int = 0
    integers: int = 0
    numbers: int = 0
    whole: int = 0
    spaced: int = 0
    mean_length: float = 0.0
    low: str | None = None
    high: str | None = None
    number_low: float | None = None
    number_high: float | None = None
    times: Mapping[str, int] = field(default_factory=dict)
    top: tuple[tuple[str, int], ...] = ()

    @property
    def present(self) -> int:
        """Values that are not missing."""
        return self.rows - self.missing


@dataclass(frozen=True)
class RowFacts:
    """Rows of the files. duplicates: rows that equal an earlier one in every column."""

    files: int
    bytes: int
    rows: int
    unreadable: int
    duplicates: int

    @property
    def distinct(self) -> int:
        """Readable rows that differ from one another."""
        return self.rows - self.unreadable - self.duplicates


@dataclass(frozen=True)
class EventFacts:
    """The rows seen as events: what the guesses of time, user, type and value make of them.

    first, last: ISO texts in UTC, None without any time. types: event type → rows, most frequent first. A user's events
    a day are by UTC days. gaps: place among `gaps.EDGES` → silences between a user's instants that lie there.
    shared_sessions: of `sessions`, those with more than one user.
    """

    first: str | None
    last: str | None
    types: Mapping[str, int]
    users: int
    per_user_median: float
    per_user_p95: float
    per_user_max: int
    busiest_day: int
    gaps: Mapping[int, int]
    sessions: int = 0
    shared_sessions: int = 0
    without_item: int = 0
    values: int = 0
    without_value: int = 0
    value_low: float | None = None
    value_high: float | None = None
    value_quartiles: tuple[float, float, float] | None = None
    negative: int = 0
    distinct_values: int = 0


@dataclass(frozen=True)
class Trial:
    """What ingest makes of the same rows with the draft: rules of the quarantined rows → rows."""

    accepted: int
    duplicate: int
    quarantined: Mapping[str, int]
    flagged: Mapping[str, int]

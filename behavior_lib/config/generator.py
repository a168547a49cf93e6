"""What `behavior generate` writes: every knob with its default, and how many rows of each kind follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import date, datetime, timedelta, timezone
from typing import Any

from behavior_lib.config.duration import parse_duration
from behavior_lib.errors import ConfigError

FORMATS = ("json", "parquet")
# Row numbers are multiplied by numbers as large as they are: past this a product could leave 64 bits.
MAX_ROWS = 2_000_000_000
_SHARES = ("duplicates", "late", "bad", "boundaries", "midnights", "pauses", "heavy_item", "heavy_day")
# How a bad row is bad, in turn, and the rules of conf/sources/generated.yaml and of every source that it breaks.
BAD_KINDS: Mapping[str, tuple[str, ...]] = {
    "time": ("time_required",),
    "customer": ("user_id_required",),
    "price": ("value_negative",),
    "action": ("action_unknown",),
    "torn": ("event_type_required", "time_required", "unreadable_row", "user_id_required"),
}


def _knob(default: Any, meaning: str) -> Any:
    return field(default=default, metadata={"help": meaning})


@dataclass(frozen=True)
class GeneratorConfig:
    """The knobs of the generator. Raises ConfigError where one is out of its range."""

    events: int = field(metadata={"help": "rows in all, duplicates and bad ones among them"})
    seed: int = _knob(1, "another seed, other rows")
    format: str = _knob("json", "json (gzipped lines) or parquet")
    start: str = _knob("2024-01-01", "first UTC day")
    days: int = _knob(30, "days on which visits begin")
    users: int | None = _knob(None, "users that visits are drawn from; by default events / 50")
    items: int | None = _knob(None, "items that events are drawn from; by default events / 200")
    user_exponent: float = _knob(0.8, "zipf exponent of the users, 0: all alike")
    item_exponent: float = _knob(1.0, "zipf exponent of the items, 0: all alike")
    duplicates: float = _knob(0.05, "share of rows that repeat an earlier one, on the same or one of the next 3 days")
    bad: float = _knob(0.005, "share of rows that no cleaning can save")
    late: float = _knob(0.01, "share of events that arrive 24 to 48 h after they happened")
    gap: str = _knob("30m", "silence G that ends a session")
    boundaries: float = _knob(0.03, "share of longer visits with a silence of G - 1 µs, G or G + 1 µs, a third each")
    midnights: float = _knob(0.02, "share of longer visits with an event at 00:00:00.000000 and one shortly before")
    pauses: float = _knob(0.3, "share of longer visits with a silence of more than G, up to 9 G")
    heavy_user: float = _knob(0, "events of one more user: below 1 a share of all events, from 1 a number")
    heavy_item: float = _knob(0, "share of events with one item")
    heavy_day: float = _knob(0, "share of visits that begin on the middle day")
    huge_session: int = _knob(0, "events of one more user that all lie in one session within a day")
    rows_per_file: int = _knob(1_000_000, "rows of a file, at most")

    def __post_init__(self) -> None:
        if not 1 <= self.events <= MAX_ROWS:
            raise _wrong("events", self.events, f"write a number from 1 to {MAX_ROWS}")
        if self.format not in FORMATS:
            raise _wrong("format", self.format, f"one of {', '.join(FORMATS)}")
        for name in _SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise _wrong(name, getattr(self, name), "write a share from 0 to 1")
        if self.duplicates + self.bad > 0.5:
            raise _wrong("duplicates + bad", self.duplicates + self.bad, "at most 0.5")
        if self.boundaries + self.midnights + self.pauses > 1:
            raise _wrong("boundaries + midnights + pauses", self.boundaries + self.midnights + self.pauses, "at most 1")
        for name in ("days", "users", "items", "rows_per_file"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise _wrong(name, getattr(self, name), "write a number from 1")
        for name in ("user_exponent", "item_exponent", "heavy_user", "huge_session"):
            if getattr(self, name) < 0:
                raise _wrong(name, getattr(self, name), "write a number from 0")
        if self.session_gap < timedelta(minutes=1):
            raise _wrong("gap", self.gap, "write at least 1m")
        self._start_day()
        if self.counts.heavy_user + self.huge_session > self.counts.events:
            raise _wrong("heavy_user + huge_session", self.counts.heavy_user + self.huge_session, "write fewer")

    @property
    def session_gap(self) -> timedelta:
        """G."""
        return parse_duration(self.gap, "gap of the generator")

    @property
    def start_us(self) -> int:
        """The first instant, µs since 1970, UTC."""
        first = datetime.combine(self._start_day(), datetime.min.time(), timezone.utc)
        return (first - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(microseconds=1)

    @property
    def n_users(self) -> int:
        """Users that visits are drawn from; the heavy user and the one of the huge session are two more."""
        return self.users if self.users is not None else max(1, self.events // 50)

    @property
    def n_items(self) -> int:
        """Items that events are drawn from; the heavy item is one more."""
        return self.items if self.items is not None else max(1, self.events // 200)

    @property
    def counts(self) -> Counts:
        """The rows of each kind."""
        duplicates, bad = round(self.events * self.duplicates), round(self.events * self.bad)
        good = self.events - duplicates - bad
        heavy = round(good * self.heavy_user) if self.heavy_user < 1 else round(self.heavy_user)
        kinds = {kind: len(range(place, bad, len(BAD_KINDS))) for place, kind in enumerate(BAD_KINDS)}
        late, heavy_item = round(good * self.late), round(good * self.heavy_item)
        return Counts(self.events, good, duplicates, bad, kinds, late, heavy, heavy_item, self.huge_session)

    def _start_day(self) -> date:
        try:
            return date.fromisoformat(self.start)
        except ValueError:
            raise _wrong("start", self.start, "write a day such as 2024-01-01") from None


@dataclass(frozen=True)
class Counts:
    """What must be found in the generated rows, exactly.

    rows = events + duplicates + bad. events: distinct good ones; late, heavy_user, heavy_item and huge_session are
    parts of them. bad_kinds: kind of BAD_KINDS → rows.
    """

    rows: int
    events: int
    duplicates: int
    bad: int
    bad_kinds: Mapping[str, int]
    late: int
    heavy_user: int
    heavy_item: int
    huge_session: int


def truth(config: GeneratorConfig) -> dict[str, Any]:
    """What the generator promises, as it is written beside the rows: the knobs and the counts."""
    return {"knobs": asdict(config), "counts": asdict(config.counts)}


def knobs() -> list[tuple[str, Any, Any, str]]:
    """Name, annotation, default and meaning of each knob; `events` has no default."""
    return [(knob.name, knob.type, knob.default, str(knob.metadata["help"])) for knob in fields(GeneratorConfig)]


def _wrong(name: str, value: Any, mend: str) -> ConfigError:
    return ConfigError(f"{name} is out of range", where="the generator's knobs", value=value, mend=mend)

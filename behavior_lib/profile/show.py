"""What `behavior profile` shows a person: tables for standard error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from behavior_lib.profile.facts import ColumnFacts, EventFacts, RowFacts, Trial
from behavior_lib.profile.gaps import GapSuggestion, place_name
from behavior_lib.profile.guesses import Guesses
from behavior_lib.profile.kinds import Kind, kind_of, time_format
from behavior_lib.tables import EVENTS

_BAR = 40
_SHOWN_VALUES = 3
_WIDEST = 24
_NUMBERS = (Kind.integer, Kind.decimal)


def rows_table(rows: RowFacts, described: str) -> Table:
    """How much there is, and what of it is no use."""
    table = _table("What there is", "", "")
    table.add_row("files", f"{rows.files:,} ({rows.bytes / 1e6:,.2f} MB)")
    table.add_row("format", escape(described))
    table.add_row("rows", f"{rows.rows:,}")
    table.add_row("unreadable rows", f"{rows.unreadable:,}")
    table.add_row("exact duplicates", f"{rows.duplicates:,} rows equal an earlier one in every column")
    return table


def columns_table(columns: Sequence[ColumnFacts], guesses: Guesses) -> Table:
    """One line a raw column. Its use: the canonical columns that are guessed to be made of it."""
    table = _table("Columns (≈ within 2 %)", "column", "kind", "missing", "distinct ≈", "values", "guessed use")
    for column in columns:
        uses = [name for name, guess in guesses.found.items() if column.name in guess.columns]
        table.add_row(
            escape(column.name), _kind(column), f"{column.missing:,}", f"{column.distinct:,}", escape(_values(column)),
            ", ".join(uses),
        )  # fmt: skip
    return table


def events_table(events: EventFacts) -> Table:
    """The rows as events."""
    table = _table("As events", "", "")
    table.add_row("from", f"{events.first} UTC")
    table.add_row("to", f"{events.last} UTC")
    for name, count in list(events.types.items())[:10]:
        table.add_row(f"type {escape(str(name))}", f"{count:,} rows")
    table.add_row("users", f"{events.users:,}")
    spread = (
        f"median {events.per_user_median:,g}, 95th percentile {events.per_user_p95:,g}, most {events.per_user_max:,}"
    )
    table.add_row("events per user", spread)
    table.add_row("busiest user-day", f"{events.busiest_day:,} events of one user in one UTC day")
    if events.sessions:
        table.add_row(
            "source's sessions", f"{events.sessions:,}, of which {events.shared_sessions:,} have several users"
        )
    if events.values:
        quartiles = ", ".join(_number(value) for value in events.value_quartiles or ())
        extremes = f"{_number(events.value_low)} to {_number(events.value_high)}"
        table.add_row("value", f"{extremes}, quartiles {quartiles}; {events.negative:,} negative")
    return table


def gaps_table(events: EventFacts, gap: GapSuggestion) -> Table:
    """Histogram of the silences; those of one instant are none."""
    table = _table("Silences: from one instant of a user to the user's next", "", "how many", "")
    highest = max(events.gaps.values(), default=1)
    places = range(min(events.gaps, default=0), max(events.gaps, default=-1) + 1)
    for place in places:
        count = events.gaps.get(place, 0)
        table.add_row(place_name(place), f"{count:,}", "█" * round(_BAR * count / highest))
    table.add_row("session_gap", gap.gap, gap.reason)
    return table


def guesses_table(guesses: Guesses, key: Sequence[str], how: str) -> Table:
    """What is taken for what, and why."""
    table = _table("Guesses", "column of events", "made of", "why")
    for name, guess in guesses.found.items():
        table.add_row(name, escape(guess.expression), escape(guess.reason))
    if EVENTS.event_id not in guesses.found:
        table.add_row("event_id, by key", escape(", ".join(key)), how)
    return table


def trial_table(trial: Trial) -> Table:
    """What ingest would do with the same rows."""
    table = _table("What ingest would make of these rows with the draft", "", "rows", "")
    table.add_row("accepted", f"{trial.accepted:,}", "")
    table.add_row("duplicate", f"{trial.duplicate:,}", "another row has the same event_id")
    for rules, count in trial.quarantined.items():
        table.add_row("quarantined", f"{count:,}", f"by the rule {rules}")
    if not trial.quarantined:
        table.add_row("quarantined", "0", "")
    for rule, count in sorted(trial.flagged.items()):
        table.add_row("flagged", f"{count:,}", f"accepted, and marked by the rule {rule}")
    return table


def as_json(columns: Sequence[ColumnFacts]) -> Iterator[Mapping[str, object]]:
    """The columns for the JSON line."""
    for column in columns:
        yield {
            "name": column.name,
            "kind": kind_of(column).value,
            "format": time_format(column),
            "missing": column.missing,
            "distinct_approx": column.distinct,
            "low": column.number_low if kind_of(column) in _NUMBERS else column.low,
            "high": column.number_high if kind_of(column) in _NUMBERS else column.high,
            "top": [list(pair) for pair in column.top],
        }


def _table(title: str, *columns: str) -> Table:
    table = Table(title=f"\n{title}", title_justify="left", title_style="bold", box=None, show_header=any(columns))
    for place, name in enumerate(columns):
        is_number = name in ("missing", "distinct ≈", "how many", "rows")
        table.add_column(name, justify="right" if is_number else "left", no_wrap=place == 0, header_style="dim")
    return table


def _kind(column: ColumnFacts) -> RenderableType:
    form = time_format(column)
    return f"time: {form}" if form is not None and kind_of(column) is Kind.time else kind_of(column).value


def _values(column: ColumnFacts) -> str:
    kind = kind_of(column)
    if kind in _NUMBERS:
        return f"{_number(column.number_low)} to {_number(column.number_high)}"
    if kind is Kind.id and column.numbers == column.present and column.number_low is not None:
        return f"{column.number_low:.0f} to {column.number_high:.0f}"
    if kind in (Kind.category, Kind.boolean) and column.top:
        shown = ", ".join(f"{_short(value)} ({count:,})" for value, count in column.top[:_SHOWN_VALUES])
        return shown + (", …" if column.distinct > _SHOWN_VALUES else "")
    return "" if column.low is None else f"{_short(column.low)} to {_short(column.high or '')}"


def _number(value: float | None) -> str:
    """At most two decimals, none where they are 0."""
    return "" if value is None else f"{value:,.2f}".removesuffix("0").removesuffix("0").removesuffix(".")


def _short(text: str) -> str:
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"

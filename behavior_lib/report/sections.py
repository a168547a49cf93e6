"""The sections of the report: what each says, worked out of ReportData, before any HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from behavior_lib.report import charts, numbers
from behavior_lib.report.data import Batch, ReportData, Sessions

_SHOWN_BATCHES = 10
_SESSIONS, _PAIRS = ("session", "sessions"), ("pair of sessions", "pairs of sessions")


@dataclass(frozen=True)
class Figure:
    """A large number at the top of the report."""

    amount: str
    what: str


@dataclass(frozen=True)
class BatchRow:
    """One line of the ledger, its figures as text in the order of the columns, and the parts of its bar."""

    title: str
    when: str
    amounts: tuple[str, ...]
    parts: tuple[charts.Part, ...]


@dataclass(frozen=True)
class Bar:
    """One line of a list of bars. percent: length against the longest."""

    label: str
    amount: str
    share: str
    percent: float


@dataclass(frozen=True)
class Distribution:
    """How long something is: a sentence and bars; no bars where the sentence says all."""

    title: str
    sentence: str
    head: str
    bars: tuple[Bar, ...]


def figures(data: ReportData) -> tuple[Figure, ...]:
    """The large numbers: what the tables hold, and which model is spoken of."""
    totals = data.totals
    if totals is None:
        return ()
    shown = [
        Figure(numbers.count(totals.events), "events"),
        Figure(numbers.count(totals.users), "users"),
        Figure(numbers.count(totals.sessions), "sessions"),
        Figure(numbers.count(totals.items), "items"),
    ]
    if data.model is not None:
        shown.append(Figure(f"v{data.model.version}", data.model.alias or "model"))
    return tuple(shown)


def ledger(batches: Sequence[Batch]) -> tuple[BatchRow, ...]:
    """The newest batches one by one, the older ones summed, and the sum of all where there is more than one."""
    ordered = sorted(batches, key=lambda batch: (batch.finished_at, batch.batch_id), reverse=True)
    newest, older = ordered[:_SHOWN_BATCHES], ordered[_SHOWN_BATCHES:]
    rows = [_batch_row(batch.batch_id, numbers.moment(batch.finished_at), batch) for batch in newest]
    if older:
        rows.append(_batch_row(f"{numbers.plural(len(older), 'older batch', 'older batches')}", "", _sum(older)))
    if len(ordered) > 1:
        rows.insert(0, _batch_row("All batches", "", _sum(ordered)))
    return tuple(rows)


def conservation(batches: Sequence[Batch]) -> str:
    """The law of conservation in figures."""
    if not batches:
        return ""
    total = _sum(batches)
    parts = ((total.accepted, "became events"), (total.duplicate, "were duplicates"))
    more = ((total.quarantined, "broke a rule"), (total.late, "came too late"))
    told = ", ".join(f"{numbers.count(number)} {what}" for number, what in (*parts, *more))
    fits = total.read == total.accepted + total.duplicate + total.quarantined + total.late
    end = "Every row is accounted for." if fits else "The sum does not fit: the ledger is broken."
    return f"Of {numbers.plural(total.read, 'row')} read, {told}. {end}"


def rule_bars(rules: Mapping[str, int]) -> tuple[Bar, ...]:
    """Rows in quarantine by the rule that they broke, most first."""
    return _bars(sorted(rules.items(), key=lambda item: (-item[1], item[0])), sum(rules.values()))


def busiest(events_by_day: Mapping[date, int]) -> str:
    """The span of the events and its busiest day."""
    day = max(sorted(events_by_day), key=lambda each: events_by_day[each])
    first, last = min(events_by_day), max(events_by_day)
    events = numbers.plural(sum(events_by_day.values()), "event")
    return (
        f"{events} from {numbers.day(first)} to {numbers.day(last)} (UTC). "
        f"The busiest day was {numbers.day(day)} with {numbers.count(events_by_day[day])}."
    )


def distributions(sessions: Sessions) -> tuple[Distribution, ...]:
    """Events of a session, its duration, and the days between a user's sessions."""
    found = [_distribution("Events in a session", sessions.events, "event", _SESSIONS)]
    if set(sessions.minutes) == {0}:
        sentence = "Every session is shorter than a minute: the source gives all events of a session one time."
        found.append(Distribution("Duration of a session", sentence, "", ()))
    else:
        found.append(_distribution("Duration of a session", sessions.minutes, "minute", _SESSIONS))
    if sessions.days_apart:
        found.append(_distribution("Days since the user's session before", sessions.days_apart, "day", _PAIRS))
    return tuple(found)


def _distribution(title: str, counts: Mapping[int, int], noun: str, counted: tuple[str, str]) -> Distribution:
    total = sum(counts.values())
    over = numbers.plural(total, *counted)
    sentence = f"Median {charts.median(counts):g}, longest {numbers.count(max(counts))}, over {over}."
    return Distribution(title, sentence, f"{noun.capitalize()}s", _bars(charts.binned(counts), total))


def _bars(amounts: Sequence[tuple[str, int]], total: int) -> tuple[Bar, ...]:
    longest = max((amount for _, amount in amounts), default=1)
    return tuple(
        Bar(label, numbers.count(amount), numbers.share(amount, total), round(100 * amount / longest, 2))
        for label, amount in amounts
    )


def _batch_row(title: str, when: str, batch: Batch) -> BatchRow:
    amounts = (batch.read, batch.accepted, batch.duplicate, batch.quarantined, batch.late)
    return BatchRow(title, when, tuple(numbers.count(amount) for amount in amounts), charts.flow(batch))


def _sum(batches: Sequence[Batch]) -> Batch:
    newest = max(batches, key=lambda batch: batch.finished_at)
    names = ("read", "accepted", "duplicate", "quarantined", "late")
    sums = (sum(getattr(batch, name) for batch in batches) for name in names)
    return Batch("", newest.finished_at, *sums)

"""A user as the report tells it: a time line, lists, what moved the user's vector and what recommendations rest on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from behavior_lib.report import charts, numbers
from behavior_lib.report.data import Item, Reason, Recommendation, Session, UserStory

_SHOWN_SESSIONS = 4
_SHOWN_ITEMS = 9
_SHOWN_MOVERS = 5
_LEAST_NAMED = 0.01  # of the largest influence: what moved the vector less is not among what moved it most
_LEAST_SHOWN = 0.1  # of the largest influence, or part: what moved the vector less has no bar, and is no reason


@dataclass(frozen=True)
class Moment:
    """A session on a user's time line. at: percent from the left; size: pixels. moved: it has one of the movers."""

    at: float
    size: int
    tip: str
    moved: bool


@dataclass(frozen=True)
class Influence:
    """How far one event moved the vector. percent: against the event that moved it most."""

    percent: float
    amount: str
    tip: str


@dataclass(frozen=True)
class Event:
    """An item of a session. influence: of its event that moved the vector most; None where that is little."""

    item: Item
    influence: Influence | None


@dataclass(frozen=True)
class Basket:
    """A session's items, the first of them by name."""

    when: str
    summary: str
    items: tuple[Event, ...]
    more: int


@dataclass(frozen=True)
class Mover:
    """One of the events that moved the vector most."""

    item: Item
    when: str
    influence: Influence


@dataclass(frozen=True)
class Because:
    """A history item that a recommendation rests on. item: None where it is the recommended one."""

    item: Item | None
    times: str
    tip: str


@dataclass(frozen=True)
class Recommended:
    """A recommendation with its reasons in words."""

    recommendation: Recommendation
    reasons: tuple[Because, ...]


@dataclass(frozen=True)
class Story:
    """One user as the report tells it."""

    story: UserStory
    summary: str
    outcome: str
    timeline: tuple[Moment, ...]
    ticks: tuple[charts.Tick, ...]
    baskets: tuple[Basket, ...]
    recommended: tuple[Recommended, ...]
    movers: tuple[Mover, ...]
    came: Basket | None


def story(user: UserStory) -> Story:
    """One user's history as a time line and lists."""
    first, cut = user.sessions[0].start if user.sessions else user.cut, user.cut
    span = (cut - first).total_seconds() or 1.0
    moved = _by_influence(user.sessions)
    largest = moved[0][0] if moved else 0.0
    most = [each for each in moved[:_SHOWN_MOVERS] if each[0] >= _LEAST_NAMED * largest]
    hits = {each.item for each in user.recommended}
    came = None
    if user.next_items is not None:
        in_order = sorted(user.next_items, key=lambda item: item not in hits)
        basket = _basket("", Session(cut, None, tuple(in_order), (None,) * len(in_order)), largest)
        came = replace(basket, more=basket.more + user.n_unnamed)
    summary = (
        f"{numbers.plural(user.n_events, 'event')} in {numbers.plural(len(user.sessions), 'session')} "
        f"before {numbers.day(cut)}"
    )
    return Story(
        user,
        summary,
        _outcome(user),
        _timeline(user, first, span, {session.start for _, session, _ in most}),
        _months(first, cut, span),
        tuple(
            _basket(numbers.moment(each.start), each, largest) for each in reversed(user.sessions[-_SHOWN_SESSIONS:])
        ),
        tuple(_recommended(each, cut) for each in user.recommended),
        tuple(Mover(item, numbers.day(session.start), _influence(amount, largest)) for amount, session, item in most),
        came,
    )


def _by_influence(sessions: Iterable[Session]) -> list[tuple[float, Session, Item]]:
    """The events that moved the vector, the most moving first, of equal ones those of the newest session."""
    found = [
        (amount, session, item)
        for session in sessions
        for item, amount in zip(session.items, session.influences, strict=True)
        if amount
    ]
    return sorted(found, key=lambda each: (each[0], each[1].start), reverse=True)


def _influence(amount: float, largest: float) -> Influence:
    tip = f"Without this event the vector would move by {amount:.2g} (1 \N{MINUS SIGN} cosine)"
    return Influence(round(100 * amount / largest, 2), f"{amount:.2g}", tip)


def _timeline(user: UserStory, first: datetime, span: float, moved: set[datetime]) -> tuple[Moment, ...]:
    most = max((len(session.items) for session in user.sessions), default=1)
    return tuple(
        Moment(
            round(100 * (session.start - first).total_seconds() / span, 2),
            round(5 + 13 * (len(session.items) / most) ** 0.5),
            f"{numbers.moment(session.start)}: {numbers.plural(len(session.items), 'event')}"
            + (", among the events that moved the vector most" if session.start in moved else ""),
            session.start in moved,
        )
        for session in user.sessions
    )


def _outcome(user: UserStory) -> str:
    if user.next_items is None:
        return "What the user did next is not known yet."
    hits = sum(bool(each.came) for each in user.recommended)
    size = len(set(user.next_items)) + user.n_unnamed
    of_all = f"{hits} of {len(user.recommended)} recommended items {'was' if hits == 1 else 'were'}"
    return f"{of_all} among the {numbers.plural(size, 'item')} of the user's next session."


def _months(first: datetime, cut: datetime, span: float) -> tuple[charts.Tick, ...]:
    starts = []
    month = first.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    while month <= cut:
        if first <= month < cut - (cut - first) / 20:  # a label at the very end would run over the edge
            starts.append(month)
        month = month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)
    step = max(1, -(-len(starts) // 6))
    return tuple(
        charts.Tick(round(100 * (start - first).total_seconds() / span, 2), f"{start:%b %Y}")
        for start in starts[::step]
    )


def _basket(when: str, session: Session, largest: float) -> Basket:
    """The items whose events moved the vector most are among those that are shown, in the order of the events."""
    amounts: dict[Item, float] = {}
    for item, amount in zip(session.items, session.influences, strict=True):
        amounts[item] = max(amounts.get(item, 0.0), amount or 0.0)
    summary = numbers.plural(len(amounts), "item")
    summary += "" if session.value is None else f", value {session.value:,.2f}"
    chosen = set(sorted(amounts, key=lambda item: -amounts[item])[:_SHOWN_ITEMS])
    shown = tuple(
        Event(item, _influence(amount, largest) if amount >= _LEAST_SHOWN * largest > 0 else None)
        for item, amount in amounts.items()
        if item in chosen
    )
    return Basket(when, summary, shown, len(amounts) - len(shown))


def _recommended(each: Recommendation, cut: datetime) -> Recommended:
    least = _LEAST_SHOWN * max((reason.part for reason in each.reasons), default=0.0)
    return Recommended(each, tuple(_because(reason, each.item, cut) for reason in each.reasons if reason.part >= least))


def _because(reason: Reason, recommended: Item, cut: datetime) -> Because:
    times = "once" if reason.n_events == 1 else f"{numbers.count(reason.n_events)} times"
    if reason.last is not None:
        days = numbers.plural((cut - reason.last).days, "day")
        times += f", {days} before" if reason.n_events == 1 else f", last {days} before"
    tip = f"Without it the score is lower by {reason.part:.2f}"
    return Because(None if reason.item.id == recommended.id else reason.item, times, tip)

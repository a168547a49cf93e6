"""Which raw column is the user, the item, the time, the type, the value and the session, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field

from behavior_lib.profile import names
from behavior_lib.profile.facts import ColumnFacts
from behavior_lib.profile.kinds import Kind, is_ambiguous, kind_of, time_format
from behavior_lib.profile.times import BY_NAME, has_offset
from behavior_lib.tables import EVENTS

_MAX_TYPES = 50
_THINGS = (Kind.id, Kind.integer, Kind.category)
_MEASURES = (Kind.integer, Kind.decimal)
_MAX_ATTRIBUTES = 40
_TYPE_ENDINGS = [[word] for word in names.TYPE]
# Names that Spark's parser may take for something else.
_KEYWORDS = {
    *("all", "and", "any", "array", "as", "between", "by", "case", "cast", "date", "distinct", "else", "end", "false"),
    *("from", "group", "in", "interval", "is", "like", "map", "not", "null", "on", "or", "order", "select", "struct"),
    *("then", "time", "timestamp", "to", "true", "user", "when", "where"),
}


@dataclass(frozen=True)
class Guess:
    """One canonical column. expression: Spark SQL. reason: why, in a few words. columns: the raw columns in it."""

    expression: str
    reason: str
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Guesses:
    """Canonical column → guess, in the order in which they are written; and whether times say their offset."""

    found: Mapping[str, Guess] = dataclass_field(default_factory=dict)
    has_offset: bool = False

    def get(self, name: str) -> Guess | None:
        """The guess for a canonical column; None where nothing fits."""
        return self.found.get(name)

    def without(self, name: str) -> Guesses:
        """The same without one canonical column."""
        return Guesses({key: guess for key, guess in self.found.items() if key != name}, self.has_offset)

    @property
    def missing(self) -> list[str]:
        """What an event cannot do without and no column was found for."""
        return [name for name in (EVENTS.user_id, EVENTS.event_time) if name not in self.found]


def guess(columns: Sequence[ColumnFacts]) -> Guesses:
    """Guess by name first and by content second; each raw column is used for one thing, but for the value."""
    kinds = {column.name: kind_of(column) for column in columns}
    free = [column for column in columns if kinds[column.name] not in (Kind.empty, Kind.nested)]
    found: dict[str, Guess] = {}

    def take(name: str, guessed: Guess | None) -> None:
        if guessed is not None:
            found[name] = guessed
            free[:] = [column for column in free if column.name not in guessed.columns]

    time = _time(free, kinds)
    take(EVENTS.event_time, time)
    take(EVENTS.user_id, _user(free, kinds))
    take(EVENTS.item_id, _item(free, kinds))
    take(EVENTS.session_key, _session(free, kinds))
    take(EVENTS.event_id, _event_id(free, kinds))
    value = _value(free, kinds)
    found[EVENTS.event_type] = event_type = _event_type(columns, free, kinds)
    if value is not None:
        found[EVENTS.value] = value
    free[:] = [column for column in free if column.name not in event_type.columns]
    take(EVENTS.attributes, _attributes(free, kinds))
    ordered = {name: found[name] for name in EVENTS.column_names if name in found}
    offset = time is not None and any(has_offset(text) for column in columns if column.name in time.columns
                                      for text in (column.low or "", column.high or ""))  # fmt: skip
    return Guesses(ordered, offset)


def quoted(name: str) -> str:
    """A raw column as Spark SQL names it."""
    is_plain = name.isidentifier() and name.isascii() and name.lower() not in _KEYWORDS
    return name if is_plain else "`" + name.replace("`", "``") + "`"


def _by_name(
    columns: Sequence[ColumnFacts], hints: Sequence[str], fits: Callable[[ColumnFacts], bool]
) -> tuple[ColumnFacts, str] | None:
    """The column with the earliest hint in its name; of several one that ends like `_id`, the fullest, the first."""
    named = [(column, names.hint(column.name, hints)) for column in columns if fits(column)]
    ranked = [
        (hints.index(word), names.words(column.name)[-1] not in names.IDENTITY, column.missing, place)
        for place, (column, word) in enumerate(named)
        if word is not None
    ]
    if not ranked:
        return None
    column, word = named[min(ranked)[-1]]
    return column, str(word)


def _time(columns: Sequence[ColumnFacts], kinds: Mapping[str, Kind]) -> Guess | None:
    times = [column for column in columns if kinds[column.name] is Kind.time]
    if not times:
        return None
    named = _by_name(times, names.TIME, lambda column: True)
    # A clock says more than a day: of several times take one with more different values.
    column = max(times, key=lambda column: (column.distinct, column.present))
    if named is not None and named[0].distinct >= column.distinct / 2:
        column = named[0]
    if column.type.startswith(("timestamp", "date")):
        return Guess(quoted(column.name), f"a {column.type} column", (column.name,))
    form = str(time_format(column))
    read = column.times[form]
    reason = f"{form} in {_share(read, column.present)}"
    if is_ambiguous(column):
        reason += "; day and month cannot be told apart in these files: check"
    return Guess(BY_NAME[form].expression.format(quoted(column.name)), reason, (column.name,))


def _user(columns: Sequence[ColumnFacts], kinds: Mapping[str, Kind]) -> Guess | None:
    named = _by_name(columns, names.USER, lambda column: _is_thing(column, kinds) and column.distinct > 1)
    if named is not None:
        return _thing(named[0], f"the name says {named[1]}")
    others = [column for column in columns if kinds[column.name] is Kind.id and column.distinct > 1]
    others = [c for c in others if names.hint(c.name, (*names.ITEM, *names.SESSION)) is None]
    repeated = [column for column in others if column.distinct <= column.present / 2]
    if not repeated:
        return None
    column = min(repeated, key=lambda column: (column.missing, column.distinct))
    return _thing(column, "no name says so; an id that comes back often: check")


def _item(columns: Sequence[ColumnFacts], kinds: Mapping[str, Kind]) -> Guess | None:
    def fits(column: ColumnFacts) -> bool:
        return _is_thing(column, kinds) and column.distinct > 1 and names.words(column.name)[-1] not in names.TYPE

    named = _by_name(columns, names.ITEM, fits)
    if named is None:
        return None
    ids = _by_name(columns, (named[1],), lambda c: fits(c) and kinds[c.name] is Kind.id)
    column = ids[0] if ids is not None else named[0]
    return _thing(column, f"the name says {named[1]}")


def _session(columns: Sequence[ColumnFacts], kinds: Mapping[str, Kind]) -> Guess | None:
    def fits(column: ColumnFacts) -> bool:
        comes_back = 1 < column.distinct <= 0.95 * max(column.present, 1)
        return kinds[column.name] is Kind.id and names.names_an_id(column.name) and comes_back

    named = _by_name(columns, names.SESSION, fits)
    return None if named is None else _thing(named[0], f"the name says {named[1]}")


def _event_id(columns: Sequence[ColumnFacts], kinds: Mapping[str, Kind]) -> Guess | None:
    """A source's own id of the event: the name says so, nothing is missing, and nearly every value is another."""
    for column in columns:
        own = names.words(column.name)
        is_named = own in (["id"], ["uuid"], ["guid"]) or ("event" in own and names.names_an_id(column.name))
        if is_named and kinds[column.name] is Kind.id and not column.missing and column.distinct > 0.9 * column.rows:
            return _thing(column, "the name says so, and hardly a value comes twice")
    return None


def _value(columns: Sequence[ColumnFacts], kinds: Mapping[str, Kind]) -> Guess | None:
    numbers = [column for column in columns if kinds[column.name] in _MEASURES]
    named = _by_name(numbers, names.VALUE, lambda column: column.distinct > 1)
    if named is None:
        return None
    column, word = named
    if word in names.PRICE:
        count = _by_name(numbers, names.QUANTITY, lambda other: other.name != column.name)
        if count is not None:
            amount = f"{_number(count[0])} * {_number(column)}"
            return Guess(amount, f"a {word} times a {count[1]}, by their names", (count[0].name, column.name))
    return Guess(_number(column), f"the name says {word}", (column.name,))


def _event_type(columns: Sequence[ColumnFacts], free: Sequence[ColumnFacts], kinds: Mapping[str, Kind]) -> Guess:
    def fits(column: ColumnFacts) -> bool:
        says_so = (
            names.words(column.name)[-1:] in _TYPE_ENDINGS
            and names.hint(column.name, (*names.ITEM, *names.USER)) is None
        )
        return says_so and kinds[column.name] is Kind.category and 0 < column.distinct <= _MAX_TYPES

    named = _by_name(free, names.TYPE, fits)
    if named is not None:
        return Guess(quoted(named[0].name), f"the name says {named[1]}; {named[0].distinct} values", (named[0].name,))
    bought = next((word for column in columns if (word := names.hint(column.name, names.BOUGHT))), None)
    if bought is None:
        return Guess("'event'", "no column tells types apart: rename it to what the rows are")
    count = _by_name(free, names.QUANTITY, lambda column: (column.number_low or 0) < 0)
    if count is None:
        return Guess("'purchase'", f"no column tells types apart; a column is named {bought}")
    expression = f"case when {_number(count[0])} < 0 then 'return' else 'purchase' end"
    return Guess(expression, f"a column is named {bought}, and {count[0].name} is negative in some rows")


def _attributes(columns: Sequence[ColumnFacts], kinds: Mapping[str, Kind]) -> Guess | None:
    chosen = columns[:_MAX_ATTRIBUTES]
    if not chosen:
        return None
    entries = ", ".join(f"'{column.name.replace(chr(39), '')}', {_text(column)}" for column in chosen)
    reason = "the columns that are left" + (f", the first {_MAX_ATTRIBUTES}" if len(columns) > len(chosen) else "")
    return Guess(f"map({entries})", reason, tuple(column.name for column in chosen))


def _is_thing(column: ColumnFacts, kinds: Mapping[str, Kind]) -> bool:
    own = names.words(column.name)
    return kinds[column.name] in _THINGS and bool(own) and (names.names_an_id(column.name) or len(own) == 1)


def _thing(column: ColumnFacts, reason: str) -> Guess:
    told = f"{reason}; {column.distinct:,} values"
    if column.missing:
        told += f"; {column.missing:,} rows have none"
    if column.type == "string" and column.whole and column.whole >= column.present - column.integers:
        return Guess(f"regexp_replace({quoted(column.name)}, '[.]0+$', '')", f"{told}; .0 cut off", (column.name,))
    return Guess(quoted(column.name), told, (column.name,))


def _number(column: ColumnFacts) -> str:
    return f"try_cast({quoted(column.name)} as double)"


def _text(column: ColumnFacts) -> str:
    return quoted(column.name) if column.type == "string" else f"cast({quoted(column.name)} as string)"


def _share(part: int, whole: int) -> str:
    return f"all {whole:,} values" if part == whole else f"{part:,} of {whole:,} values"

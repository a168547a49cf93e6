"""The event log by SQL alone: what ingest and sessionize must leave of raw files that came in any number of batches.

Written from the sources' YAML and docs/tables.md, without the library's code. Both sides are brought into one form:
times are µs since 1970, maps are lists sorted by key, the payload of a rejected row is the list of its raw columns, or
the one raw line that could not be read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
from deltalake import DeltaTable

NO_KEY = "null::varchar"  # of a source whose sessions end by silence
SHOWN = 3  # rows that a difference is told by
# Ids of events have a length and characters to keep to.
_IDS = ("event_id", "user_id", "item_id", "event_type", "session_key")
_BUILT_IN = {
    "unreadable_row": "is_unreadable",
    "time_required": "event_time is null",
    "time_before_1970": "event_time < timestamp '1970-01-01'",
    "time_in_future": "event_time > now()::timestamp + interval 1 day",
    **{f"{name}_required": f"{name} is null or trim({name}) = ''" for name in ("event_id", "user_id", "event_type")},
    **{f"{name}_too_long": f"length({name}) > 1024" for name in _IDS},
    **{f"{name}_control_character": f"regexp_matches({name}, '[\\x00-\\x1f\\x7f]')" for name in _IDS},
}
# As they stand: DuckDB would turn 10.449999999999999 into 10.45.
_NUMBERS_AS_TEXT = """regexp_replace(text, '":\\s*(-?[0-9][-+.0-9eE]*)\\s*([,}])', '":"\\1"\\2', 'g')"""
_CONTENT = "hash(user_id, item_id, event_type, event_time, value, session_key, attributes)"
# Which of a batch's rows with one id stands, where none stands from an earlier batch.
_ORDER = """number, event_time, user_id nulls first, item_id nulls first, event_type, value nulls first,
    session_key nulls first"""
# Table → SQL of its rows in the form of this module, over the Parquet files of the Delta table.
_STORED = {
    "events": """
        select event_id, user_id, item_id, event_type, epoch_us(event_time) as event_us, value, session_key,
            list_sort(map_entries(attributes)) as attributes, list_sort(flags) as flags, source, batch_id,
            event_date::varchar as event_date
        from {files}""",
    "events_quarantine": """
        select batch_id, source, list_sort(rules) as rules, {payload} as payload, n_rows::bigint as n_rows,
            row_hash = sha256(payload) as is_hash_right
        from {files}""",
    "sessions": """
        select session_id, user_id, session_key, epoch_us(session_start) as start_us, epoch_us(session_end) as end_us,
            n_events, n_items, list_sort(map_entries(events_by_type)) as events_by_type, value_sum, is_open, source,
            session_date::varchar as session_date
        from {files}""",
    "session_alias": "select old_session_id, session_id, batch_id from {files}",
}


@dataclass(frozen=True)
class RawSource:
    """How a source is read. raw: its columns; then the folder's where it has one. columns: canonical name → SQL.

    key, rejecting, flagging: SQL over the raw and the canonical columns; the last two by the id of their rule.
    """

    name: str
    raw: Sequence[str]
    columns: Mapping[str, str]
    key: Sequence[str]
    is_json: bool = True
    folder: str | None = None
    gap: str = "30 minutes"
    rejecting: Mapping[str, str] | None = None
    flagging: Mapping[str, str] | None = None


def _map(*names: str, **other: str) -> str:
    """SQL of attributes in the form of this module: key → raw column, by the alphabet; names: both are the same."""
    columns = {name: name for name in names} | other
    return "[" + ", ".join(f"{{'key': '{key}', 'value': {column}}}" for key, column in columns.items()) + "]"


GENERATED = RawSource(
    name="generated",
    raw=("request", "customer", "action", "product", "occurred_at", "price", "device"),
    folder="day",
    columns={
        "user_id": "customer",
        "item_id": "product",
        "event_type": "action",
        "event_time": "try_cast(occurred_at as timestamp)",
        "value": "try_cast(price as double)",
        "session_key": NO_KEY,
        "attributes": _map("device"),
    },
    key=("customer", "request", "occurred_at"),
    rejecting={
        "value_negative": "value < 0",
        "action_unknown": "event_type not in ('view', 'click', 'search', 'cart', 'purchase')",
    },
)
COMPLETE_JOURNEY = RawSource(
    name="complete_journey",
    raw=(
        *("household_id", "store_id", "basket_id", "product_id", "quantity", "sales_value", "retail_disc"),
        *("coupon_disc", "coupon_match_disc", "week", "transaction_timestamp"),
    ),
    folder="day",
    columns={
        "user_id": "household_id",
        "item_id": "product_id",
        "event_type": "'purchase'",
        "event_time": "try_strptime(transaction_timestamp, '%Y-%m-%d %H:%M:%S')",
        "value": "try_cast(sales_value as double)",
        "session_key": "basket_id",
        "attributes": _map("coupon_disc", "coupon_match_disc", "quantity", "retail_disc", "store_id", "week"),
    },
    key=("basket_id", "product_id"),
    rejecting={"value_missing": "value is null", "value_negative": "value < 0"},
    flagging={"value_zero": "value = 0"},
)
_QUARTILE = """
create macro quartile(v, share) as (
    select case when lower = upper then v[lower + 1] else (upper - p) * v[lower + 1] + (p - lower) * v[upper + 1] end
    from (select p, floor(p)::int as lower, ceil(p)::int as upper from (select share * (len(v) - 1) as p)))"""
# Tukey's fences of a batch's values of one item, by linear interpolation between the two nearest ranks.
_OUTLIER = "value not between first - 1.5 * (third - first) and third + 1.5 * (third - first)"
ONLINE_RETAIL = RawSource(
    name="online_retail",
    raw=("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country"),
    is_json=False,
    columns={
        "user_id": "regexp_replace(CustomerID, '[.]0$', '')",
        "item_id": "StockCode",
        "event_type": "if(InvoiceNo like 'C%' or try_cast(Quantity as int) < 0, 'return', 'purchase')",
        "event_time": "try_cast(InvoiceDate as timestamp) at time zone 'Europe/London' at time zone 'UTC'",
        "value": "try_cast(Quantity as int) * try_cast(UnitPrice as double)",
        "session_key": "InvoiceNo",
        "attributes": _map(country="Country", description="Description", quantity="Quantity", unit_price="UnitPrice"),
    },
    key=("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country"),
    rejecting={"value_missing": "value is null"},
    flagging={
        "value_zero": "value = 0",
        "not_a_product": "not regexp_full_match(item_id, '[0-9]{5}.*')",
        "value_outlier": _OUTLIER,
    },
)


class DuckLog:
    """What the log must hold once the batches were taken in their order, and sessionize has run after each."""

    def __init__(self, source: RawSource, batches: Sequence[tuple[str, Sequence[Path]]], late_days: int = 30) -> None:
        """batches: id and files of each, in the order of arrival. late_days: the configuration's late.max_days."""
        self.source, self.late_days = source, late_days
        self.database = duckdb.connect()
        self.gap_us = self.database.execute(f"select epoch_us(interval '{source.gap}')").fetchall()[0][0]
        self.database.execute(_QUARTILE)
        self.database.execute("create table batch (number int, batch_id varchar)")
        self.database.execute("create table file (filename varchar, number int)")
        for number, (name, files) in enumerate(batches, 1):
            self.database.execute("insert into batch values (?, ?)", [number, name])
            self.database.executemany("insert into file values (?, ?)", [(str(file), number) for file in files])
        self.n_batches = len(batches)
        self._read([str(file) for _, files in batches for file in files])
        self._judge()
        self._deduplicate()
        self.database.execute(f"create table sessions as {self._sessions(self.n_batches)}")

    def counts(self) -> dict[str, dict[str, int]]:
        """Batch id → rows by where they went, as ingest tells them."""
        names = ("read", "accepted", "duplicate", "quarantined", "late", "conflict")
        rows = self.database.execute("""
            select batch_id, count(*), count(*) filter (kind = 'accepted'), count(*) filter (kind = 'duplicate'),
                count(*) filter (kind in ('rejected', 'conflict')), count(*) filter (kind = 'late'),
                count(*) filter (kind = 'conflict')
            from told join batch using (number) group by batch_id""").fetchall()
        return {name: dict(zip(names, counts, strict=True)) for name, *counts in rows}

    def compare(self, warehouse: Path) -> dict[str, dict[str, Any]]:
        """Table → what `difference` tells of the rows that are stored in the warehouse and those that must be there."""
        payload = payload_of(self.source)
        return {
            table: difference(self.database, expected, stored(table, warehouse, payload))
            for table, expected in self.expected().items()
        }

    def _read(self, files: list[str]) -> None:
        """Table raw: one row a line; payload, and the line itself where it could not be read."""
        if self.source.is_json:
            paths = [f"$.{name}" for name in self.source.raw]
            folder = (
                f" || [regexp_extract(filename, '/{self.source.folder}=([^/]+)/', 1)]" if self.source.folder else ""
            )
            row = f"json_extract_string({_NUMBERS_AS_TEXT}, {paths}){folder}"
            payload = f"case when json_valid(text) then {row} else [text] end"
            options = "header=false, delim='\x01', quote='', escape='', columns={'text': 'varchar'}"
            unreadable = "not json_valid(text)"
        else:
            payload, unreadable = f"[{', '.join(self.source.raw)}]", "false"
            options = "header=true, all_varchar=true, quote='\"', escape='\"'"
        self.database.execute(
            f"create table raw as select number, {payload} as payload, {unreadable} as is_unreadable "
            f"from read_csv(?, filename=true, {options}) join file using (filename)",
            [files],
        )

    def _judge(self) -> None:
        """Table told: one row a raw line, with `broken` and with `flags`."""
        source = self.source
        raw = ", ".join(
            f"case when not is_unreadable then payload[{n}] end as {c}" for n, c in enumerate(source.raw, 1)
        )
        key = ", ".join(f"coalesce({part}, chr(0))" for part in source.key)
        columns = ", ".join(f"{sql} as {name}" for name, sql in source.columns.items())
        self.database.execute(f"""
            create table line as
            select row_number() over () as line, number, payload, is_unreadable, {columns},
                substr(sha256(concat_ws(chr(31), '{source.name}', {key})), 1, 32) as event_id
            from (select number, payload, is_unreadable, {raw} from raw)""")
        self.database.execute(
            f"create table sound as {_judged(_BUILT_IN | dict(source.rejecting or {}), 'broken', 'line')}"
        )
        self.database.execute("""
            create table fence as
            with ranked as (select number, item_id, list(value order by value) as v from sound
                where len(broken) = 0 and value is not null and item_id is not null group by all)
            select number, item_id, quartile(v, 0.25) as first, quartile(v, 0.75) as third from ranked""")
        flagged = "sound left join fence using (number, item_id)"
        self.database.execute(f"create table flagged as {_judged(source.flagging or {}, 'flags', flagged)}")
        self.database.execute(f"""
            create table bound as
            select number, max(newest) over (order by number rows between unbounded preceding and 1 preceding)
                - to_days({self.late_days}) as late_before
            from (select number, max(event_time) filter (len(broken) = 0) as newest from flagged group by number)""")

    def _deduplicate(self) -> None:
        """Tables told, one row a raw line with its `kind` and the `rules` it broke, and event, those that stand."""
        self.database.execute(f"""
            create table told as
            with judged as (
                select * exclude (broken), {_CONTENT} as content,
                    case when len(broken) = 0 and event_time < late_before then ['late'] else broken end as rules
                from flagged join bound using (number)
            ), placed as (
                select *, row_number() over w as place, first_value(content) over w as standing
                from judged where len(rules) = 0 window w as (partition by event_id order by {_ORDER})
            )
            select * exclude (place, standing), case when place = 1 then 'accepted'
                when content = standing then 'duplicate' else 'conflict' end as kind from placed
            union all by name
            select *, case when rules = ['late'] then 'late' else 'rejected' end as kind
            from judged where len(rules) > 0""")
        self.database.execute("create table event as select * from told where kind = 'accepted'")

    def _sessions(self, n_batches: int) -> str:
        """SQL of the sessions after so many batches, by the textbook: lag, then a running sum."""
        return f"""
            with own as (
                select user_id, session_key, event_id, event_type, item_id, value, epoch_us(event_time) as us
                from event where number <= {n_batches}
            ), marked as (
                select *, coalesce(session_key is null and us - lag(us) over w > {self.gap_us}, false) as is_first
                from own window w as (partition by user_id, session_key order by us, event_id)
            ), numbered as (
                select *, sum(is_first::int) over (partition by user_id, session_key order by us, event_id) as place
                from marked
            ), by_type as (
                select user_id, session_key, place, event_type, count(*) as n, min(us) as start_us, max(us) as end_us,
                    list(distinct item_id) filter (item_id is not null) as items,
                    sum(try_cast(value as decimal(38, 9))) as value
                from numbered group by all
            ), whole as (
                select user_id, session_key, min(start_us) as start_us, max(end_us) as end_us,
                    sum(n)::bigint as n_events,
                    len(list_distinct(flatten(list(items) filter (items is not null))))::bigint as n_items,
                    list({{'key': event_type, 'value': n}} order by event_type) as events_by_type,
                    sum(value)::varchar::double as value_sum
                from by_type group by user_id, session_key, place
            )
            select substr(sha256(concat_ws(chr(31), '{self.source.name}', user_id,
                    coalesce('key' || chr(31) || session_key, 'start' || chr(31) || start_us))), 1, 32) as session_id,
                user_id, session_key, start_us, end_us, n_events, coalesce(n_items, 0) as n_items, events_by_type,
                value_sum,
                end_us + {self.gap_us} >= (select max(us) from own) as is_open, '{self.source.name}' as source,
                make_timestamp(start_us)::date::varchar as session_date
            from whole"""

    def _aliases(self) -> str:
        """SQL of what each batch's sessionize says of ids that are gone: the session that holds their start now."""
        told = ["select ''::varchar as old_session_id, ''::varchar as session_id, ''::varchar as batch_id where false"]
        # Sessions with a key of the source's own never change their id.
        is_keyed = self.source.columns["session_key"] != NO_KEY
        for number in range(2, 1 if is_keyed else self.n_batches + 1):
            told.append(f"""
                select old.session_id as old_session_id, now.session_id, batch_id
                from ({self._sessions(number - 1)}) old
                join ({self._sessions(number)}) now on now.user_id = old.user_id
                    and old.start_us between now.start_us and now.end_us and old.session_id <> now.session_id
                join batch on batch.number = {number}""")
        return " union all ".join(told)

    def expected(self) -> dict[str, str]:
        """Table → SQL of the rows that it must hold, in the form of this module."""
        return {
            "events": f"""
                select event_id, user_id, item_id, event_type, epoch_us(event_time) as event_us, value, session_key,
                    attributes, flags, '{self.source.name}' as source, batch_id, event_time::date::varchar as event_date
                from event join batch using (number)""",
            "events_quarantine": f"""
                select batch_id, '{self.source.name}' as source,
                    case when kind = 'conflict' then ['conflict'] else rules end as rules, payload, count(*) as n_rows,
                    true as is_hash_right
                from told join batch using (number) where kind in ('rejected', 'late', 'conflict') group by all""",
            "sessions": "select * from sessions",
            "session_alias": self._aliases(),
        }


def between(source: RawSource, one: Path, other: Path, but: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Table → what `difference` tells of two warehouses of a source, but for the columns `but`."""
    database, payload = duckdb.connect(), payload_of(source)
    told, names = {}, ", ".join(f"'{name}'" for name in but)
    for table in ("events", "events_quarantine", "sessions"):
        rows = [stored(table, warehouse, payload) for warehouse in (one, other)]
        alike = [row and f"select columns(lambda name: name not in ({names})) from ({row})" for row in rows]
        if alike[0] is not None:
            told[table] = difference(database, alike[0], alike[1])
    return told


def payload_of(source: RawSource) -> str:
    """SQL of the form of this module of a stored payload."""
    names = (*source.raw, *([source.folder] if source.folder else []))
    paths = [f"$.{name}" for name in names]
    return f"if(list_contains(rules, 'unreadable_row'), [payload], json_extract_string(payload, {paths}))"


def stored(table: str, warehouse: Path, payload: str = "[payload]") -> str | None:
    """SQL of a Delta table's rows in this module's form, by the files that its log names; None where it has none."""
    folder = warehouse / table
    uris = DeltaTable(str(folder)).file_uris() if DeltaTable.is_deltatable(str(folder)) else []
    if not uris:
        return None
    files = ", ".join(f"'{uri.removeprefix('file://')}'" for uri in uris)
    return _STORED[table].format(files=f"read_parquet([{files}], hive_partitioning = true)", payload=payload)


def difference(database: duckdb.DuckDBPyConnection, expected: str, stored: str | None) -> dict[str, Any]:
    """Whether two queries have the same rows, each as often; how many; and the first that only one of them has."""
    database.execute(f"create or replace temp table expected as {expected}")
    database.execute(f"create or replace temp table stored as {stored or 'from expected limit 0'}")
    rows = {name: database.sql(f"select count(*) from {name}").fetchall()[0][0] for name in ("expected", "stored")}
    found: dict[str, Any] = {"rows": rows["expected"], "stored": rows["stored"]}
    for name, one, other in (("missing", "expected", "stored"), ("surplus", "stored", "expected")):
        only = database.sql(f"select * from (from {one} except all from {other}) order by all limit {SHOWN}")
        found[name] = [dict(zip(only.columns, map(str, row), strict=True)) for row in only.fetchall()]
    return {"equal": not (found["missing"] or found["surplus"]), **found}


def _judged(rules: Mapping[str, str], name: str, rows: str) -> str:
    """SQL that adds the sorted ids of the rules that a row breaks; what null leaves unknown is not broken."""
    broken = ", ".join(f"case when {test} then '{rule}' end" for rule, test in rules.items())
    ids = f"list_sort(list_filter([{broken or 'null'}]::varchar[], lambda rule: rule is not null))"
    return f"select *, {ids} as {name} from {rows}"

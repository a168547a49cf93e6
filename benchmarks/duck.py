"""DuckDB doing what ingest and sessionize do, on the same raw files: clean, drop duplicates, sessionize, write."""

from __future__ import annotations

from pathlib import Path

import duckdb

COLUMNS = ("request", "customer", "action", "product", "occurred_at", "price", "device")
ACTIONS = ("view", "click", "search", "cart", "purchase")
GAP = "interval 30 minutes"

CLEAN = f"""
create temp table judged as
select substr(sha256(concat_ws(chr(31), 'generated', coalesce(customer, chr(0)), coalesce(request, chr(0)),
                                   coalesce(occurred_at, chr(0)))), 1, 32)
           as event_id,
       customer as user_id, product as item_id, action as event_type,
       try_cast(occurred_at as timestamp) as event_time, try_cast(price as double) as value,
       map {{'device': device}} as attributes,
       [rule for rule in [
           case when try_cast(occurred_at as timestamp) is null then 'time_required' end,
           case when try_cast(occurred_at as timestamp) < timestamp '1970-01-01' then 'time_before_1970' end,
           case when try_cast(occurred_at as timestamp) > now()::timestamp + interval 1 day then 'time_in_future' end,
           case when customer is null or trim(customer) = '' then 'user_id_required' end,
           case when action is null or trim(action) = '' then 'event_type_required' end,
           case when length(customer) > 1024 then 'user_id_too_long' end,
           case when length(product) > 1024 then 'item_id_too_long' end,
           case when length(action) > 1024 then 'event_type_too_long' end,
           case when regexp_matches(customer, '[\\x00-\\x1f\\x7f]') then 'user_id_control_character' end,
           case when regexp_matches(product, '[\\x00-\\x1f\\x7f]') then 'item_id_control_character' end,
           case when regexp_matches(action, '[\\x00-\\x1f\\x7f]') then 'event_type_control_character' end,
           case when try_cast(price as double) < 0 then 'value_negative' end,
           case when action not in {ACTIONS} then 'action_unknown' end
       ] if rule is not null] as broken,
       case when len(broken) > 0 then to_json(struct_pack({", ".join(f"{name} := {name}" for name in COLUMNS)})) end
           as payload
from read_json(?, format='newline_delimited', ignore_errors=true, hive_partitioning=false,
               columns={{{", ".join(f"{name}: 'varchar'" for name in COLUMNS)}}})
"""
DEDUPE = """
create temp table event as
select event_id, user_id, item_id, event_type, event_time, value, attributes, 'generated' as source, 'one' as batch_id,
       event_time::date as event_date
from judged where len(broken) = 0
qualify row_number() over (partition by event_id order by event_time, user_id, item_id, event_type, value) = 1
"""
SESSIONS = f"""
create temp table session as
with marked as (
    select *, coalesce(event_time - lag(event_time) over w > {GAP}, true) as is_first
    from event window w as (partition by user_id order by event_time, event_id)
), numbered as (
    select *, sum(is_first::int) over (partition by user_id order by event_time, event_id) as number from marked
), typed as (
    select user_id, number, event_type, min(event_time) as first, max(event_time) as last, count(*) as n,
           list(distinct item_id) as items, sum(value) as value
    from numbered group by all
)
select substr(sha256(concat_ws(chr(31), 'generated', user_id, min(first)::varchar)), 1, 32) as session_id, user_id,
       min(first) as session_start, max(last) as session_end, sum(n)::bigint as n_events,
       len(list_distinct(flatten(list(items)))) as n_items,
       map_from_entries(list((event_type, n::bigint))) as events_by_type,
       sum(value) as value_sum, min(first)::date as session_date
from typed group by user_id, number
"""

# Its own bound is most of the machine: at 100 million rows it held 17 of 24 GB, and nothing else could run.
MEMORY = "8GB"


def run(raw: Path, out: Path, threads: int) -> dict[str, int]:
    """Read the raw files of generated JSON, write Parquet below `out`. Returns the rows of each kind.

    The same work but for two things: a torn line is set aside without its text, and no row of it is counted twice.
    """
    out.mkdir(parents=True)
    settings: dict[str, str | bool | int | float | list[str]] = {"threads": threads, "memory_limit": MEMORY}
    settings["temp_directory"] = str(out / "spilled")
    database = duckdb.connect(config=settings)
    database.execute(CLEAN, [f"{raw}/day=*/*.gz"])
    database.execute(DEDUPE)
    _write(database, "select * from judged where len(broken) > 0", out / "quarantine.parquet", "")
    _write(
        database, "select * from event order by event_date, user_id, event_time, event_id", out / "events", "event_date"
    )
    database.execute(SESSIONS)
    _write(database, "select * from session order by user_id, session_start", out / "sessions", "session_date")
    counts = {name: database.execute(f"select count(*) from {name}").fetchall()[0][0] for name in ("event", "session")}
    database.close()
    return counts


def _write(database: duckdb.DuckDBPyConnection, query: str, folder: Path, partition: str) -> None:
    by = f", partition_by ({partition})" if partition else ""
    database.execute(f"copy ({query}) to '{folder}' (format parquet, compression snappy{by})")

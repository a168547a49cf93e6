"""Facts about raw rows seen as events: types, users, values, silences; and what ingest would make of them."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from behavior_lib.config.source import SourceConfig
from behavior_lib.profile.facts import EventFacts, Trial
from behavior_lib.profile.gaps import EDGES
from behavior_lib.spark.canonical import canonical
from behavior_lib.spark.clean import BROKEN, judge
from behavior_lib.tables import EVENTS

_MAX_TYPES = 50
_PERCENTILE_ACCURACY = 10_000


def event_facts(rows: DataFrame) -> EventFacts:
    """Facts of canonical rows that have a time and a user. rows: what `canonical` returns, in any order.

    Quartiles of the value are approximate to 1 in 10,000 of its rank; everything else is exact.
    """
    events = rows.where(F.col(EVENTS.event_time).isNotNull() & (F.trim(EVENTS.user_id) != ""))
    totals = _totals(events)
    typed = events.where(F.trim(EVENTS.event_type) != "")
    types = typed.groupBy(EVENTS.event_type).count().orderBy(F.desc("count"), EVENTS.event_type).limit(_MAX_TYPES)
    daily = events.groupBy(EVENTS.user_id, F.to_date(EVENTS.event_time)).agg(F.count("*").alias("day"))
    per_user = daily.groupBy(EVENTS.user_id).agg(F.sum("day").alias("n"), F.max("day").alias("day"))
    percentiles = F.percentile("n", F.lit(0.5)), F.percentile("n", F.lit(0.95))
    users = per_user.agg(F.count("*"), *percentiles, F.max("n"), F.max("day")).first()
    n_users, median, p95, most, busiest = users or (0, None, None, None, None)
    owners = events.where(F.col(EVENTS.session_key).isNotNull()).groupBy(EVENTS.session_key)
    shared = F.min(EVENTS.user_id) != F.max(EVENTS.user_id)
    sessions, shared_sessions = owners.agg(shared.alias("s")).agg(F.count("*"), F.count_if("s")).first() or (0, 0)
    return EventFacts(
        first=None if totals["first"] is None else totals["first"].isoformat(sep=" "),
        last=None if totals["last"] is None else totals["last"].isoformat(sep=" "),
        types={row[0]: row[1] for row in types.collect()},
        users=n_users,
        per_user_median=median or 0.0,
        per_user_p95=p95 or 0.0,
        per_user_max=most or 0,
        busiest_day=busiest or 0,
        gaps=_gaps(events),
        sessions=sessions,
        shared_sessions=shared_sessions,
        without_item=totals["without_item"],
        values=totals["n_values"],
        without_value=totals["without_value"],
        value_low=totals["low"],
        value_high=totals["high"],
        value_quartiles=None if totals["quartiles"] is None else tuple(totals["quartiles"]),
        negative=totals["negative"],
        distinct_values=totals["distinct_values"],
    )


def try_source(raw: DataFrame, source: SourceConfig, now: datetime) -> Trial:
    """What ingest would make of raw rows as a first batch: the same rules, and no row is written.

    A row that breaks several rules is counted under each of them joined by `+`.
    """
    judged = judge(canonical(raw, source), source, now, None)
    is_kept, rules = F.size(BROKEN) == 0, F.array_join(BROKEN, "+").alias("rules")
    flags = F.array_join(EVENTS.flags, "+").alias("flags")
    # One row an event and what is said of it: several where rows of one event_id differ.
    told = judged.groupBy(F.when(is_kept, F.col(EVENTS.event_id)).alias("id"), rules, flags).count().persist()
    fresh = told.where("rules = ''").select("id").distinct().count()
    counts = told.groupBy("rules", "flags").agg(F.sum("count")).orderBy("rules", "flags").collect()
    told.unpersist()
    quarantined: Counter[str] = Counter()
    flagged: Counter[str] = Counter()
    for broken, marked, count in counts:
        quarantined.update({broken: count} if broken else {})
        flagged.update(dict.fromkeys(marked.split("+"), count) if marked and not broken else {})
    kept = sum(count for broken, _, count in counts if not broken)
    return Trial(fresh, kept - fresh, dict(quarantined), dict(flagged))


def _totals(events: DataFrame) -> Any:
    value = F.col(EVENTS.value)
    return events.agg(
        F.min(EVENTS.event_time).alias("first"),
        F.max(EVENTS.event_time).alias("last"),
        F.count_if(F.coalesce(F.trim(EVENTS.item_id), F.lit("")) == "").alias("without_item"),
        F.count(value).alias("n_values"),
        F.count_if(value.isNull()).alias("without_value"),
        F.min(value).alias("low"),
        F.max(value).alias("high"),
        F.percentile_approx(value, [0.25, 0.5, 0.75], _PERCENTILE_ACCURACY).alias("quartiles"),
        F.count_if(value < 0).alias("negative"),
        F.approx_count_distinct(value).alias("distinct_values"),
    ).first()


def _gaps(events: DataFrame) -> dict[int, int]:
    """Place among EDGES → silences between the neighbouring instants of a user."""
    instants = events.select(EVENTS.user_id, F.unix_micros(EVENTS.event_time).alias("_us")).distinct()
    earlier = F.lag("_us").over(Window.partitionBy(EVENTS.user_id).orderBy("_us"))
    gaps = instants.select(((F.col("_us") - earlier) / 1_000_000).alias("_gap")).where("_gap is not null")
    return {row[0]: row[1] for row in gaps.groupBy(_place(F.col("_gap"))).count().collect()}


def _place(seconds: Column) -> Column:
    """How many edges lie below a silence: one of exactly an edge belongs to the place that ends there."""
    edges = F.array(*(F.lit(float(edge)) for edge in EDGES))
    return F.size(F.filter(edges, lambda edge: edge < seconds))

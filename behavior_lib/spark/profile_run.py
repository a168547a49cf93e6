"""One look at raw files: facts, guesses, the draft, and what ingest would make of it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession

from behavior_lib.config import Loaded, load, load_source
from behavior_lib.errors import DataRefused
from behavior_lib.profile import draft
from behavior_lib.profile.facts import ColumnFacts, EventFacts, RowFacts, Trial
from behavior_lib.profile.gaps import GapSuggestion, suggest_gap
from behavior_lib.profile.guesses import Guesses, guess
from behavior_lib.progress import Progress
from behavior_lib.spark.profile import column_facts, find_key, row_facts
from behavior_lib.spark.profile_events import event_facts, try_source
from behavior_lib.spark.profile_files import Raw
from behavior_lib.spark.raw_files import UNREADABLE
from behavior_lib.tables import EVENTS

# A column is no session where more of its values than this belong to several users.
_SHARED = 0.01


@dataclass(frozen=True)
class Profile:
    """All that was found. events, gap, trial and text are None where no row can be an event."""

    rows: RowFacts
    columns: list[ColumnFacts]
    guesses: Guesses
    key: list[str]
    key_reason: str
    events: EventFacts | None = None
    gap: GapSuggestion | None = None
    trial: Trial | None = None
    text: str | None = None


def look(spark: SparkSession, found: Raw, loaded: Loaded, progress: Progress) -> Profile:
    """Look at raw files and draft their source. Raises DataRefused where no row can be read."""
    raw = found.read(spark).persist()
    try:
        with progress.step(f"reading {len(found.files):,} files"):
            rows = row_facts(raw, found.files)
        if rows.rows == rows.unreadable:
            mend = "check the path and the format"
            raise DataRefused("there is no row that can be read", where=found.path, value=rows.rows, mend=mend)
        readable = raw.where(raw[UNREADABLE].isNull()).drop(UNREADABLE)
        with progress.step("looking at the columns"):
            columns = column_facts(readable)
        guesses = guess(columns)
        with progress.step("looking for a key"):
            key, how = find_key(readable, _ranked(columns, guesses), rows.distinct)
        if guesses.missing:
            return Profile(rows, columns, guesses, key, how)
        with progress.step("looking at users and silences"):
            events = event_facts(found.canonical(raw, guesses, key))
        if events.shared_sessions > _SHARED * events.sessions:
            progress.say(f"no session_key: {events.shared_sessions:,} of {events.sessions:,} have several users")
            guesses = guesses.without(EVENTS.session_key)
        return _draft(raw, found, loaded, Profile(rows, columns, guesses, key, how, events), progress)
    finally:
        raw.unpersist()


def _draft(raw: DataFrame, found: Raw, loaded: Loaded, profile: Profile, progress: Progress) -> Profile:
    """The YAML, and what ingest would do with it: it is loaded as ingest loads it."""
    assert profile.events is not None
    gap, rules = suggest_gap(profile.events.gaps), draft.suggest_rules(profile.events, profile.guesses)
    key = profile.key, profile.key_reason
    origin = draft.Origin(found.name, found.yaml_path(loaded.config), found.format, _raw_columns(raw), found.timezone)
    with tempfile.TemporaryDirectory() as folder, progress.step("trying the draft"):
        file = Path(folder, f"{found.name}.yaml")
        file.write_text(draft.write(origin, profile.guesses, key, gap, rules), encoding="utf-8")
        again = load(loaded.environment, None, [*loaded.overrides, f"source={file}"])
        trial = try_source(raw, load_source(again.config), datetime.now(timezone.utc))
    head = draft.head(profile.rows, trial)
    text = draft.write(origin, profile.guesses, key, gap, rules, head)
    return replace(profile, gap=gap, trial=trial, text=text)


def _raw_columns(raw: DataFrame) -> list[str]:
    """The columns of the files."""
    return [name for name in raw.columns if name != UNREADABLE]


def _ranked(columns: Sequence[ColumnFacts], guesses: Guesses) -> list[str]:
    """Columns by how likely they are part of a key: ids and the time first, then those with the most values."""
    order = (EVENTS.event_id, EVENTS.session_key, EVENTS.user_id, EVENTS.item_id, EVENTS.event_time, EVENTS.event_type)
    first = [name for role in order if (found := guesses.get(role)) for name in found.columns]
    rest = sorted(columns, key=lambda column: -column.distinct)
    ranked = [*dict.fromkeys([*first, *(column.name for column in rest)])]
    return [name for name in ranked if any(c.name == name and c.distinct > 1 for c in columns)] or ranked

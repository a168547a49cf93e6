"""Ingest with pseudonyms: rules judge plain ids, and neither an id nor a key lands on a disk."""

import base64
import hashlib
import json
import re

import pytest

from behavior_lib.privacy.keys import EVENT, Key
from behavior_lib.tables import EVENTS, EVENTS_QUARANTINE, PIPELINE_RUNS, PSEUDONYM_KEYS
from tests.jobs.remains import files_with

pytestmark = [pytest.mark.spark, pytest.mark.slow]

SECRET = "a secret that is long enough to be one"
ONE, TWO = Key("v1", SECRET.encode()), Key("v2", SECRET[::-1].encode())
YAML = """
name: shop
format: json
path: ${paths.raw}/*.json
schema: "mail string, item string, time string"
columns:
  user_id: lower(mail)
  item_id: item
  event_type: "'view'"
  event_time: %s(time)
key: [mail, item, time]
rules:
  - {id: no_mail, pattern: '.+@.+', column: user_id, else: quarantine}
"""


@pytest.fixture
def settings(shop, monkeypatch):
    monkeypatch.setenv("BEHAVIOR_KEY", SECRET)
    monkeypatch.setenv("BEHAVIOR_KEY_2", SECRET[::-1])
    (shop.root / "raw").mkdir()
    (shop.root / "shop.yaml").write_text(YAML % "try_to_timestamp")
    source = f"source={shop.root / 'shop.yaml'}"
    return [source, "privacy.pseudonymize=true", "privacy.keys.v1=env:BEHAVIOR_KEY"]


def line(mail: str | None, time: str = "2017-05-01 10:00:00") -> str:
    return json.dumps({"mail": mail, "item": "i1", "time": time}) + "\n"


def plain_event_id(mail: str, time: str) -> str:
    return hashlib.sha256("\x1f".join(["shop", mail, "i1", time]).encode()).hexdigest()[:32]


def event_id(mail: str, time: str) -> str:
    return ONE.hash(EVENT + plain_event_id(mail, time)).removeprefix("v1:")[:32]


def test_no_plain_id_and_no_key_lands_anywhere(shop, settings):
    """Rows of every fate, and a second batch under a second key that brings an event of the first one again."""
    time, never = "2017-05-01 10:00:00", "2017-05-01 25:00:00"
    fates = [line("Anna@example.org"), line("anna@example.org", never), line("no mail of Anna"), line(None), line(" ")]
    torn = '{"mail": "anna@example.org", torn\n'
    (shop.root / "raw" / "0.json").write_text("".join([*fates, torn, torn]))
    assert shop.run("ingest", *settings)["rows"] == {
        "read": 7,
        "accepted": 1,
        "duplicate": 0,
        "quarantined": 6,
        "late": 0,
        "conflict": 0,
    }
    stored = shop.tables.read(EVENTS).collect()
    assert [(row.user_id, row.event_id) for row in stored] == [
        (ONE.hash("anna@example.org"), event_id("Anna@example.org", time))
    ]
    aside = {tuple(row.rules): row for row in shop.tables.read(EVENTS_QUARANTINE).collect()}
    # Everything that a replay of the row needs is there: what the rules judge, and the two hashes.
    assert json.loads(aside[("time_required",)].payload) == {
        "item": "i1",
        "time": never,
        "_user_id": ONE.hash("anna@example.org"),
        "_event_id": event_id("anna@example.org", never),
    }
    assert json.loads(aside[("no_mail",)].payload)["_user_id"] == ONE.hash("no mail of anna")
    assert "_user_id" not in json.loads(aside[("user_id_required",)].payload)
    unreadable = aside[("time_required", "unreadable_row", "user_id_required")]
    assert (unreadable.n_rows, re.sub("[0-9a-f]{64}", "#", unreadable.payload)) == (2, '{"_unreadable":"v1:#"}')

    settings.append("privacy.keys.v2=env:BEHAVIOR_KEY_2")
    (shop.root / "raw" / "1.json").write_text(
        line("Anna@example.org") + line("Anna@example.org", "2017-05-02 10:00:00")
    )
    rows = shop.run("ingest", *settings)["rows"]
    assert (rows["accepted"], rows["duplicate"]) == (1, 1)
    expected = sorted([ONE.hash("anna@example.org"), TWO.hash("anna@example.org")])
    assert sorted(row.user_id for row in shop.tables.read(EVENTS).collect()) == expected
    assert sorted(row.key_version for row in shop.tables.read(PSEUDONYM_KEYS).collect()) == ["v1", "v2"]

    # A ledger that was lost: both batches are taken once more, each under its own key, and nothing changes.
    before = sorted(map(repr, shop.tables.read(EVENTS).collect()))
    shop.tables.replace(PIPELINE_RUNS, shop.tables.read(PIPELINE_RUNS).limit(0))
    assert shop.run("ingest", *settings)["exit_code"] == 0
    assert sorted(map(repr, shop.tables.read(EVENTS).collect())) == before
    check_disk(shop)


def check_disk(shop) -> None:
    roots = [shop.root / "warehouse", shop.root / "var"]
    assert files_with("(?i)anna", roots) == []
    for key in (ONE, TWO):
        for secret in (key.secret, *key.pads):
            shown = [secret.decode("latin-1"), secret.hex(), base64.b64encode(secret).decode()]
            assert files_with("|".join(re.escape(text[:20]) for text in shown), roots) == []


def test_a_failing_cast_does_not_tell_whose_row_it_was(shop, settings):
    (shop.root / "shop.yaml").write_text(YAML % "to_timestamp")
    (shop.root / "raw" / "0.json").write_text(line("anna@example.org", "anna@example.org"))
    told = shop.run("ingest", *settings)
    assert (told["exit_code"], told["error"]) == (
        3,
        "a value cannot be read as its type; use try_cast or try_to_timestamp in the source",
    )
    assert "anna" not in told["stderr"]
    check_disk(shop)
    plain = shop.run("ingest", settings[0])
    assert "anna@example.org" in plain["error"]
    # Who runs it may see it; the ledger, which no erasure reaches, has the sentence without it.
    assert not any("anna" in str(row.error) for row in shop.tables.read(PIPELINE_RUNS).collect())


def test_a_rejected_row_is_no_conflict_as_well(shop, settings):
    """The key leaves the mail out, so that a row without one has the id and the content of the row in conflict."""
    (shop.root / "shop.yaml").write_text((YAML % "try_to_timestamp").replace("key: [mail, item, time]", "key: [time]"))
    other = line("anna@example.org").replace("i1", "i2")
    for number, lines in enumerate([line("anna@example.org"), other + line(None).replace("i1", "i2")]):
        (shop.root / "raw" / f"{number}.json").write_text(lines)
        told = shop.run("ingest", *settings)
    counts = ("read", "accepted", "quarantined", "conflict")
    assert [told["rows"][name] for name in counts] == [2, 0, 2, 1]
    stored = shop.tables.read(EVENTS_QUARANTINE).select(EVENTS_QUARANTINE.rules, EVENTS_QUARANTINE.n_rows).collect()
    assert sorted(map(tuple, stored)) == [(["conflict"], 1), (["user_id_required"], 1)]


def test_a_replay_moves_no_row_that_broke_a_rule_of_ids(shop, settings):
    """A pseudonym breaks none: it is neither empty nor without an @."""
    (shop.root / "raw" / "0.json").write_text(line(" ") + line("no mail") + line("anna@example.org"))
    assert shop.run("ingest", *settings)["rows"]["quarantined"] == 2
    told = shop.run("replay_quarantine", *settings)
    reason = "quarantined rows have no plain ids, which are asked for in source shop: 'no_mail'; run behavior rebuild"
    assert (told["exit_code"], told["error"]) == (3, reason)
    text = YAML[: YAML.index("rules:")] % "try_to_timestamp"
    (shop.root / "shop.yaml").write_text(text)
    told = shop.run("replay_quarantine", *settings)
    assert (told["exit_code"], told["rows"]["read"], told["rows"]["accepted"]) == (0, 1, 1)
    stored = shop.tables.read(EVENTS_QUARANTINE).select(EVENTS_QUARANTINE.rules).collect()
    assert [row.rules for row in stored] == [["no_mail", "user_id_required"]]
    (shop.root / "shop.yaml").write_text(text.replace("item_id: item", "item_id: concat(item, mail)"))
    assert "which are asked for in source shop: 'item_id'" in shop.run("replay_quarantine", *settings)["error"]

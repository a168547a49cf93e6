"""forget_users: afterwards the tables are those of people who were never there, and no file says otherwise."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from behavior_lib.cli import main
from behavior_lib.errors import BehaviorError
from behavior_lib.privacy.keys import FORGOTTEN, Key
from behavior_lib.spark.forget import Forgetting
from behavior_lib.spark.job import parse_arguments
from behavior_lib.spark.past import History
from behavior_lib.spark.proof import Remains
from behavior_lib.spark.schema import rows_frame
from behavior_lib.spark.tables import Tables
from behavior_lib.tables import (
    ALL_TABLES,
    EVENTS,
    EVENTS_QUARANTINE,
    FORGOTTEN_USERS,
    INGEST_FILES,
    ITEM_GRAPH,
    ITEMS,
    PIPELINE_RUNS,
    SEQUENCES,
    SESSION_ALIAS,
    SESSIONS,
    USER_EMBEDDINGS,
)
from tests.conftest import DATA
from tests.jobs.conftest import Shop
from tests.jobs.remains import columns_with, files_with

pytestmark = [pytest.mark.spark, pytest.mark.slow]

SECRET = "a secret that is long enough to be one"
KEYS = "privacy.keys.v1=env:BEHAVIOR_KEY"
DAYS = sorted((DATA / "online_retail").glob("*.csv"))
RETAIL = (
    "source=online_retail",
    "split.validation=2011-02-10",
    "split.test=2011-02-11",
    "sequences.neighbours=100000",
    KEYS,
)
# One bought on two of the days, one made the newest event of all.
PEOPLE = ("13319", "13725")


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> Key:
    monkeypatch.setenv("BEHAVIOR_KEY", SECRET)
    return Key("v1", SECRET.encode())


def take(shop: Shop, file: Path) -> dict:
    return shop.run("ingest", *RETAIL, f"run.batch_id={file.stem}", f"run.input={file}")


def build(shop: Shop) -> None:
    for job in ("sessionize", "build_sequences"):
        told = shop.run(job, *RETAIL)
        assert told["exit_code"] == 0, told["stderr"]


def write_ids(shop: Shop, *ids: str) -> Path:
    path = shop.root / "ids.txt"
    path.write_text("\n".join(ids) + "\n", encoding="utf-8")
    return path


def embedding(user: str) -> dict:
    row = {"user_id": user, "model_name": "m", "model_version": 1, "embedding": [0.5], "n_events": 1}
    return {
        **row,
        **dict.fromkeys(("last_event_time", "as_of"), "2011-02-09T00:00:00Z"),
        "events_version": 1,
        "run_id": "r",
    }


def content(tables: Tables) -> dict[str, list]:
    """The tables' rows, with names in place of numbers, which depend on the order of arrival."""
    items = {row.item_index: row.item_id for row in tables.read(ITEMS).collect()}
    names = lambda indexes: [items.get(index, index) for index in indexes]  # noqa: E731
    # Flags come from the statistics of a batch as it arrived.
    rows = {EVENTS.name: tables.read(EVENTS).drop(EVENTS.flags).collect()}
    rows |= {spec.name: tables.read(spec).collect() for spec in (SESSIONS, SESSION_ALIAS)}
    rows[ITEMS.name] = [tuple(row) for row in tables.read(ITEMS).drop(ITEMS.item_index).where("n_events > 0").collect()]
    rows[SEQUENCES.name] = [
        {**row.asDict(), "item_index": names(row.item_index), "target_index": sorted(map(str, names(row.target_index)))}
        for row in tables.read(SEQUENCES).collect()
    ]
    rows[ITEM_GRAPH.name] = [
        (row.split, row.kind, *names([row.item_index, row.neighbour_index]), row["count"], row.weight)
        for row in tables.read(ITEM_GRAPH).collect()
    ]
    return {name: sorted(map(repr, values)) for name, values in rows.items()}


def test_the_next_jobs_end_in_the_tables_of_people_who_were_never_there(shop, spark, capsys, key):
    take(shop, DAYS[0])
    take(shop, DAYS[1])
    build(shop)
    take(shop, DAYS[2])  # waits for its sessions
    rows = [embedding(user) for user in (*PEOPLE, "18075")]
    shop.tables.replace(USER_EMBEDDINGS, rows_frame(spark, USER_EMBEDDINGS, rows))
    numbers = {row.item_id: row.item_index for row in shop.tables.read(ITEMS).collect()}
    path = write_ids(shop, *PEOPLE)
    settings = [f"paths.{name}={shop.root / name}" for name in ("raw", "warehouse", "var")]
    words = [word for setting in (*settings, *RETAIL) for word in ("--set", setting)]
    assert main(["forget_users", "--env", "test", *words, "--ids", str(path)]) == 0
    told = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert (told["job"], told["status"]) == ("forget_users", "succeeded")
    assert (told["proof"]["hits"], told["proof"]["rows"]) == (0, 0)
    lines = [line for day in DAYS for line in csv.DictReader(day.open()) if line["CustomerID"][:-2] in PEOPLE]
    assert told["metrics"]["rows_events"] == len({tuple(line.values()) for line in lines})
    assert told["metrics"]["rows_user_embeddings"] == 2
    check_disk(shop, told)
    assert shop.tables.read(ITEM_GRAPH).count() == 0
    again = shop.run("forget_users", *RETAIL, f"forget.ids={path}")
    assert (again["status"], again["proof"]["hits"]) == ("unchanged", 0)
    check_return(shop, lines)
    build(shop)
    assert shop.run("sessionize", *RETAIL)["status"] == "unchanged"
    other = without_people(shop)
    assert content(shop.tables) == content(other.tables)
    stored = {row.item_id: row for row in shop.tables.read(ITEMS).collect()}
    assert numbers.items() <= {name: row.item_index for name, row in stored.items()}.items()
    only_theirs = {line["StockCode"] for line in lines} - {row.item_id for row in shop.tables.read(EVENTS).collect()}
    lost = {name for name, row in stored.items() if row.n_events == 0}
    assert lost == only_theirs & numbers.keys() != set()
    assert {stored[name].first_seen for name in lost} == {None}
    assert [row.user_id for row in shop.tables.read(USER_EMBEDDINGS).collect()] == ["18075"]
    hashes = {row.user_hash for row in shop.tables.read(FORGOTTEN_USERS).collect()}
    assert hashes == {key.hash(FORGOTTEN + name) for name in PEOPLE}


def check_disk(shop: Shop, told: dict) -> None:
    """Nothing of them in any file, and of each table one version, whose log is one commit and its checkpoint."""
    roots = [shop.root / "warehouse", shop.root / "var"]
    assert columns_with(set(PEOPLE), roots) == []
    assert files_with(rf'user_id\\?":\\?"({"|".join(PEOPLE)})\b', roots) == []
    for name, version in told["tables"].items():
        log = shop.root / "warehouse" / name / "_delta_log"
        if name not in (FORGOTTEN_USERS.name, PIPELINE_RUNS.name):
            found = {path.name for path in log.iterdir() if path.name[0].isdigit()}
            expected = {f"{version:020d}.{kind}" for kind in ("json", "crc", "checkpoint.parquet")}
            assert expected - {f"{version:020d}.crc"} <= found <= expected
    assert list((shop.root / "warehouse").rglob("cdc-*.parquet")) == []


def check_return(shop: Shop, lines: list[dict]) -> None:
    """Their lines, sent again, are refused; without the key nobody could tell."""
    again = shop.root / "again.csv"
    shutil.copy(DAYS[0], again)
    without_key = shop.run("ingest", RETAIL[0], "run.batch_id=again", f"run.input={again}")
    assert (without_key["exit_code"], without_key["error"].partition(";")[0]) == (
        2,
        "table forgotten_users needs key v1 in privacy.keys",
    )
    rows = take(shop, again)["rows"]
    theirs = [line for line in csv.DictReader(again.open()) if line["CustomerID"][:-2] in PEOPLE]
    unnamed = [line for line in csv.DictReader(again.open()) if not line["CustomerID"]]
    assert (rows["accepted"], rows["quarantined"]) == (0, len(theirs) + len(unnamed))
    aside = shop.tables.read(EVENTS_QUARANTINE).where("array_contains(rules, 'forgotten_user')").collect()
    assert [(row.payload, row.n_rows, row.batch_id) for row in aside] == [(None, len(theirs), "again")]


def without_people(shop: Shop) -> Shop:
    """A second warehouse, of files that never had their lines."""
    other = Shop(shop.tables._spark, shop.root / "other", shop._capture)
    folder = other.root / "cut"
    folder.mkdir(parents=True)
    for day in DAYS:
        lines = day.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if not any(f",{name}.0," in line for name in PEOPLE)]
        (folder / day.name).write_text("".join(kept), encoding="utf-8")
        take(other, folder / day.name)
    build(other)
    return other


YAML = """
name: shop
format: json
path: ${paths.raw}/*.json
schema: "user string, item string, time string"
columns:
  user_id: user
  item_id: item
  event_type: "'view'"
  event_time: try_to_timestamp(time)
key: [user, item, time]
"""
ANNA, BORIS = "anna@example.org", "boris@example.org"


def line(user: str, time: str, item: str = "i1") -> str:
    return json.dumps({"user": user, "item": item, "time": f"2017-05-01 {time}"}) + "\n"


@pytest.fixture
def small(shop):
    """A shop with good and bad rows of two people, sessions that a late event merged, a report and a stack trace."""
    (shop.root / "raw").mkdir()
    (shop.root / "shop.yaml").write_text(YAML)
    settings = (f"source={shop.root / 'shop.yaml'}", KEYS)
    both = (ANNA, BORIS)
    bad = [f'{{"user": "{name}", torn\n' for name in both] + [line(name, "25:00:00") for name in both]
    batches = [
        [line(name, time) for name in both for time in ("10:00:00", "10:50:00")] + bad,
        [line(name, "10:25:00") for name in both],
    ]
    for number, lines in enumerate(batches):
        (shop.root / "raw" / f"{number}.json").write_text("".join(lines))
        assert shop.run("ingest", *settings)["exit_code"] == 0
        assert shop.run("sessionize", *settings)["exit_code"] == 0
    assert shop.tables.read(SESSION_ALIAS).count() == 2
    # Waits for its session, which it will begin.
    (shop.root / "raw" / "2.json").write_text(line(BORIS, "09:40:00"))
    assert shop.run("ingest", *settings)["exit_code"] == 0
    logs = shop.root / "var" / "logs"
    logs.mkdir(parents=True)
    for name in both:
        (logs / f"{name[:4]}.log").write_text(f"could not read '{name}'")
    (shop.root / "var" / "report.html").write_text(f"<h3>{ANNA}</h3>")
    return shop, settings


def fail_in(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, calls: int = 0) -> None:
    """The method fails after so many calls, as a kill would end it there."""
    real, left = getattr(owner, name), [calls]

    def method(self, *arguments):
        if left[0] == 0:
            raise BehaviorError("killed")
        left[0] -= 1
        return real(self, *arguments)

    monkeypatch.setattr(owner, name, method)


def test_a_run_that_died_anywhere_is_finished_by_the_next(small, monkeypatch):
    shop, settings = small
    forget = ("forget_users", *settings, f"forget.ids={write_ids(shop, ANNA)}")
    # After the people were remembered, half of the deletions, one VACUUM, two logs, and twice just before the end.
    deaths = [(Forgetting, "delete", 0), (Forgetting, "delete", 2), (History, "_checkpoint", 0), (History, "erase", 2)]
    for owner, name, calls in (*deaths, (Remains, "scan", 0), (Forgetting, "close", 0)):
        with monkeypatch.context() as patch:
            fail_in(patch, owner, name, calls)
            told = shop.run(*forget)
        assert (told["exit_code"], told["error"]) == (1, "killed")
        if (owner, name) == (History, "_checkpoint"):
            # The change feed names files that are gone: sessions are made from all events.
            assert shop.run("sessionize", *settings)["exit_code"] == 0
    told = shop.run(*forget)
    assert (told["status"], told["proof"]["hits"]) == ("succeeded", 0)
    assert shop.run(*forget)["status"] == "unchanged"
    roots = [shop.root / "warehouse", shop.root / "var"]
    assert files_with(ANNA, roots) == []
    assert files_with(BORIS, roots) != []
    assert [path.name for path in (shop.root / "var" / "logs").iterdir()] == ["bori.log"]
    assert not (shop.root / "var" / "report.html").exists()
    aliases = shop.tables.read(SESSION_ALIAS).collect()
    batches = {Path(row.path).name: row.batch_id for row in shop.tables.read(INGEST_FILES).collect()}
    expected = [batches["1.json"], batches["2.json"]]
    assert sorted(row.batch_id for row in aliases) == sorted(expected)
    assert {row.user_id for row in shop.tables.read(SESSIONS).collect()} == {BORIS}
    aside = shop.tables.read(EVENTS_QUARANTINE).collect()
    assert sorted(BORIS in row.payload for row in aside) == [True, True]
    shop.run("sessionize", *settings)
    assert [row.n_events for row in shop.tables.read(SESSIONS).collect()] == [4]
    # Whose id an unreadable line holds nobody can tell: from now on it is kept without its text.
    (shop.root / "raw" / "3.json").write_text(f'{{"user": "{ANNA}", torn again\n' + line(ANNA, "11:00:00"))
    rows = shop.run("ingest", *settings)["rows"]
    assert (rows["accepted"], rows["quarantined"]) == (0, 2)
    assert files_with(ANNA, roots) == []


def test_an_unknown_id_is_refused_by_its_line_and_nothing_is_done(small):
    shop, settings = small
    before = {spec.name: shop.tables.version(spec) for spec in ALL_TABLES if shop.tables.exists(spec)}
    path = write_ids(shop, ANNA, "nobody@example.org")
    told = shop.run("forget_users", *settings, f"forget.ids={path}")
    assert (told["exit_code"], told["error"]) == (
        3,
        f"1 of 2 ids are in no table and were not forgotten before in line 2 of {path}; "
        "correct them, or take them too with --set forget.allow_unknown=true",
    )
    del before[PIPELINE_RUNS.name]
    assert {name: shop.tables.version(spec) for name, spec in by_name().items() if name in before} == before
    assert "nobody" not in told["stderr"]
    no_key = shop.run("forget_users", settings[0], f"forget.ids={path}")
    assert (no_key["exit_code"], no_key["error"]) == (
        2,
        "there is no key in privacy.keys; set privacy.keys.v1 to env:NAME",
    )


def by_name() -> dict:
    return {spec.name: spec for spec in ALL_TABLES}


def local_without_scheme(uri: str) -> Path | None:
    return None if uri.startswith("file:") else Path(uri)


def test_pseudonyms_of_every_key_are_forgotten_through_hadoop_too(shop, monkeypatch):
    """The warehouse is named as a URI here, as one on an object store is: its files go through Hadoop."""
    monkeypatch.setenv("SECOND_KEY", SECRET[::-1])
    (shop.root / "raw").mkdir()
    (shop.root / "shop.yaml").write_text(YAML)
    settings = [f"source={shop.root / 'shop.yaml'}", "privacy.pseudonymize=true", KEYS]
    settings.append(f"paths.warehouse=file://{shop.root / 'warehouse'}")
    for number in range(2):
        lines = [line(name, time) for name in (ANNA, BORIS) for time in (f"1{number}:00:00", "25:00:00")]
        (shop.root / "raw" / f"{number}.json").write_text("".join(lines))
        assert shop.run("ingest", *settings)["rows"]["accepted"] == 2
        if number == 0:
            settings.append("privacy.keys.v2=env:SECOND_KEY")
    names = {Key("v1", SECRET.encode()).hash(ANNA), Key("v2", SECRET[::-1].encode()).hash(ANNA)}
    roots = [shop.root / "warehouse", shop.root / "var"]
    assert {row.user_id for row in shop.tables.read(EVENTS).collect()} > names
    for module in ("storage", "proof"):
        monkeypatch.setattr(f"behavior_lib.spark.{module}.local_path", local_without_scheme)
    told = shop.run("forget_users", *settings, f"forget.ids={write_ids(shop, ANNA)}")
    assert (told["exit_code"], told["proof"]["hits"], told["metrics"]["rows_events"]) == (0, 0, 2)
    assert told["metrics"]["rows_events_quarantine"] == 2
    for name in (ANNA, *names):
        assert files_with(name, roots) == []
    assert shop.tables.read(EVENTS).count() == 2


def test_ids_and_its_file_are_one_of_the_settings(capsys):
    with pytest.raises(SystemExit):
        main(["forget_users", "--help"])
    assert "--ids VALUE      short for --set forget.ids=VALUE" in capsys.readouterr().out
    given = ["--ids", "a={b}.txt", "--set", "seed=2"]
    assert parse_arguments("forget_users", "behavior_lib.jobs.forget_users", given).set == [
        "forget.ids=a={b}.txt",
        "seed=2",
    ]

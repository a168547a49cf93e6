"""What a company's files and people do wrong: each is a row in quarantine, or one sentence and the right exit code."""

import gzip
import os
from pathlib import Path

import pytest

from behavior_lib.tables import EVENTS, EVENTS_QUARANTINE, INGEST_FILES
from tests.jobs.small_source import YAML, failure, line

pytestmark = pytest.mark.spark


def test_bad_rows_are_in_quarantine_with_their_rules_and_good_ones_are_not_lost(shop, source):
    long_id, long_line = "x" * 10_000, line(item="big", value="9" * 10_000_000)
    rows = [
        line(user="🛒", item="חלב"),
        long_line,
        b"{no json\n",
        b'{"user": "nul\x00"}\n',
        line(time="1900-01-01 00:00:00"),
        line(time="2300-01-01 00:00:00"),
        line(user=long_id),
        line(user=None),
        line(user="nul\x00inside"),
    ]
    told = shop.run("ingest", source(a_json=b"".join(rows)))
    assert told["exit_code"] == 0
    assert told["rows"] == {"read": 9, "accepted": 2, "duplicate": 0, "quarantined": 7, "late": 0, "conflict": 0}
    users = {row.user_id: row.item_id for row in shop.tables.read(EVENTS).collect()}
    assert users == {"🛒": "חלב", "u1": "big"}
    aside = sorted(tuple(row.rules) for row in shop.tables.read(EVENTS_QUARANTINE).collect())
    unreadable = ("time_required", "unreadable_row", "user_id_required")
    assert aside == [
        ("time_before_1970",),
        ("time_in_future",),
        unreadable,
        unreadable,
        ("user_id_control_character",),
        ("user_id_required",),
        ("user_id_too_long",),
    ]


def test_a_batch_in_which_every_row_is_bad_is_told(shop, source):
    setting = source(a_json=line(user=None) * 3)
    told = shop.run("ingest", setting)
    assert (told["exit_code"], told["rows"]["quarantined"], told["rows"]["accepted"]) == (0, 3, 0)
    assert "no row of batch" in told["stderr"]
    assert [row.n_rows for row in shop.tables.read(EVENTS_QUARANTINE).collect()] == [3]
    assert shop.run("ingest", setting)["status"] == "unchanged"
    assert shop.run("sessionize", setting)["status"] == "unchanged"
    assert failure(shop.run("build_sequences", setting)) == (
        3,
        "there is no event to learn from in source shop; run ingest first",
    )


@pytest.mark.parametrize(
    ("job", "settings", "sentence"),
    [
        ("ingest", ["run.missing=true"], "nothing says which batches there must be in source shop; add schedule:"),
        ("forget_users", ["forget.ids={root}/ids"], "there is no key in privacy.keys; set privacy.keys.v1 to env:NAME"),
    ],
)
def test_a_wrong_setting_is_told_before_spark_starts_and_leaves_no_line(
    shop, source, monkeypatch, job, settings, sentence
):
    started = []
    monkeypatch.setattr("behavior_lib.spark.job.start_session", lambda *_: started.append(job))
    (shop.root / "ids").write_text("u1\n")
    told = shop.run(job, source(a_json=line()), *(setting.format(root=shop.root) for setting in settings))
    code, found = failure(told)
    assert code == 2
    assert found.startswith(sentence)
    assert started == []
    assert {path.name for path in (shop.root / "warehouse").iterdir()} <= {".locks"}


def test_an_empty_file_is_nothing_to_take(shop, source):
    setting = source(a_json=b"")
    told = shop.run("ingest", setting)
    assert (told["exit_code"], told["status"], told["rows"]) == (0, "unchanged", {})
    source(b_json=b"\n")
    assert shop.run("ingest", setting)["rows"]["read"] == 0


def test_a_truncated_file_is_refused_whole_and_taken_once_it_is_mended(shop, source):
    whole = gzip.compress(b"".join(line(item=f"i{n}{os.urandom(30).hex()}") for n in range(500)), mtime=0)
    setting = source(a_json_gz=whole[: len(whole) // 2])
    code, sentence = failure(shop.run("ingest", setting))
    assert code == 3
    assert sentence.startswith("a compressed file ends too early in file:")
    assert sentence.endswith("a.json.gz; write the file again whole and rerun; nothing of the batch was taken")
    assert shop.tables.read(EVENTS).count() == 0
    assert shop.tables.read(INGEST_FILES).count() == 0
    source(a_json_gz=whole)
    assert shop.run("ingest", setting)["rows"]["accepted"] == 500


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (
            "user_id: user",
            "user_id: customer",
            "a column that the source names is not in its files: 'customer'; the files have",
        ),
        (
            "key: [user, item, time]",
            "key: [sku]",
            "a key column is not in the files in source shop: 'sku'; the files have user,",
        ),
        ("item_id: item", "item_id: cast(item", "an expression of the source is not Spark SQL: "),
        ("value string", "value string, price string", None),
    ],
)
def test_a_source_that_does_not_fit_its_files(shop, source, old: str, new: str, sentence: str | None):
    told = shop.run("ingest", source(YAML.replace(old, new), a_json=line()))
    if sentence is None:
        assert told["exit_code"] == 0
    else:
        code, error = failure(told)
        assert code == 2
        assert error.startswith(sentence)


def test_a_json_column_that_no_row_has_is_named(shop, source):
    needed = YAML.replace("value string", "value string, price string not null").replace("cast(value", "cast(price")
    code, sentence = failure(shop.run("ingest", source(needed, a_json=line())))
    assert (code, sentence) == (
        2,
        "a column that the source names is absent in the files of source shop: 'price'; "
        "correct the source's columns or the files",
    )
    told = shop.run("ingest", source(needed.replace(" not null", "")))
    assert (told["exit_code"], told["rows"]["accepted"]) == (0, 1)
    assert "no row of the batch has column price of source shop; it is null" in told["stderr"]
    assert shop.tables.read(EVENTS).first().value is None


def test_csv_files_with_other_headers_are_one_batch_and_one_without_users_is_refused(shop, source):
    text = YAML.replace("format: json", "format: csv\noptions: {header: 'true'}")
    good = b"user,item,time,value\nu1,i1,2017-05-01 12:00:00,1\n"
    swapped = b"item,user,time,coupon\ni2,u2,2017-05-01 12:00:00,1\n"
    nobody = b"item,time,value\ni3,2017-05-01 12:00:00,1\n"
    code, sentence = failure(shop.run("ingest", source(text, a_csv=good, b_csv=swapped, c_csv=nobody)))
    assert code == 3
    assert sentence.startswith("a column that the source needs is missing in file:")
    assert shop.tables.read(INGEST_FILES).count() == 0
    shop.run("ingest", source(text, c_csv=b"time,item,user\n2017-05-01 12:00:00,i3,u3\n"))
    rows = shop.tables.read(EVENTS).select(EVENTS.user_id, EVENTS.item_id, EVENTS.value).collect()
    assert sorted(map(tuple, rows)) == [("u1", "i1", 1.0), ("u2", "i2", None), ("u3", "i3", None)]


LOG = """
name: shop
format: text
path: ${paths.raw}/*
pattern: '(?<user>(x'
columns: {user_id: user, event_type: "'view'", event_time: try_to_timestamp(user)}
key: [user]
"""


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f"{YAML}explode: item\n", "explode needs an array in source shop: 'string'; explode item is not one; "),
        (
            YAML.replace("value string", "value struct<a: int>").replace("cast(value", "cast(value.b"),
            "a field that the source names is not in its files: ",
        ),
        (LOG, "a pattern of the source is no Java regular expression: "),
    ],
)
def test_a_source_that_spark_finds_wrong(shop, source, text: str, sentence: str):
    code, told = failure(shop.run("ingest", source(text, a_json=line())))
    assert code == 2
    assert told.startswith(sentence)


def test_a_cast_that_fails_names_the_mend(shop, source):
    text = YAML.replace("try_cast(value as double)", "cast(value as double)")
    code, sentence = failure(shop.run("ingest", source(text, a_json=line(value="much"))))
    assert code == 3
    assert sentence.endswith("use try_cast or try_to_timestamp in the source")


def test_a_missing_folder_is_named(shop, source):
    setting = source(YAML.replace("${paths.raw}/*", "${paths.raw}/nowhere/*"))
    code, sentence = failure(shop.run("ingest", setting))
    assert code == 2
    assert sentence.startswith("no such file or folder: ")
    assert "nowhere" in sentence


@pytest.mark.parametrize(
    ("settings", "code", "sentence"),
    [
        (["source=complete_jurney"], 2, "unknown source: 'complete_jurney'; did you mean complete_journey?"),
        (["late.max_day=1"], 2, "unknown key late.max_day in --set; did you mean late.max_days?"),
        (
            ["source=online_retail", "paths.warehouse=/proc/warehouse"],
            1,
            "a folder cannot be made in /proc/warehouse: 'No such file or directory'; "
            "choose another with --set paths.…",
        ),
    ],
)
def test_a_command_that_cannot_start(shop, settings: list[str], code: int, sentence: str):
    assert failure(shop.run("ingest", *settings)) == (code, sentence)


def test_a_file_in_place_of_the_warehouse_is_named(shop, source, tmp_path: Path):
    (tmp_path / "occupied").write_text("")
    code, sentence = failure(shop.run("ingest", source(a_json=line()), f"paths.warehouse={tmp_path / 'occupied'}"))
    assert code == 1
    assert sentence.startswith("a folder cannot be made in ")


@pytest.mark.parametrize(
    ("job", "key", "value", "lowest"),
    [
        ("evaluate", "evaluate.k", 0, 1),
        ("compare", "evaluate.k", -1, 1),
        ("report", "evaluate.k", 0, 1),
        ("compare", "evaluate.batch_size", 0, 1),
        ("evaluate", "evaluate.recent_days", 0, 1),
        ("evaluate", "evaluate.most_events", -1, 0),
        ("probe", "probe.inner_folds", 1, 2),
    ],
)
def test_a_number_that_cannot_be_is_refused_before_anything_is_read(shop, source, job, key, value, lowest):
    sentence = f"{key} must be at least {lowest}: {value}; --set {key}=…"
    assert failure(shop.run(job, source(), f"{key}={value}")) == (2, sentence)


def test_other_numbers_of_places_are_refused_as_well(shop, source):
    sentence = "evaluate.more_k must be at least 1 each: [5, 0]; --set evaluate.more_k=[1, 5], or [] for none"
    assert failure(shop.run("evaluate", source(), "evaluate.more_k=[5,0]")) == (2, sentence)

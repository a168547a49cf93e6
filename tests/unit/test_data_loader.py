"""Two readers, one order: the same batches bit for bit, and every row exactly once an epoch."""

import numpy as np
import pytest

from behavior_lib.data.loader import Loader
from behavior_lib.data.readers import read_with_pyarrow
from behavior_lib.data.snapshot import DataFile, Snapshot
from behavior_lib.errors import DataRefused
from tests.sequences_example import frame, histories, write

LENGTH, ROWS_OF_FILES = 5, (7, 1, 12, 4)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    path = tmp_path_factory.mktemp("my tables") / "sequences"
    frames, first = [], 0
    for rows in ROWS_OF_FILES:
        lists = [[3 + first + row] * (1 + (first + row) % LENGTH) for row in range(rows)]
        frames.append(frame(histories(lists, LENGTH), "train", first_user=first))
        first += rows
    version = write(
        path, *frames, frame(histories([[4], [5], [6]], LENGTH), "validation", [[3], [3, 9], [8]]), row_group=5
    )
    return Snapshot.resolve(str(path), version)


def batches(snapshot, reader="pyarrow", epoch=0, rank=0, size=1, batch_size=4, seed=1):
    return list(Loader(snapshot, "train", batch_size, reader, seed, rank, size).epoch(epoch))


def first_items(parts):
    return [int(item) for rows in parts for item in rows.histories.item_index[:, 0]]


def as_bytes(rows):
    return [array.tobytes() for array in (*vars(rows.histories).values(), rows.target_index)]


@pytest.mark.parametrize(("epoch", "rank", "size"), [(0, 0, 1), (3, 1, 2), (1, 2, 3)])
def test_both_readers_yield_the_same_batches_bit_for_bit(snapshot, epoch, rank, size):
    ours, theirs = (batches(snapshot, reader, epoch, rank, size) for reader in ("pyarrow", "petastorm"))
    assert [as_bytes(rows) for rows in ours] == [as_bytes(rows) for rows in theirs]
    for rows in ours:
        kinds = {name: array.dtype.name for name, array in vars(rows.histories).items()}
        assert kinds == {
            "item_index": "int32",
            "event_type": "int32",
            "gap_seconds": "int32",
            "value": "float32",
            "length": "int32",
        }


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("epoch", [0, 1])
def test_the_ranks_together_see_every_row_exactly_once_an_epoch(snapshot, size, epoch):
    seen = [item for rank in range(size) for item in first_items(batches(snapshot, epoch=epoch, rank=rank, size=size))]
    assert sorted(seen) == list(range(3, 3 + sum(ROWS_OF_FILES)))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_number_of_batches_is_known_beforehand_and_only_the_last_is_short(snapshot, size):
    for rank in range(size):
        sizes = [len(rows) for rows in batches(snapshot, rank=rank, size=size)]
        assert len(sizes) == Loader(snapshot, "train", 4, "pyarrow", 1, rank, size).batches_in(0)
        assert set(sizes[:-1]) <= {4}
        assert 1 <= sizes[-1] <= 4


def test_the_order_follows_from_seed_and_epoch(snapshot):
    assert first_items(batches(snapshot)) == first_items(batches(snapshot))
    orders = {tuple(first_items(batches(snapshot, epoch=epoch, seed=seed))) for epoch in (0, 1) for seed in (1, 2)}
    assert len(orders) == 4


def test_rows_keep_their_columns_together(snapshot):
    for rows in batches(snapshot):
        history = rows.histories
        assert (history.length == 1 + (history.item_index[:, 0] - 3) % LENGTH).all()
        present = np.arange(LENGTH) < history.length[:, None]
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


def test_ragged_arrays_are_refused(tmp_path):
    import pyarrow.parquet as pq

    table = frame(histories([[3], [4]], 2), "train").drop(["split"]).to_pydict()
    table["gap_seconds"][1] = [0]
    import pyarrow as pa

    pq.write_table(pa.table(table), tmp_path / "ragged.parquet")
    with pytest.raises(DataRefused, match="gap_seconds are null or of unequal length"):
        list(read_with_pyarrow([DataFile(str(tmp_path / "ragged.parquet"), 2)]))

"""The rows of the contest: a sequences table, and the same rows as each peer reads them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, WriterProperties, write_deltalake

from behavior_lib.tables import SEQUENCES
from behavior_lib.tables.items import FIRST_INDEX
from behavior_lib.tables.sequences import VALIDATION
from benchmarks.loader import history_lengths, rows_of

ROW_GROUP, N_EVENT_TYPES = 2048, 7


@dataclass(frozen=True)
class ContestTable:
    """Where the rows lie. n_items: highest item index + 1. rows, events: of all users; each row is one user's.

    keys: events that a causal state sees, its own among them, on average over all events.
    table: folder of the Delta table. parquet: a list of items a row, for RePlay. atomic: the folder `events` with one
    event a line, for RecBole.
    """

    folder: Path
    length: int
    n_items: int
    rows: int
    events: int
    keys: float

    @property
    def table(self) -> Path:
        return self.folder / "sequences"

    @property
    def parquet(self) -> Path:
        return self.folder / "rows.parquet"

    @property
    def atomic(self) -> Path:
        return self.folder / "events"

    def positions(self, rows: int) -> int:
        """Targets that so many rows have on average: every event but a row's first."""
        return round(rows * (self.events - self.rows) / self.rows)


def write_table(folder: Path, length: int, items: int, events: int, full: bool, seed: int) -> ContestTable:
    """Rows of at most `length` events, of all lengths or all full; the k-th item is as frequent as about 1 / √k."""
    random = np.random.default_rng(seed)
    lengths = np.full(-(-events // length), length) if full else history_lengths(events, length, random)
    lengths = lengths[lengths > 1]
    # The integral of x ** -1/2 inverted: rare enough to be real, frequent enough that a small table has every item.
    item = FIRST_INDEX + (items * random.random((len(lengths), length)) ** 2).astype(np.int64)
    item[0, 0] = FIRST_INDEX + items - 1
    events = int(lengths.sum())
    keys = float((lengths * (lengths + 1) / 2).sum() / events)
    made = ContestTable(folder, length, FIRST_INDEX + items, len(lengths), events, keys)
    properties = WriterProperties(max_row_group_size=ROW_GROUP, compression="SNAPPY")
    judged = rows_of(lengths[:1], item[:1], random, 0, VALIDATION)
    for part in (rows_of(lengths, item, random, 0), judged):
        write_deltalake(
            str(made.table), part, mode="append", partition_by=[SEQUENCES.split], writer_properties=properties
        )
    return made


def write_for_peers(made: ContestTable) -> None:
    """The rows of train once more: as one Parquet file and as RecBole's atomic file."""
    where = f"{SEQUENCES.split}=train"
    rows = pq.read_table(next((made.table / where).glob("*.parquet")), columns=[SEQUENCES.item_index, SEQUENCES.length])
    item = rows.column(SEQUENCES.item_index).combine_chunks().flatten().to_numpy().reshape(len(rows), -1)
    length = rows.column(SEQUENCES.length).to_numpy()
    flat = item[np.arange(made.length) < length[:, None]]
    offsets = pa.array(np.concatenate([[0], length.cumsum()]).astype(np.int32))
    lists = pa.ListArray.from_arrays(offsets, pa.array(flat.astype(np.int64)))
    pq.write_table(pa.table({"item_id": lists}), made.parquet)
    made.atomic.mkdir()
    user, place = np.repeat(np.arange(len(rows)), length), np.concatenate([np.arange(n) for n in length])
    lines = (f"u{one}\ti{two}\t{three}\n" for one, two, three in zip(user, flat, place, strict=True))
    with open(made.atomic / "events.inter", "w", encoding="utf-8") as file:
        file.write("user_id:token\titem_id:token\ttimestamp:float\n")
        file.writelines(lines)


def as_case(made: ContestTable) -> dict[str, Any]:
    """What a contestant must know of it."""
    return {
        "table": str(made.table),
        "version": DeltaTable(str(made.table)).version(),
        "parquet": str(made.parquet),
        "data_path": str(made.folder),
        "dataset": made.atomic.name,
        "length": made.length,
        "n_items": made.n_items,
    }

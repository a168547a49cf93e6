"""How fast the loader hands out batches: beside pyarrow alone and beside petastorm as it comes, on the same files.

Each figure is of one epoch over all rows in a warm process, in turns, the median of the repeats. A token is an event;
padding is read by all of them and counted by none.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, WriterProperties, write_deltalake

from behavior_lib.data.loader import Loader
from behavior_lib.data.rows import HISTORY
from behavior_lib.data.snapshot import Snapshot
from behavior_lib.tables import SEQUENCES
from behavior_lib.tables.sequences import TRAIN
from benchmarks.jobs import say, scratch

BATCH = 16
START = datetime(2020, 1, 1, tzinfo=timezone.utc)  # of every history


def run(argv: Sequence[str]) -> dict[str, Any]:
    """Measure every table. Returns the figures; arrow_ratio, stock_ratio and padding_share are of the first."""
    arguments = parse(argv)
    told = []
    with scratch(arguments.folder) as folder:
        for length in arguments.lengths:
            for row_group in arguments.row_groups:
                path = folder / f"{length}-{row_group}"
                told.append(measure(path, length, row_group, arguments))
                say(f"{told[-1]}")
        worlds = {size: together(folder, told[0], size, arguments) for size in arguments.worlds}
    names = ("arrow_ratio", "stock_ratio", "padding_share")
    return {"tables": told, "tokens_per_s_by_world": worlds, **{name: told[0][name] for name in names}}


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks loader", description=__doc__)
    parser.add_argument("--tokens", type=int, default=10_000_000, help="events of a table")
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 128], help="widths of the arrays")
    parser.add_argument("--row-groups", type=int, nargs="+", default=[2048, 8192], help="rows of a row group")
    parser.add_argument("--worlds", type=int, nargs="+", default=[1, 2], help="processes that read at once")
    parser.add_argument("--files", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", help="where the tables may lie meanwhile (the system's own)")
    return parser.parse_args(argv)


def measure(path: Path, length: int, row_group: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Write one table and read it in all the ways, in turns."""
    snapshot = write(path, length, row_group, arguments)
    tokens = sum(int(rows.histories.length.sum()) for rows in Loader(snapshot, TRAIN, BATCH, "pyarrow").in_order())
    ways: dict[str, Callable[[], Any]] = {
        "pyarrow": lambda: drain(plain_pyarrow(snapshot)),
        "loader": lambda: drain(Loader(snapshot, TRAIN, BATCH, "petastorm", arguments.seed).epoch(0)),
        "loader_pyarrow": lambda: drain(Loader(snapshot, TRAIN, BATCH, "pyarrow", arguments.seed).epoch(0)),
        "petastorm": lambda: drain(stock_petastorm(snapshot)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.repeats + 1):
        for name, way in ways.items():
            began, worked = time.perf_counter(), time.process_time()
            way()
            seconds[name].append(time.perf_counter() - began)
            cpu[name].append(time.process_time() - worked)
    speed = {name: round(tokens / statistics.median(own[1:])) for name, own in seconds.items()}
    ratios = [one / other for one, other in zip(seconds["pyarrow"][1:], seconds["loader"][1:], strict=True)]
    stock = [one / other for one, other in zip(seconds["petastorm"][1:], seconds["loader"][1:], strict=True)]
    return {
        "length": length,
        "row_group": row_group,
        "tokens": tokens,
        "megabytes": round(sum(Path(file.path).stat().st_size for file in snapshot.files[TRAIN]) / 1e6, 1),
        "tokens_per_s": speed,
        "cpu_s": {name: round(statistics.median(own[1:]), 2) for name, own in cpu.items()},
        "arrow_ratio": round(statistics.median(ratios), 3),
        "arrow_ratios": [round(min(ratios), 3), round(max(ratios), 3)],
        "stock_ratio": round(statistics.median(stock), 2),
        "padding_share": round(padding_share(snapshot, arguments.seed), 4),
        "peak_memory_mb": peak_memory(path, arguments.seed),
    }


def write(path: Path, length: int, row_group: int, arguments: argparse.Namespace) -> Snapshot:
    """A sequences table whose users have 1 to many events, most of them few: Zipf's law over items and over users."""
    random = np.random.default_rng(arguments.seed)
    properties = WriterProperties(max_row_group_size=row_group, compression="SNAPPY")
    version, user = 0, 0
    for _ in range(arguments.files):
        lengths = history_lengths(arguments.tokens // arguments.files, length, random)
        write_deltalake(
            str(path),
            table(lengths, length, random, user),
            mode="append",
            partition_by=[SEQUENCES.split],
            writer_properties=properties,
        )
        user += len(lengths)
    version = DeltaTable(str(path)).version()
    return Snapshot.resolve(str(path), version)


def history_lengths(events: int, length: int, random: np.random.Generator) -> np.ndarray[Any, Any]:
    """Lengths of rows that have so many events together: most users have few, those of many are cut into full rows."""
    lengths = np.zeros(0, np.int64)
    while lengths.sum() < events:
        drawn = np.minimum((length / 8) / random.random(4096) ** 0.7, 4 * length).astype(np.int64)
        pieces = np.repeat(length, (drawn // length).sum())
        lengths = np.concatenate([lengths, random.permutation(np.concatenate([pieces, drawn % length]))])
        lengths = lengths[lengths > 0]
    return lengths[: int(np.searchsorted(lengths.cumsum(), events)) + 1]


def table(lengths: np.ndarray[Any, Any], length: int, random: np.random.Generator, user: int) -> pa.Table:
    """SEQUENCES rows of the given lengths."""
    return rows_of(lengths, 3 + random.zipf(1.3, (len(lengths), length)) % 100_000, random, user)


def rows_of(
    lengths: np.ndarray[Any, Any],
    item: np.ndarray[Any, Any],
    random: np.random.Generator,
    user: int,
    split: str = TRAIN,
) -> pa.Table:
    """SEQUENCES rows of the given lengths with the given items, int [rows, columns]."""
    shape, (rows, length) = item.shape, item.shape
    present = np.arange(length) < lengths[:, None]
    values = {
        SEQUENCES.item_index: item.astype(np.int32),
        SEQUENCES.event_type: (3 + random.integers(0, 4, shape)).astype(np.int32),
        SEQUENCES.gap_seconds: (random.exponential(9_000, shape)).astype(np.int32),
        SEQUENCES.value: random.integers(99, 9_999, shape).astype(np.float32) / 100,
        SEQUENCES.target_index: np.zeros(shape, np.int32),
    }
    offsets = pa.array(np.arange(0, (rows + 1) * length, length, dtype=np.int32))
    columns = {name: pa.ListArray.from_arrays(offsets, (value * present).ravel()) for name, value in values.items()}
    columns[SEQUENCES.value] = columns[SEQUENCES.value].cast(pa.list_(pa.float32()))
    return pa.table(
        {
            SEQUENCES.user_id: [f"user {number}" for number in range(user, user + rows)],
            SEQUENCES.chunk_id: pa.array([0] * rows, pa.int32()),
            SEQUENCES.split: [split] * rows,
            SEQUENCES.length: pa.array(lengths, pa.int32()),
            SEQUENCES.first_event_time: pa.array([START] * rows, pa.timestamp("us", "UTC")),
            **columns,
        }
    )


def plain_pyarrow(snapshot: Snapshot) -> Iterator[list[Any]]:
    """Row groups as matrices, nothing mixed and nothing cut: what pyarrow itself takes."""
    for file in snapshot.files[TRAIN]:
        parquet = pq.ParquetFile(file.path)
        for number in range(parquet.num_row_groups):
            group = parquet.read_row_group(number, columns=list(HISTORY))
            scalars = (SEQUENCES.length, SEQUENCES.first_event_time)
            lists = [group.column(name).chunk(0) for name in HISTORY if name not in scalars]
            yield [column.flatten().to_numpy().reshape(len(column), -1) for column in lists]


def stock_petastorm(snapshot: Snapshot) -> Iterator[Any]:
    """`make_batch_reader` with its defaults: row groups, nothing cut."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from petastorm import make_batch_reader

        urls = [f"file://{file.path}" for file in snapshot.files[TRAIN]]
        with make_batch_reader(urls, schema_fields=list(HISTORY)) as reader:
            yield from reader


def drain(items: Iterator[Any]) -> None:
    for _ in items:
        pass


def padding_share(snapshot: Snapshot, seed: int) -> float:
    """Of an epoch's batches, cut to their longest row: the share that is padding."""
    tokens = computed = 0
    for numbered in Loader(snapshot, TRAIN, BATCH, "pyarrow", seed).epoch(0):
        length = numbered.histories.length
        tokens, computed = tokens + int(length.sum()), computed + numbered.histories.item_index.size
    return 1 - tokens / computed


def together(folder: Path, table: dict[str, Any], size: int, arguments: argparse.Namespace) -> int:
    """Tokens per second of `size` processes that read their stretches of one epoch at once."""
    path, tokens = folder / f"{table['length']}-{table['row_group']}", int(table["tokens"])
    speeds = []
    for _ in range(arguments.repeats):
        ranks = [reader_process(path, arguments.seed, rank, size) for rank in range(size)]
        seconds = max(float(rank.communicate()[0].split()[0]) for rank in ranks)
        speeds.append(tokens / seconds)
    return round(statistics.median(speeds))


def peak_memory(path: Path, seed: int) -> int:
    """MB that a process of one rank holds at most, less what it holds before the first batch."""
    said, _ = reader_process(path, seed, 0, 1).communicate()
    return int(said.split()[1])


def reader_process(path: Path, seed: int, rank: int, size: int) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "benchmarks.loader", str(path), str(seed), str(rank), str(size)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def main(path: str, seed: str, rank: str, size: str) -> None:
    """One rank: print the seconds of its second epoch, and the memory in MB that reading took."""
    snapshot = Snapshot.resolve(path, DeltaTable(path).version())
    loader = Loader(snapshot, TRAIN, BATCH, "petastorm", int(seed), int(rank), int(size))
    process = psutil.Process()
    before = process.memory_info().rss
    drain(loader.epoch(0))
    began, peak = time.perf_counter(), 0
    for _ in loader.epoch(1):
        peak = max(peak, process.memory_info().rss)
    print(time.perf_counter() - began, (peak - before) // 2**20)


if __name__ == "__main__":
    main(*sys.argv[1:])

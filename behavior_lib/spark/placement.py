"""Which task writes which rows of a batch: days into files, equal ids together, every task the same load."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import accumulate

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from behavior_lib.tables import EVENTS

TASK = "_task"
# A task sorts its rows in memory: so many of some 300 bytes leave room in 1 GB.
MOST_ROWS = 500_000
_FEWEST_ROWS = 50_000
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class Placement:
    """Days are cut into pieces by event_id, none larger than a task's load, and the pieces packed into tasks.

    first_day: of the batch. pieces: number of pieces of each day from first_day on; 0 where it has no row. task_of:
    the task of each piece, those of one day after one another. n_tasks: how many tasks there are.
    """

    first_day: date
    pieces: tuple[int, ...]
    task_of: tuple[int, ...]
    n_tasks: int

    def place(self, rows: DataFrame) -> DataFrame:
        """Rows with event_date and `_task`, shuffled once so that the rows of a piece are in one task.

        rows: canonical rows; equal event ids have equal event times.
        """
        day = F.to_date(EVENTS.event_time)
        since = F.datediff(day, F.lit(self.first_day))
        firsts = [0, *accumulate(self.pieces)]
        piece = F.get(_numbers(firsts), since) + F.pmod(
            F.xxhash64(EVENTS.event_id), F.get(_numbers(self.pieces), since)
        )
        keys = keys_of_tasks(self.n_tasks)
        key = F.get(_numbers([keys[task] for task in self.task_of]), piece.cast("int"))
        return rows.withColumns({EVENTS.event_date: day, TASK: key}).repartition(self.n_tasks, TASK)

    def together(self, *, with_user: bool) -> list[str]:
        """Columns that are equal where event_id is, in the order that makes one sort of them enough.

        with_user: equal ids have equal users too; then the sort that finds duplicates is the one that files have.
        """
        if with_user:
            return [EVENTS.event_date, *EVENTS.sort_by, TASK]
        return [TASK, EVENTS.event_id]


def plan_placement(rows_of_day: Mapping[date, int], cores: int) -> Placement:
    """Pack days into tasks, the largest piece first, each into the task with the fewest rows so far.

    rows_of_day: number of rows of each UTC day; not empty. cores: how many tasks run at once.
    """
    total = sum(rows_of_day.values())
    load = min(MOST_ROWS, max(_FEWEST_ROWS, math.ceil(total / cores)))
    n_tasks = math.ceil(total / load)
    first, last = min(rows_of_day), max(rows_of_day)
    pieces, parts = [0] * ((last - first).days + 1), []
    for day, count in sorted(rows_of_day.items()):
        number = math.ceil(count / load)
        pieces[(day - first).days] = number
        parts += [(count / number, day, each) for each in range(number)]
    loads = [(0.0, task) for task in range(n_tasks)]
    task_of = {}
    for size, day, each in sorted(parts, key=lambda part: (-part[0], part[1:])):
        used, task = heapq.heappop(loads)
        task_of[day, each] = task
        heapq.heappush(loads, (used + size, task))
    return Placement(first, tuple(pieces), tuple(task_of[key] for key in sorted(task_of)), n_tasks)


def keys_of_tasks(number: int) -> list[int]:
    """For each of a number of tasks the smallest integer ≥ 0 that Spark's hash partitioning sends to it."""
    found: dict[int, int] = {}
    value = 0
    while len(found) < number:
        found.setdefault(murmur3(value) % number, value)
        value += 1
    return [found[task] for task in range(number)]


def key_of_task(task: Column, number: int) -> Column:
    """What to repartition by, into a number of partitions, so that a row comes into the one that `task` says."""
    return F.get(_numbers(keys_of_tasks(number)), task.cast("int"))


def murmur3(value: int, seed: int = 42) -> int:
    """Spark's `hash` of an int ≥ 0: MurmurHash3 x86 32-bit (Austin Appleby) of its four bytes."""
    mixed = (_rotated(value * 0xCC9E2D51, 15) * 0x1B873593) & 0xFFFFFFFF
    state = (_rotated(seed ^ mixed, 13) * 5 + 0xE6546B64) & 0xFFFFFFFF
    state ^= 4
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        state = ((state ^ (state >> shift)) * factor) & 0xFFFFFFFF
    state ^= state >> 16
    return state - (1 << 32) if state >> 31 else state


def _rotated(value: int, bits: int) -> int:
    value &= 0xFFFFFFFF
    return ((value << bits) | (value >> (32 - bits))) & 0xFFFFFFFF


def _numbers(values: Sequence[int]) -> Column:
    """An array of integers as one constant, however many: the text is parsed once, when the query is planned."""
    return F.split(F.lit(",".join(map(str, values))), ",").cast("array<int>")

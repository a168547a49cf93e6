"""One resolved version of the sequences table: exactly its files, and what is counted over them.

A Delta folder also holds files that the version no longer has, so readers are handed this list and never the folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError
from numpy.typing import NDArray

from behavior_lib.data.files import exists, files_of, local_path, open_parquet
from behavior_lib.data.item_graph import Graph
from behavior_lib.data.rows import first_times
from behavior_lib.errors import DataRefused
from behavior_lib.tables import SEQUENCES
from behavior_lib.tables.items import FIRST_INDEX
from behavior_lib.tables.sequences import REFIT, TRAIN

_PICKLED = "_common_metadata"
_SIDE_FILES = "deletionVectors"


@dataclass(frozen=True)
class DataFile:
    """One Parquet file of a version. groups: rows of each of its row groups; their sum is what the log says."""

    path: str
    groups: tuple[int, ...]

    @property
    def rows(self) -> int:
        """Of all row groups."""
        return sum(self.groups)


@dataclass(frozen=True)
class Snapshot:
    """The files of one version of `sequences`, by split, in the order of their paths. graph: of what train teaches."""

    location: str
    version: int
    files: Mapping[str, tuple[DataFile, ...]]
    graph: Graph | None = None

    @classmethod
    def resolve(cls, location: str, version: int) -> Snapshot:
        """Read the log of the table at a path or URI.

        Raises DataRefused where there is no such version, where rows may be deleted by side files, where a file's rows
        differ from the log's, or where a folder holds a file that petastorm would unpickle.
        """
        root = local_path(location)
        try:
            table = DeltaTable(root, version=version)
        except (TableNotFoundError, DeltaError) as problem:
            mend = "run build_sequences first"
            raise DataRefused(f"no version {version}", where=location, value=str(problem), mend=mend) from None
        if _SIDE_FILES in (table.protocol().reader_features or ()):
            mend = f"drop the table feature {_SIDE_FILES} and purge it"
            raise DataRefused("the table may hold deleted rows in its files", where=location, mend=mend)
        found = files_of(table, root)
        for folder in {root, *(path.rsplit("/", 1)[0] for path, _ in found)}:
            _refuse_pickles(folder)
        by_split: dict[str, list[DataFile]] = {}
        for path, action in found:
            split = action[f"partition.{SEQUENCES.split}"]
            by_split.setdefault(split, []).append(DataFile(path, _row_groups(path, action["num_records"])))
        in_order = {split: tuple(sorted(files, key=lambda file: file.path)) for split, files in by_split.items()}
        return cls(location, version, in_order)

    def rows(self, split: str) -> int:
        """Rows of a split; 0 where the version has none."""
        return sum(file.rows for file in self.files.get(split, ()))

    def taught_by(self, split: str) -> Snapshot:
        """The same with the rows of another split as those of train. Raises DataRefused where there is none."""
        if split not in self.files:
            change = f"split.{split}=true" if split == REFIT else "split.days=… (cuts that events lie before)"
            mend = f"--set {change} and run build_sequences"
            raise DataRefused(f"there is no {split} row", where=self.location, mend=mend)
        return replace(self, files={**self.files, TRAIN: self.files[split]})

    def to_json(self) -> str:
        """The file list as text."""
        files = {split: [[file.path, file.groups] for file in files] for split, files in self.files.items()}
        graph = {} if self.graph is None else {"graph": asdict(self.graph)}
        return json.dumps({"location": self.location, "version": self.version, "files": files, **graph})

    @classmethod
    def from_json(cls, text: str) -> Snapshot:
        """What `to_json` wrote: workers are handed the list, so that all of them read the same files."""
        values: dict[str, Any] = json.loads(text)
        files = {
            split: tuple(DataFile(path, tuple(groups)) for path, groups in pairs)
            for split, pairs in values["files"].items()
        }
        graph = values.get("graph")
        if graph is not None:
            graph = Graph(**{**graph, "files": {kind: tuple(paths) for kind, paths in graph["files"].items()}})
        return cls(values["location"], values["version"], files, graph)


@dataclass(frozen=True)
class TrainCounts:
    """What a model must know of the train split before it is built.

    items: int64, how often each item index occurs, 0 for those that are no item; as long as the highest index + 1.
    n_event_types: the highest type index + 1. length: width of the arrays. tokens: events. rows: of sequences.
    attributes: int64 [items, attributes], numbers of the items' values (data/attributes.py); None where none are read.
    has_times: whether it is known of every event when it was.
    vectors: by name float32 [items, width], what was given of the items (data/vectors.py).
    """

    items: NDArray[np.int64]
    n_event_types: int
    length: int
    tokens: int
    rows: int
    attributes: NDArray[np.int64] | None = None
    has_times: bool = True
    vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def n_items(self) -> int:
        """Distinct items."""
        return int((self.items > 0).sum())

    @property
    def attribute_values(self) -> int:
        """The highest number of a value + 1; 0 where no attributes are read."""
        return 0 if self.attributes is None else max(int(self.attributes.max(initial=0)) + 1, FIRST_INDEX)

    @property
    def vector_widths(self) -> list[int]:
        """Of the given vectors, in the order of their names here."""
        return [table.shape[1] for table in self.vectors.values()]

    def attributes_digest(self) -> str:
        """Tells two sets of values, and of given vectors, apart."""
        known = [table.tobytes() for name, table in self.arrays().items() if name != "item_counts"]
        return hashlib.sha256(b"".join(known)).hexdigest()[:16] if known else ""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What a model is built with, by the names that `build_model` has for it."""
        arrays: dict[str, NDArray[Any]] = {"item_counts": self.items}
        if self.attributes is not None:
            arrays["attribute_index"] = self.attributes
        if self.vectors:
            arrays["given_vectors"] = np.concatenate(list(self.vectors.values()), 1)
        return arrays


def count_train(snapshot: Snapshot) -> TrainCounts:
    """Count the train split, one row group in memory at a time.

    Raises DataRefused where it has no item.
    """
    items = np.zeros(FIRST_INDEX, np.int64)
    n_event_types, length, tokens, has_times = 0, 0, 0, True
    columns = (SEQUENCES.item_index, SEQUENCES.event_type, SEQUENCES.length, SEQUENCES.first_event_time)
    for group in _groups(snapshot.files.get(TRAIN, ()), columns):
        item = group.column(SEQUENCES.item_index).combine_chunks().flatten().to_numpy()
        counts = np.bincount(item, minlength=len(items))
        counts[: len(items)] += items
        items = counts
        kinds = group.column(SEQUENCES.event_type).combine_chunks().flatten().to_numpy()
        n_event_types = max(n_event_types, int(kinds.max(initial=0)) + 1)
        length = max(length, len(item) // max(group.num_rows, 1))
        events = group.column(SEQUENCES.length).to_numpy()
        tokens += int(events.sum())
        has_times &= not (np.isnat(first_times(group)) & (events > 0)).any()
    items[:FIRST_INDEX] = 0
    if not items.any():
        where = f"split train of {snapshot.location}, version {snapshot.version}"
        raise DataRefused("there is no item to learn from", where=where, mend="run ingest and build_sequences")
    rows = snapshot.rows(TRAIN)
    return TrainCounts(items, max(n_event_types, FIRST_INDEX), length, tokens, rows, has_times=has_times)


def _groups(files: tuple[DataFile, ...], columns: tuple[str, ...]) -> Iterator[pa.Table]:
    for file in files:
        parquet = open_parquet(file.path)
        for number in range(parquet.num_row_groups):
            yield parquet.read_row_group(number, columns=list(columns))


def _row_groups(path: str, expected: int | None) -> tuple[int, ...]:
    try:
        footer = open_parquet(path).metadata
    except (OSError, pa.ArrowInvalid) as problem:
        mend = "was the table vacuumed? run build_sequences again"
        raise DataRefused("a file of the version cannot be read", where=path, value=str(problem), mend=mend) from None
    if footer.num_rows != expected:
        mend = f"the table's log says {expected}; run build_sequences again"
        raise DataRefused("a file has other rows than the log says", where=path, value=footer.num_rows, mend=mend)
    return tuple(footer.row_group(number).num_rows for number in range(footer.num_row_groups))


def _refuse_pickles(folder: str) -> None:
    path = f"{folder}/{_PICKLED}"
    if exists(path):
        raise DataRefused("petastorm would unpickle a file", where=path, mend="remove that file")

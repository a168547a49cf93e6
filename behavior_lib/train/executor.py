"""One rank in a Spark task, and how a rank without a folder in common with the driver tells why it failed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from behavior_lib.data.snapshot import Snapshot
from behavior_lib.errors import BehaviorError
from behavior_lib.models.build import as_tensors
from behavior_lib.train.communicator import HorovodCommunicator
from behavior_lib.train.messages import Silent
from behavior_lib.train.reason import as_text, from_text
from behavior_lib.train.settings import RunSettings
from behavior_lib.train.store import FolderStore
from behavior_lib.train.worker import train_rank

_REASON, _FILE = "reason-", "reason.json"


def run_in_task(settings: str, snapshot: str, counts: Mapping[str, NDArray[Any]]) -> str:
    """Train as the rank that Horovod says. settings, snapshot: as JSON. counts: the arrays of TrainCounts.

    Returns the result as JSON, on every rank. Why a rank failed is left in the run's store.
    """
    run, files = RunSettings.from_json(settings), Snapshot.from_json(snapshot)
    communicator = HorovodCommunicator()
    with telling_why(FolderStore(run.checkpoints_of(files)), communicator.rank):
        result = train_rank(run, files, as_tensors(counts), communicator, Silent(), lambda: False)
    communicator.close()
    return result.to_json()


@contextmanager
def telling_why(store: FolderStore, rank: int) -> Iterator[None]:
    """Where the rank refuses something inside, its sentence is left in the store."""
    try:
        yield
    except BehaviorError as error:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / _FILE).write_text(as_text(error), encoding="utf-8")
            store.put(f"{_REASON}{rank}", Path(folder))
        raise


def reason(store: FolderStore) -> BehaviorError | None:
    """Why a rank failed, as the first of them said it; None where none said anything. It is told once."""
    names = [name for name in store.names() if name.startswith(_REASON)]
    found: BehaviorError | None = None
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            store.get(name, Path(folder))
            found = found or from_text((Path(folder) / _FILE).read_text(encoding="utf-8"))
        store.remove(name)
    return found

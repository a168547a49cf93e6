"""Which encoder, with which objective: each is trained in this process for equal CPU time, and judged on validation.

CPU time is that of the steps: what is done before the first and for validation is left out.

All of it on tables that lie there already, with one seed, one thread and no session: what a candidate costs beside its
training are seconds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import torch
from deltalake import DeltaTable
from torch import Tensor

from behavior_lib.config import Config, load
from behavior_lib.config.train import StartName
from behavior_lib.data.attributes import number_values
from behavior_lib.data.item_graph import Graph
from behavior_lib.data.snapshot import Snapshot, TrainCounts, count_train
from behavior_lib.errors import ConfigError
from behavior_lib.models.base import SequenceModel
from behavior_lib.models.encoders import ENCODERS, looks_both_ways, reads_graph
from behavior_lib.models.objectives.chosen import OBJECTIVES
from behavior_lib.models.successors import SuccessorCounts
from behavior_lib.tables import ITEM_GRAPH, ITEMS, SEQUENCES
from behavior_lib.tables.sequences import TRAIN
from behavior_lib.train.communicator import SingleProcess
from behavior_lib.train.loop import fit
from behavior_lib.train.messages import Silent
from behavior_lib.train.plan import plan
from behavior_lib.train.settings import EpochResult, FitSettings, RunSettings
from behavior_lib.train.start import counted_vectors
from behavior_lib.train.store import FolderStore
from behavior_lib.train.successors import count_successors
from behavior_lib.train.trial import built, estimate
from benchmarks.jobs import say, scratch

ALONE = ("train.communicator=single", "train.threads=1")
WITHOUT_PATHS = "without_paths"
TRIED = 10  # batches that tell what a step takes; how far off they were is told: Candidate.cpu_seconds


@dataclass(frozen=True)
class Candidate:
    """One model of the contest, trained. name: see `candidates`. epochs: passes over train that fitted into the budget.
    kept: those after which it was best. cpu_seconds: what its steps took. validation: mean NDCG@k. Nobody is judged on
    test here: what validation chooses is, with several seeds.
    """

    name: str
    epochs: float
    kept: float
    cpu_seconds: float
    validation: float


class Clock(Silent):
    """What steps take of this process's processors, without what is done between epochs."""

    def __init__(self) -> None:
        self._began: float | None = None  # None: the next step is an epoch's first, whose beginning nobody tells
        self._seconds, self._timed, self._done = 0.0, 0, 0

    def step(self, done: int, total: int, loss: float, tokens: int) -> None:
        """A step ended."""
        now = time.process_time()
        if self._began is not None:
            self._seconds, self._timed = self._seconds + now - self._began, self._timed + 1
        self._began, self._done = now, done

    def epoch(self, result: EpochResult) -> None:
        """An epoch ended."""
        self._began = None

    @property
    def cpu_seconds(self) -> float:
        """Of all steps; the first of each epoch is taken for a step like the others."""
        return self._seconds * self._done / max(1, self._timed)


@cache
def candidates() -> tuple[str, ...]:
    """Names as `--models` has them: every encoder alone, with each objective that it can be asked for beside its own,
    and without the paths.
    """
    encoders = [name for name in ENCODERS if name != "transformer_repeat"]
    pairs = []
    for name in encoders:
        own = load("local", None, [f"model.name={name}"]).config.model.objectives
        is_causal = not looks_both_ways(name)
        asked = [each for each, what in OBJECTIVES.items() if is_causal or not what.needs_causal]
        pairs += [f"{name}+{objective}" for objective in asked if not own.get(objective)]
    return (*encoders, *pairs, *(f"{WITHOUT_PATHS}:{name}" for name in encoders))


def bake_off(warehouse: Path, settings: Mapping[str, Sequence[str]], budget: float) -> Iterator[Candidate]:
    """Train and judge one after another, as many steps of each as fit into so many CPU seconds.

    warehouse: where the tables lie. settings: KEY=VALUE of each candidate, by its name.
    """
    location = str(warehouse / SEQUENCES.name)
    snapshot = Snapshot.resolve(location, DeltaTable(location).version())
    counts, counted = count_train(snapshot), Counted()
    for name, changes in settings.items():
        with scratch(None) as folder:
            try:
                config = load("local", None, [*changes, *ALONE]).config
                known = with_attributes(counts, warehouse, config.model.item_attributes)
                candidate = Candidate(name, **trained(config, snapshot, known, counted, budget, folder))
            except ConfigError as refusal:  # not every objective can be asked of every data
                say(f"{name} is left out: {refusal}")
                continue
        say(f"{name}: {asdict(candidate)}")
        yield candidate


def with_attributes(counts: TrainCounts, warehouse: Path, names: Sequence[str]) -> TrainCounts:
    """The counts with the values of these attributes of ITEMS; as they are where there are no names."""
    if not names:
        return counts
    columns = ", ".join(f"{ITEMS.attributes}[?] as value_{place}" for place in range(len(names)))
    files = DeltaTable(str(warehouse / ITEMS.name)).file_uris()
    read = duckdb.execute(f"select {ITEMS.item_index} as item, {columns} from read_parquet(?)", [*names, files]).df()
    values = [read[f"value_{place}"].to_numpy(object) for place in range(len(names))]
    return replace(counts, attributes=number_values(read["item"].to_numpy(np.int64), values, counts.items))


class Counted:
    """Models that are not trained yet, of runs on one snapshot with one seed: what they start from is made once for all
    of them.
    """

    def __init__(self) -> None:
        self._counts: dict[tuple[int, int], SuccessorCounts] = {}
        self._vectors: dict[tuple[int, int], Tensor | None] = {}

    def built(self, run: RunSettings, snapshot: Snapshot, counts: TrainCounts) -> tuple[SequenceModel, FitSettings]:
        """The model as every rank of the run builds and starts it, and what is left for `fit` to do."""
        model = built(run, counts)
        if model.successors is not None:
            key = model.spec.successors, model.spec.length
            if key not in self._counts:
                self._counts[key] = count_successors(model, snapshot, run.fit)
            model.successors.prepare_for_counts()
            model.successors.take(self._counts[key])
        if run.fit.start != StartName.cooccurrence.value:
            return model, run.fit
        key = model.spec.dimension, model.spec.length
        if key not in self._vectors:
            self._vectors[key] = counted_vectors(model, snapshot, run.fit)
        if (vectors := self._vectors[key]) is not None:
            model.start_item_vectors(vectors)
        return model, replace(run.fit, start=StartName.random.value)


def trained(
    config: Config, snapshot: Snapshot, counts: TrainCounts, counted: Counted, budget: float, folder: Path
) -> dict[str, Any]:
    """One candidate's figures, by the names that Candidate has for them. folder: for its states, gone afterwards."""
    run = plan(config, counts, folder)
    if reads_graph(run.spec.name):
        location = str(Path(snapshot.location).parent / ITEM_GRAPH.name)
        snapshot = replace(snapshot, graph=Graph.resolve(location, DeltaTable(location).version(), TRAIN))
    torch.set_num_threads(run.fit.threads)
    once = replace(run, fit=replace(run.fit, epochs=1))
    an_epoch = estimate(once, snapshot, counts, TRIED, counted.built(run, snapshot, counts)[0])
    steps = max(1, round(budget * an_epoch.steps / an_epoch.cpu_seconds))
    epochs = math.ceil(steps / an_epoch.steps)
    run = replace(run, fit=replace(run.fit, epochs=epochs, patience=epochs, max_steps=steps))
    model, settings = counted.built(run, snapshot, counts)
    clock, store = Clock(), FolderStore(str(folder / "states"))
    result = fit(model, snapshot, settings, SingleProcess(), clock, store)
    return {
        "epochs": round(steps / an_epoch.steps, 2),
        "kept": round(sum(epoch.steps for epoch in result.epochs[: result.best_epoch + 1]) / an_epoch.steps, 2),
        "cpu_seconds": round(clock.cpu_seconds, 1),
        "validation": result.best.validation_ndcg,
    }

"""What a model starts from, beside random weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from behavior_lib.data.item_graph import Graph
from behavior_lib.data.loader import Loader
from behavior_lib.data.snapshot import Snapshot
from behavior_lib.errors import ConfigError, DataRefused
from behavior_lib.models.base import ModelSpec, SequenceModel
from behavior_lib.models.batch import Batch
from behavior_lib.models.cooccurrence import starting_vectors
from behavior_lib.models.encoders import reads_graph
from behavior_lib.models.instants import instant_numbers
from behavior_lib.tables import ITEM_GRAPH
from behavior_lib.tables.items import FIRST_INDEX
from behavior_lib.tables.sequences import TRAIN
from behavior_lib.train.communicator import Communicator
from behavior_lib.train.settings import FitSettings

ROWS_AT_ONCE = 512
MOST_EVENTS = 5_000_000  # that are counted; 1 GB, and a minute where they have no structure at all


def start_from_cooccurrence(
    model: SequenceModel,
    snapshot: Snapshot,
    settings: FitSettings,
    alive: Callable[[], None] = lambda: None,
    kept: Tensor | None = None,
) -> None:
    """Give the model item vectors that know what train has in one instant, and in one row. Reads it once.

    alive: called at every batch. kept: bool [n_items], items that have vectors of another model, which stay; those of
    the others are turned to where these would lie by the same turn.
    """
    vectors = counted_vectors(model, snapshot, settings, alive)
    if vectors is None:
        return
    if kept is not None:
        vectors = turned(vectors, model.item_vectors().detach(), kept).masked_fill(kept[:, None], 0.0)
    model.start_item_vectors(vectors)


def counted_vectors(
    model: SequenceModel, snapshot: Snapshot, settings: FitSettings, alive: Callable[[], None] = lambda: None
) -> Tensor | None:
    """float32 [n_items, d]: those that know what train has in one instant, and in one row; None where it has nothing.

    They follow from the rows, the seed, and the sizes of the model's spec alone.
    """
    items, instants = zip(*_events(model, snapshot, settings, alive), strict=True)
    item, instant, spec = torch.cat(items), torch.cat(instants), model.spec
    if not len(item):
        return None
    row = instant.div(_numbers_of_a_row(spec), rounding_mode="floor")
    return starting_vectors(item, instant, row, spec.n_items, spec.dimension, settings.seed)


def turned(vectors: Tensor, wanted: Tensor, known: Tensor) -> Tensor:
    """vectors [n, d] by the rotation or reflection that brings the known ones, bool [n], nearest to `wanted` [n, d].

    The orthogonal Procrustes problem (Schönemann 1966): U Vᵀ of the singular value decomposition of vectorsᵀ wanted.
    """
    left, _, right = torch.linalg.svd(vectors[known].double().T @ wanted[known].double())
    found: Tensor = (vectors.double() @ left @ right).float()
    return found


def check_graph(spec: ModelSpec, snapshot: Snapshot) -> Graph | None:
    """The graph that a model of the spec reads; None where it reads none.

    Raises DataRefused where there is none of these sequences, ConfigError where it has too few neighbours.
    """
    if not reads_graph(spec.name):
        return None
    if snapshot.graph is None:
        mend = "--set sequences.neighbours=50 and run build_sequences"
        raise DataRefused(f"{spec.name} needs the item graph of these sequences", where=ITEM_GRAPH.name, mend=mend)
    if snapshot.graph.kept < spec.neighbours:
        mend = f"--set model.neighbours={snapshot.graph.kept}, or more sequences.neighbours and build_sequences"
        raise ConfigError("model.neighbours is more than item_graph keeps", value=spec.neighbours, mend=mend)
    return snapshot.graph


def start_item_graph(model: SequenceModel, snapshot: Snapshot, communicator: Communicator) -> None:
    """Give the model's item graph, where it has one, the edges of the snapshot's, on all ranks alike.

    Rank 0 reads them. The model is on the CPU. Raises as `check_graph`.
    """
    graph = model.item_graph()
    if graph is None:
        return
    if communicator.rank == 0:
        spec, found = model.spec, check_graph(model.spec, snapshot)
        if found is not None:
            graph.take(*map(torch.from_numpy, found.edges(spec.graph, spec.neighbours, spec.n_items)))
    edges = int(communicator.share("graph", str(len(graph.edge_weight))))
    if communicator.rank:
        graph.make_room(edges)
    communicator.broadcast([graph.edge_index, graph.edge_weight])


def batches_of_train(
    model: SequenceModel, snapshot: Snapshot, settings: FitSettings, alive: Callable[[], None], rows_at_once: int
) -> Iterator[Batch]:
    """The rows of train in order, as the model reads them. alive: called at every batch."""
    for rows in Loader(snapshot, TRAIN, rows_at_once, settings.reader, settings.seed).in_order():
        alive()
        yield model.prepare(Batch.from_histories(rows.histories))


def _events(
    model: SequenceModel, snapshot: Snapshot, settings: FitSettings, alive: Callable[[], None]
) -> Iterator[tuple[Tensor, Tensor]]:
    """The events of known items of train, whole rows at a time, until there are MOST_EVENTS.

    int64 [m], the item, and int64 [m], a number that the events of one instant share; the next instant of the row has
    the next number, and no instant of another row has a neighbouring one.
    """
    rows_before = events = 0
    for batch in batches_of_train(model, snapshot, settings, alive, ROWS_AT_ONCE):
        row, column = (batch.item_index >= FIRST_INDEX).nonzero(as_tuple=True)
        # Batches differ in width; two rows must not meet.
        first = (rows_before + row) * _numbers_of_a_row(model.spec)
        yield batch.item_index[row, column], first + instant_numbers(batch)[row, column]
        rows_before, events = rows_before + len(batch), events + len(row)
        if events >= MOST_EVENTS:
            break


def _numbers_of_a_row(spec: ModelSpec) -> int:
    """How many numbers of instants a row owns: one more than it can have, so that no two rows' are neighbours."""
    return spec.length + 1

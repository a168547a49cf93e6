"""A registered model over the tables: user vectors from histories, item vectors from the catalogue."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pyspark import Broadcast
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from behavior_lib.data.rows import HISTORY, Rows
from behavior_lib.inference.encoder import Encoder
from behavior_lib.inference.renumber import Renumbering
from behavior_lib.spark.evaluation import read_vocabulary
from behavior_lib.spark.sequences import Shape, Vocabulary, histories
from behavior_lib.tables import EVENTS, ITEM_EMBEDDINGS, ITEMS, USER_EMBEDDINGS

_KEPT = (USER_EMBEDDINGS.user_id, USER_EMBEDDINGS.n_events, USER_EMBEDDINGS.last_event_time)

_Batches = Iterable[pa.RecordBatch]


@dataclass(frozen=True)
class Shipment:
    """What travels to each worker: the model's files, and how the tables' numbers become the model's."""

    files: Mapping[str, bytes]
    numbers: Renumbering


@dataclass(frozen=True)
class Serving:
    """A model ready to read the tables. vocabulary: the frames that number them. length: the newest events of a user
    that the model looks at. dimension: numbers in a vector.
    """

    shipment: Broadcast[Shipment]
    vocabulary: Vocabulary
    length: int
    dimension: int

    @classmethod
    def of(cls, files: Mapping[str, bytes], items: DataFrame, event_types: DataFrame) -> Serving:
        """files: a model's bundle, as `read_bundle` gives it. items, event_types: ITEMS and EVENT_TYPES rows."""
        encoder = Encoder.from_bytes(files)
        names = read_vocabulary(items, event_types).with_buckets_of(encoder.vocabulary)
        numbers = Renumbering.between(names, encoder.vocabulary)
        shipment = items.sparkSession.sparkContext.broadcast(Shipment(files, numbers))
        frames = Vocabulary(items, event_types, next(iter(names.buckets), None))
        return cls(shipment, frames, encoder.length, encoder.dimension)


def user_embeddings(events: DataFrame, serving: Serving, as_of: datetime | None = None) -> DataFrame:
    """user_id, n_events, last_event_time and embedding of every user, from the newest events that the model looks at.

    events: EVENTS rows. as_of: nothing is known of events at or after it; None: all are.
    """
    if as_of is not None:
        events = events.where(F.col(EVENTS.event_time) < F.lit(as_of))
    newest = histories(events, serving.vocabulary, as_of, Shape(serving.length, max_events=serving.length))
    totals = events.groupBy(EVENTS.user_id).agg(
        F.count("*").alias(USER_EMBEDDINGS.n_events), F.max(EVENTS.event_time).alias(USER_EMBEDDINGS.last_event_time)
    )
    rows = newest.join(totals, EVENTS.user_id).select(*_KEPT, *HISTORY)
    schema = (
        f"{USER_EMBEDDINGS.user_id} string, {USER_EMBEDDINGS.n_events} bigint, "
        f"{USER_EMBEDDINGS.last_event_time} timestamp, {USER_EMBEDDINGS.embedding} array<float>"
    )
    return rows.mapInArrow(_encode(serving.shipment), schema)


def item_embeddings(items: DataFrame, shipment: Broadcast[Shipment]) -> DataFrame:
    """item_id, item_index and embedding of every item that the model knows. items: ITEMS rows."""
    schema = (
        f"{ITEM_EMBEDDINGS.item_id} string, {ITEM_EMBEDDINGS.item_index} int, {ITEM_EMBEDDINGS.embedding} array<float>"
    )
    return items.select(ITEMS.item_id, ITEMS.item_index).mapInArrow(_look_up(shipment), schema)


def _encode(shipment: Broadcast[Shipment]) -> Callable[[_Batches], _Batches]:
    def encode(batches: _Batches) -> _Batches:
        encoder = _encoder(shipment)
        for batch in batches:
            read = Rows.of(pa.Table.from_batches([batch]), "a batch of histories").histories
            numbered = shipment.value.numbers.histories(read)
            yield _with_vectors(batch.select(list(_KEPT)), USER_EMBEDDINGS.embedding, encoder.encode(numbered))

    return encode


def _look_up(shipment: Broadcast[Shipment]) -> Callable[[_Batches], _Batches]:
    def look_up(batches: _Batches) -> _Batches:
        encoder = _encoder(shipment)
        vectors = encoder.item_vectors()
        for batch in batches:
            index = shipment.value.numbers.items[batch.column(ITEMS.item_index).to_numpy()]
            place = np.searchsorted(encoder.known_items, index).clip(max=len(encoder.known_items) - 1)
            known = np.flatnonzero(encoder.known_items[place] == index)
            yield _with_vectors(batch.take(pa.array(known)), ITEM_EMBEDDINGS.embedding, vectors[place[known]])

    return look_up


def _encoder(shipment: Broadcast[Shipment]) -> Encoder:
    """The model, built once a Python worker. Spark runs a worker a core, so each takes one thread."""
    torch.set_num_threads(1)
    return _load(shipment)


@lru_cache(maxsize=1)
def _load(shipment: Broadcast[Shipment]) -> Encoder:
    return Encoder.from_bytes(shipment.value.files)


def _with_vectors(batch: pa.RecordBatch, name: str, vectors: NDArray[np.float32]) -> pa.RecordBatch:
    ends = np.arange(len(vectors) + 1, dtype=np.int32) * vectors.shape[1]
    lists = pa.ListArray.from_arrays(pa.array(ends), pa.array(vectors.ravel()))
    return pa.RecordBatch.from_arrays([*batch.columns, lists], names=[*batch.schema.names, name])

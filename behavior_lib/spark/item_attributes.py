"""What is read of items beside their ids: by training, and to judge by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from behavior_lib.config.keys import nearest
from behavior_lib.config.model import ModelConfig
from behavior_lib.data.attributes import number_values
from behavior_lib.data.snapshot import TrainCounts
from behavior_lib.data.vectors import vector_table
from behavior_lib.errors import ConfigError
from behavior_lib.evaluation.calibration import Grouping
from behavior_lib.spark.collected import collect
from behavior_lib.tables import ITEMS

_VECTOR = "_vector"


def with_known(counts: TrainCounts, items: DataFrame, model: ModelConfig) -> TrainCounts:
    """The counts with all that the configuration reads of ITEMS rows, see `with_attributes` and `with_vectors`."""
    return with_vectors(with_attributes(counts, items, model.item_attributes), items, model.item_vectors)


def with_attributes(counts: TrainCounts, items: DataFrame, names: Sequence[str]) -> TrainCounts:
    """The counts with the values of these attributes of ITEMS rows; as they are where there are no names.

    One row an item comes to the driver. Raises ConfigError for an attribute that no item has.
    """
    if not names:
        return counts
    index, values = _values(items, names, "model.item_attributes")
    return replace(counts, attributes=number_values(index, values, counts.items))


def with_vectors(counts: TrainCounts, items: DataFrame, names: Sequence[str]) -> TrainCounts:
    """The counts with these vectors of ITEMS rows (data/vectors.py); as they are where there are no names.

    One row an item comes to the driver, for one name after another. Raises ConfigError for a vector that no item has,
    DataRefused for those that cannot be read.
    """
    found = {}
    for name in names:
        rows = collect(items.select(ITEMS.item_id, ITEMS.item_index, F.col(ITEMS.vectors)[name].alias(_VECTOR)))
        vectors = rows[_VECTOR].to_numpy(object)
        if all(vector is None for vector in vectors):
            _check_known(items, [name], "model.item_vectors", "vector", ITEMS.vectors)
        ids, index = rows[ITEMS.item_id].tolist(), rows[ITEMS.item_index].to_numpy(np.int64)
        found[name] = vector_table(name, ids, index, vectors, counts.items)
    return replace(counts, vectors=found) if found else counts


def groupings(items: DataFrame, names: Sequence[str], n_items: int) -> dict[str, Grouping]:
    """Items by their value of each of these attributes of ITEMS rows; those without one are a group of their own.

    n_items: one more than the highest item index. Raises ConfigError for an attribute that no item has.
    """
    if not names:
        return {}
    found = {}
    index, values = _values(items, names, "evaluate.calibration_attributes")
    for name, texts in zip(names, values, strict=True):
        number = np.zeros(n_items, np.int64)
        number[index] = pd.factorize(texts, sort=True)[0] + 1
        found[name] = Grouping(number)
    return found


def _values(items: DataFrame, names: Sequence[str], where: str) -> tuple[NDArray[np.int64], list[NDArray[np.object_]]]:
    """int64 [m], the numbers of the items, and of each attribute m texts or None. where: the key that names them."""
    columns = [F.col(ITEMS.attributes)[name].alias(f"_{place}") for place, name in enumerate(names)]
    rows = collect(items.select(ITEMS.item_index, *columns))
    values = [rows[f"_{place}"].to_numpy(object) for place in range(len(names))]
    empty = [name for name, texts in zip(names, values, strict=True) if all(text is None for text in texts)]
    if empty:
        _check_known(items, empty, where, "attribute", ITEMS.attributes)
    return rows[ITEMS.item_index].to_numpy(np.int64), values


def _check_known(items: DataFrame, names: Sequence[str], where: str, what: str, column: str) -> None:
    known = {row[0] for row in items.select(F.explode(F.map_keys(column))).distinct().collect()}
    for name in names:
        if name not in known:
            near = nearest(name, known)
            mend = f"did you mean {near}?" if near else f"there are: {', '.join(sorted(known)) or 'none'}"
            raise ConfigError(f"no item has this {what}", where=where, value=name, mend=mend)

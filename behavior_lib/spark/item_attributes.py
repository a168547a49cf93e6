"""What training reads of items beside their ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from behavior_lib.config.keys import nearest
from behavior_lib.data.attributes import number_values
from behavior_lib.data.snapshot import TrainCounts
from behavior_lib.errors import ConfigError
from behavior_lib.spark.collected import collect
from behavior_lib.tables import ITEMS


def with_attributes(counts: TrainCounts, items: DataFrame, names: Sequence[str]) -> TrainCounts:
    """The counts with the values of these attributes of ITEMS rows; as they are where there are no names.

    One row an item comes to the driver. Raises ConfigError for an attribute that no item has.
    """
    if not names:
        return counts
    columns = [F.col(ITEMS.attributes)[name].alias(f"_{place}") for place, name in enumerate(names)]
    rows = collect(items.select(ITEMS.item_index, *columns))
    values = [rows[f"_{place}"].to_numpy(object) for place in range(len(names))]
    empty = [name for name, texts in zip(names, values, strict=True) if all(text is None for text in texts)]
    if empty:
        _check_known(items, empty)
    index = rows[ITEMS.item_index].to_numpy(np.int64)
    return replace(counts, attributes=number_values(index, values, counts.items))


def _check_known(items: DataFrame, names: Sequence[str]) -> None:
    known = {row[0] for row in items.select(F.explode(F.map_keys(ITEMS.attributes))).distinct().collect()}
    for name in names:
        if name not in known:
            near = nearest(name, known)
            mend = f"did you mean {near}?" if near else f"there are: {', '.join(sorted(known)) or 'none'}"
            raise ConfigError("no item has this attribute", where="model.item_attributes", value=name, mend=mend)

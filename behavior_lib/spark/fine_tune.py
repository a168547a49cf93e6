"""What fine-tuning needs from the tables: users as they stood at a cut, and their labels."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from behavior_lib.data.histories import Histories
from behavior_lib.errors import DataRefused
from behavior_lib.evaluation.probes import Label
from behavior_lib.spark.collected import collect
from behavior_lib.spark.embed import Serving
from behavior_lib.spark.evaluation import as_histories
from behavior_lib.spark.labels import KnownLabels, as_labels, choose_users
from behavior_lib.spark.sequences import Shape, histories
from behavior_lib.tables import EVENTS


@dataclass(frozen=True)
class Labelled:
    """Users of whom a label is known, by ascending id: their histories with the model's numbers, and all labels."""

    user_ids: NDArray[np.object_]
    histories: Histories
    labels: tuple[Label, ...]


def gather_labelled(
    events: DataFrame, cut: datetime, known: KnownLabels, serving: Serving, most: int, seed: int
) -> Labelled:
    """The users with an event before the cut and a label; at most so many, drawn as choose_users does.

    events: EVENTS rows; none at or after the cut is looked at. Each event that the model reads is 16 bytes on the
    driver. Raises DataRefused where there is no such user.
    """
    before = events.where(F.col(EVENTS.event_time) < F.lit(cut))
    has_label = F.coalesce(*known.columns).isNotNull()
    users = choose_users(before, known, most, seed).where(has_label).persist()
    try:
        own = before.join(users.select(EVENTS.user_id), EVENTS.user_id, "left_semi")
        shape = Shape(serving.length, max_events=serving.length)
        rows = collect(histories(own, serving.vocabulary, cut, shape).join(users, EVENTS.user_id))
    finally:
        users.unpersist()
    if not len(rows):
        mend = "see users.path and users.user_id of the source, or move the cut: split.test"
        raise DataRefused("nobody with an event before the cut has a label", where="users of the source", mend=mend)
    rows = rows.sort_values(EVENTS.user_id, ignore_index=True)
    numbered = serving.shipment.value.numbers.histories(as_histories(rows))
    return Labelled(rows[EVENTS.user_id].to_numpy(object), numbered, as_labels(rows, known.is_binary, known.class_of))

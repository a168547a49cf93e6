"""A transformer that looks both ways over one window of events (BERT4Rec, Sun et al. 2019).

It learns to tell hidden events from what stands around them. To be asked for the next instant it gets one hidden event
more behind the newest: the state of that event is what it learned to fill, and is the user's vector.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from behavior_lib.errors import ConfigError
from behavior_lib.models.base import ModelSpec
from behavior_lib.models.batch import Batch
from behavior_lib.models.transformer import Transformer
from behavior_lib.tables.items import MASK_INDEX


class BidirectionalTransformer(Transformer):
    """An event looks at all events of its window. Where the next instant is asked for, the hidden one is the last.

    A hidden event (MASK_INDEX for its item) shows nothing but which instant it belongs to: no type, gap, value or
    hour, and its time is that of the event before it. So what is asked in training is what is asked of a history's end,
    where nothing is known of the next event.
    """

    both_ways = True

    def __init__(self, spec: ModelSpec) -> None:
        """Raises ConfigError for a window without room for an event beside the hidden one."""
        super().__init__(spec)
        if spec.window < 2:
            mend = "--set model.window=2, or more"
            raise ConfigError("an encoder that looks both ways needs a window of 2", value=spec.window, mend=mend)

    def forward(self, batch: Batch, item_vectors: Tensor) -> Tensor:
        """As WindowEncoder."""
        hidden = is_hidden(batch)
        shown = replace(
            batch,
            event_type=batch.event_type.masked_fill(hidden, MASK_INDEX),
            gap_seconds=batch.gap_seconds.masked_fill(hidden, 0),
            value=batch.value.masked_fill(hidden, 0),
            hour_of_week=batch.hour_of_week.masked_fill(hidden, 0),
        )
        return self.states(self.dropout(self.input(shown, item_vectors)), batch)

    def asked(self, batch: Batch) -> Batch:
        """The newest events of each row, and the hidden one in a column of the window: no place is there for it alone,
        which training would not know.
        """
        return batch.newest(self.columns - 1).with_hidden_next()

    def addend(self, batch: Batch) -> Tensor:
        """-inf for padding, but that every column sees itself: a softmax over nothing is no number."""
        itself = torch.eye(batch.columns, dtype=torch.bool, device=batch.length.device)
        seen = (batch.present[:, None, :] | itself)[:, None]
        none = torch.zeros(seen.shape, device=seen.device).masked_fill(~seen, float("-inf"))
        return none if self.time is None else none + self.time(shown_seconds(batch))


def is_hidden(batch: Batch) -> Tensor:
    """bool [n, L]."""
    return batch.item_index == MASK_INDEX


def shown_seconds(batch: Batch) -> Tensor:
    """int64 [n, L]: when each event was, counted from the row's first; of a hidden one when the one before it was."""
    return batch.gap_seconds.cumsum(1).masked_fill(is_hidden(batch), 0).cummax(1).values

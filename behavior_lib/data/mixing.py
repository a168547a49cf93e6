"""The rows of a pool as batches of rows of like length, copied many batches at once."""

from __future__ import annotations

import numpy as np

from behavior_lib.data.histories import Histories

SLAB = 8  # batches that are copied together; the call costs more than the copy of one


def mixed(histories: Histories, batch_size: int, random: np.random.Generator) -> list[Histories]:
    """All rows as batches in random order, each as wide as its longest row; what is left over is one of them.

    Rows of one length come in random order, and only neighbours by length share a batch, so little of it is padding.
    The arrays of a batch are views of those of its slab, cut to its own longest row.
    """
    drawn = random.permutation(len(histories))
    rows, batches = drawn[np.argsort(histories.length[drawn], kind="stable")], []
    for start in range(0, len(rows), SLAB * batch_size):
        slab = histories.without_padding(rows[start : start + SLAB * batch_size])
        for first in range(0, len(slab), batch_size):
            own = slice(first, first + batch_size)  # its last row is the longest; to search for it costs a quarter more
            batches.append(slab.rows(own, slice(max(int(slab.length[own][-1]), 1))))
    return [batches[place] for place in random.permutation(len(batches))]

"""Batches of rows of like length: which rows, in which order, how wide, and that nothing else is in them."""

from dataclasses import replace

import numpy as np
import pytest

from behavior_lib.data.mixing import SLAB, mixed
from behavior_lib.models.batch import Batch
from tests.sequences_example import histories


def numbered(lengths):
    """Row r begins r seconds after 1970, and its event c is item 100 r + c, after so many seconds and 100 more."""
    items = [[100 * row + column for column in range(length)] for row, length in enumerate(lengths)]
    rows = histories(items, 9, gaps=[[item + 100 for item in each] for each in items])
    return replace(rows, first_event_time=np.arange(len(lengths)).astype("datetime64[s]"))


@pytest.mark.parametrize(
    ("n", "batch_size"), [(0, 2), (1, 1), (2, 3), (2 * SLAB, 2), (3 * SLAB - 1, 2), (50 * SLAB + 1, 3)]
)
def test_batches_are_neighbours_by_length_in_random_order(n, batch_size):
    lengths = [(7 * row) % 10 for row in range(n)]
    given, random = numbered(lengths), np.random.default_rng(5)
    drawn = random.permutation(n).tolist()
    ascending = sorted(drawn, key=lambda row: (lengths[row], drawn.index(row)))
    batches = [ascending[start : start + batch_size] for start in range(0, n, batch_size)]
    expected = [batches[place] for place in random.permutation(len(batches))]
    made = mixed(given, batch_size, np.random.default_rng(5))
    assert [batch.first_event_time.astype(int).tolist() for batch in made] == expected
    for rows, batch in zip(expected, made, strict=True):
        width = max(1, *(lengths[row] for row in rows))
        assert batch.length.tolist() == [lengths[row] for row in rows]
        for name in ("item_index", "event_type", "gap_seconds", "value"):
            assert getattr(batch, name).tolist() == getattr(given, name)[rows, :width].tolist()


def test_a_model_takes_a_narrow_batch_out_of_its_slab():
    made = mixed(numbered([3, 3, 9, 9]), 2, np.random.default_rng(0))
    assert sorted(batch.value.flags.c_contiguous for batch in made) == [False, True]
    for batch in made:
        taken = Batch.from_histories(batch)
        assert taken.value.is_contiguous()
        assert taken.value.tolist() == batch.value.tolist()

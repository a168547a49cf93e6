"""Histories with a structure that one objective can learn, the same without it, and small models that learn there."""

from dataclasses import replace

import numpy as np
import torch

from behavior_lib.data.histories import Histories
from behavior_lib.models.base import DONE, ModelSpec
from behavior_lib.models.batch import Batch
from behavior_lib.models.build import build_model
from behavior_lib.tables.items import FIRST_INDEX
from tests.sequences_example import KIND, MONDAY

N_TYPES = 6
DAY = 86_400
RUN = 5  # events of one item
STYLES = 12  # ways to act
SESSIONS, PAIRS = 4, 6  # sessions of a user, and pairs of items that one of them can hold
PRIME = 11  # items of a history of steps


def batch_of(items, kinds=None, gaps=None, values=None, starts=None):
    """Rows that are as long as the arrays are wide: items from 0 on; a day between events where no gaps are given."""
    items = np.asarray(items)
    n, length = items.shape
    gaps = np.full(items.shape, DAY) if gaps is None else np.asarray(gaps)
    gaps = np.where(np.arange(length) == 0, 0, gaps)
    kinds = np.full(items.shape, KIND) if kinds is None else kinds
    values = np.ones(items.shape) if values is None else values
    starts = np.full(n, MONDAY) if starts is None else starts
    rows = (items + FIRST_INDEX, kinds, gaps, values.astype(np.float32), np.full(n, length), starts)
    return Batch.from_histories(Histories(*rows))


def between(random, n, is_planted):
    """Items 0 to 2 at even places, and between them the one of nine others that both neighbours decide together."""
    items = random.integers(0, 3, (n, 7))
    both = 3 * items[:, :-2:2] + items[:, 2::2]
    items[:, 1::2] = 3 + (both if is_planted else random.integers(0, 9, both.shape))
    return batch_of(items)


def runs(random, n, is_planted):
    """The first, the second and the third event of such a history, RUN times each."""
    items = between(random, n, is_planted).item_index[:, :3].numpy() - FIRST_INDEX
    return batch_of(items.repeat(RUN, axis=1))


def styles(random, n, is_planted):
    """Every user has another way to act, of three types, two paces and two values; items are any. n is STYLES."""
    way = np.arange(n)[:, None].repeat(8, axis=1) if is_planted else random.integers(0, STYLES, (n, 8))
    gaps, values = np.where(way // 3 % 2, 30 * DAY, 60), np.where(way // 6, 15.0, -15.0)
    return batch_of(random.integers(0, 40, way.shape), 3 + way % 3, gaps, values)


def ring(random, n, is_planted):
    """The item after an item is the next one in a ring of twelve."""
    items = random.integers(0, 12, (n, 1)) + np.arange(10)
    return batch_of(items % 12 if is_planted else random.integers(0, 12, items.shape))


def twins(random, n, is_planted):
    """Any of four items, each twice in one instant. Who fills in one of two knows it from the other, and who fills in
    both, one by one, is found out: so there are faults to see, however good he is.
    """
    items = random.integers(0, 4, (n, 5)).repeat(2, axis=1)
    items = items if is_planted else random.integers(0, 4, items.shape)
    return batch_of(items, gaps=np.tile([DAY, 0], (n, 5)))


def visits(random, n, is_planted):
    """A session is item 0 and then a pair in any order; the next session's is the next one in a ring of pairs."""
    pair = random.integers(0, PAIRS, (n, 1)) + np.arange(SESSIONS)
    pair = pair % PAIRS if is_planted else random.integers(0, PAIRS, pair.shape)
    items = random.permuted(1 + 2 * pair[..., None] + np.arange(2), axis=2)
    items = np.concatenate([np.zeros_like(items[..., :1]), items], axis=2).reshape(n, -1)
    return batch_of(items, gaps=np.tile([7200, 60, 60], (n, SESSIONS)))


def followed(random, n, is_planted):
    """By an item's number the next event has one of three types, comes after a day or eight, and is worth 1 or 15."""
    items = random.integers(0, 12, (n, 8))
    cause = np.roll(items, 1, axis=1) if is_planted else random.integers(0, 12, items.shape)
    gaps, values = np.where(cause % 2, 8 * DAY, DAY), np.where(cause // 2 % 2, 15.0, 1.0)
    return batch_of(items, 3 + cause % 3, gaps, values)


def halves(random, n, is_planted):
    """The first half of a history has other items than the second; its times are anything, with baskets among them."""
    items = random.integers(0, 6, (n, 8)) + 6 * (np.arange(8) >= 4)
    items = items if is_planted else random.integers(0, 12, items.shape)
    gaps = random.choice([0, 1, 60, 3600, DAY, 30 * DAY], items.shape) * random.integers(1, 4, items.shape)
    return batch_of(
        items, gaps=gaps, values=random.normal(0, 5, items.shape), starts=MONDAY + random.integers(0, DAY, n)
    )


def steps(random, n, is_planted):
    """Items that go on by one and the same step, from 1 to PRIME - 1, round a ring of PRIME."""
    items = random.integers(0, PRIME, (n, 1)) + random.integers(1, PRIME, (n, 1)) * np.arange(8)
    return batch_of(items % PRIME if is_planted else random.integers(0, PRIME, items.shape))


def model_of(encoder, n_items, objectives, seed=0, **changes):
    """Learns these objectives alone: nothing is counted beside its encoder. n_items: numbered from 0."""
    torch.manual_seed(seed)
    n_items += FIRST_INDEX
    counts = (torch.arange(n_items) >= FIRST_INDEX).long()
    spec = ModelSpec(encoder, 16, n_items, N_TYPES, window=16, dimension=16, layers=1, dropout=0.0, repeat_path=False)
    weights = {"next_item": 0.0, **objectives}
    return build_model(replace(spec, loss="softmax", objectives=weights, **changes), counts)


def taught(model, world, n, n_steps, is_planted=True, seed=0, rate=0.01):
    """The model after so many steps, each on n histories and draws that it never saw before; ready to be judged."""
    random, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for step in range(n_steps):
        batch = model.prepare(world(random, n, is_planted))
        drawn = {**model.draw(batch, generator), DONE: torch.tensor(step / n_steps)}
        optimizer.zero_grad()
        model.loss(batch, drawn).backward()
        optimizer.step()
    return model.eval()

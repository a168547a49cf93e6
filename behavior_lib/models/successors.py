"""The successor path: a learned score for items that others had next after what the user had last.

On a catalogue where most items occur a few times, counting which item follows which ranks better than any dot product
of vectors that so few events can teach (on 22,363 users of Amazon Beauty: NDCG@10 .057 by counting, .008 by the vectors
alone). So the counts are given as features, beside the score from vectors, and a small network weighs them. Markov
chains beside factors are FPMC's idea (Rendle et al. 2010), counts as features of a learned score that of GRU4Rec's and
STAMP's ensembles with item-kNN (Jannach and Ludewig 2017).

The counts come from the rows that also teach the network, so a row must not find its own future in them: rows are dealt
into FOLDS folds by their content, and while a row teaches, the counts of its fold are taken out (cross-fitting).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from behavior_lib.models.batch import Batch
from behavior_lib.models.instants import instant_numbers
from behavior_lib.models.slots import CONTEXT, Grouping, Slots, inputs, slot_network

FOLDS = 4
SOURCES = 20  # newest events whose successors are scored
DECAYS = (0.5, 0.97)  # of a source's weight, by instants before the newest
N_FEATURES = len(DECAYS) + 4
LEAST_COUNT, SMALLEST = 1e-3, 1e-4  # a pair that is left with less has none; added before a logarithm


@dataclass(frozen=True)
class SuccessorCounts:
    """Of each item the items that follow it most.

    item: int64 [n_items, kept], 0 behind the last. count: float32 [n_items, kept], how often, by all folds together.
    by_fold: float32 [FOLDS, n_items, kept], the part of each fold; they add up to count.
    """

    item: Tensor
    count: Tensor
    by_fold: Tensor


def fold_of(batch: Batch) -> Tensor:
    """int64 [n]: the fold of each row, by what its items are, where they stand, and the time between them."""
    place = torch.arange(1, batch.columns + 1, device=batch.length.device)
    return ((batch.item_index * place + batch.gap_seconds) * batch.present).sum(1) % FOLDS


class SuccessorPath(nn.Module):
    """What an item that followed the user's newest ones elsewhere gets on top of its score from vectors.

    The user's own items get nothing here: how often they return is the repeat path's. The counts are part of the model,
    but for those by fold, which serve training alone. 8 bytes a successor in the model, and 4 * FOLDS more in training.
    """

    successor: Tensor
    count: Tensor
    by_fold: Tensor

    def __init__(self, n_items: int, kept: int, width: int = 32) -> None:
        super().__init__()
        self.register_buffer("successor", torch.zeros(n_items, kept, dtype=torch.int32))
        self.register_buffer("count", torch.zeros(n_items, kept))
        self.register_buffer("by_fold", torch.zeros(0, n_items, kept), persistent=False)
        self.network = slot_network(N_FEATURES + CONTEXT, width)
        # A path that knows nothing yet leaves the score as it is.
        for parameter in self.network[-1].parameters():
            nn.init.zeros_(parameter)

    def prepare_for_counts(self) -> list[Tensor]:
        """Make room for the counts of train. Returns the buffers that `take` fills, for other ranks to be sent them."""
        self.by_fold = self.count.new_zeros(FOLDS, *self.count.shape)
        return [self.successor, self.count, self.by_fold]

    @property
    def is_counted(self) -> bool:
        """Whether it has the counts that training needs."""
        return len(self.by_fold) > 0

    def take(self, counts: SuccessorCounts) -> None:
        """Fill the buffers, for which `prepare_for_counts` has made room."""
        for buffer, values in zip((self.successor, self.count, self.by_fold), vars(counts).values(), strict=True):
            buffer.copy_(values)

    def slots(self, batch: Batch, item_counts: Tensor, fold: Tensor | None = None) -> Slots:
        """The successors of the newest SOURCES events of each row, without the user's own items.

        item_counts: int64 [n_items], counts in train. fold: int64 [n], whose counts to leave
        out, where they are known; None: none. A slot's features, over the events that it is a successor of: the
        logarithms of the sums of count / sqrt(count of the event's item), by age (1, 1/2, 1/3, …) and by each decay,
        and of the sum of count / count of the event's item; log(1 + number of these events); log(1 + the history's
        length).
        """
        newest = batch.newest(SOURCES)
        number = instant_numbers(newest)
        last = number.gather(1, (newest.length - 1).clamp(min=0)[:, None])
        ago = (last - number).clamp(min=0).float()[..., None]
        source = newest.item_index.masked_fill(~newest.present, 0)
        count = self.count[source]
        if fold is not None and self.is_counted:
            count = count - self.by_fold[fold[:, None], source]
            count = count.masked_fill(count < LEAST_COUNT, 0)
        n_source = item_counts[source].clamp(min=1).float()[..., None]
        scaled = count / n_source.sqrt()
        aged = [scaled / (1 + ago), *(scaled * decay**ago for decay in DECAYS)]
        values = torch.stack([*aged, count / n_source, (count > 0).float()], 3)
        return _summed(self.successor[source].long() * (count > 0), values, batch)

    def forward(self, slots: Slots, log_share: Tensor, logit: Tensor) -> Tensor:
        """float32 [n, S]: the addend of each slot, 0 in the empty ones. The arguments are those of `inputs`."""
        addend: Tensor = self.network(inputs(slots, log_share, logit))
        return addend.squeeze(2).masked_fill(~slots.present, 0.0)


def _summed(item: Tensor, values: Tensor, batch: Batch) -> Slots:
    """Add up the values [n, M, kept, v] of each item [n, M, kept] that is not the user's own."""
    grouping = Grouping.of(item.flatten(1))
    width = int(grouping.slot.max()) + 1 if grouping.slot.numel() else 1
    values = values.flatten(1, 2)
    place = grouping.slot[..., None].expand_as(values)
    total = values.new_zeros(len(values), width, values.shape[2])
    total = total.scatter_add(1, place, values.gather(1, grouping.order[..., None].expand_as(values)))
    several = torch.log1p(batch.length.float())[:, None, None].expand(-1, width, 1)
    features = torch.cat([torch.log(total[..., :-1] + SMALLEST), torch.log1p(total[..., -1:]), several], 2)
    own = batch.item_index.masked_fill(~batch.present, 0)
    return Slots(_without(grouping.item[:, :width], own), features)


def _without(item: Tensor, own: Tensor) -> Tensor:
    """item [n, S] with 0 for what is in own [n, L]."""
    in_order = own.sort(dim=1).values
    place = torch.searchsorted(in_order, item.contiguous()).clamp(max=own.shape[1] - 1)
    return item.masked_fill(in_order.gather(1, place) == item, 0)

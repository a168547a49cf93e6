"""Which items stand for all the others: drawn once a batch, the same for all of its states, so that one product of
matrices scores them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

# Sampling → draws by popularity, from the batch's targets, and evenly, as counts out of n draws.
PARTS: dict[str, Callable[[int], tuple[int, int, int]]] = {
    "popularity": lambda n: (n, 0, 0),
    "uniform": lambda n: (0, 0, n),
    "in_batch": lambda n: (0, n, 0),
    "mixed": lambda n: (0, n // 2, n - n // 2),
}


class NegativeSampler(nn.Module):
    """Draws known items with replacement.

    popularity: by the items' shares of all events of train. uniform: every known item alike. in_batch: one of the
    batch's targets, each as often as it is there; it comes by its popularity too, as batches do, but the items of a
    batch come together. mixed: half of the draws in batch, half uniform (Yang et al. 2020, "Mixed negative sampling for
    learning two-tower neural networks in recommendations"), so that rare items are not left alone.

    log_share: float32 [n_items], logarithm of each item's expected share of the draws, over batches too; -inf for
    items that are not known. What an estimate over the draws has to be corrected by ("logQ").
    """

    log_share: Tensor
    cumulative: Tensor
    known: Tensor

    def __init__(self, item_counts: Tensor, sampling: str, n: int) -> None:
        """item_counts: int64 [n_items], counts in train, 0 for items that are not known. sampling: a key of PARTS."""
        super().__init__()
        self._parts = PARTS[sampling](n)
        popularity, is_known = item_counts.double() / item_counts.sum(), item_counts > 0
        evenly = self._parts[-1] / n
        share = (1 - evenly) * popularity + evenly * is_known / is_known.sum()
        self.register_buffer("log_share", share.log().float(), persistent=False)
        self.register_buffer("cumulative", popularity.cumsum(0), persistent=False)
        self.register_buffer("known", is_known.nonzero().squeeze(1), persistent=False)

    def draw(self, targets: Tensor, generator: torch.Generator) -> Tensor:
        """int64 [n]: the negatives of a batch with these targets, int64 [t], all of them known items."""
        return self.items(torch.rand(sum(self._parts), generator=generator, dtype=torch.float64), targets)

    def popular(self, chance: Tensor) -> Tensor:
        """int64: known items by their popularity, at float64 evenly spread over [0, 1), of any shape."""
        return torch.searchsorted(self.cumulative, chance, right=True).clamp(max=int(self.known[-1]))

    def items(self, chance: Tensor, targets: Tensor) -> Tensor:
        """The items at float64 [n] evenly spread over [0, 1).

        Where a batch has no targets they come by popularity, as `log_share` says: other objectives score them too.
        """
        by_popularity, in_batch, evenly = torch.split(chance, list(self._parts))
        of_batch = targets[(in_batch * len(targets)).long()] if len(targets) else self.popular(in_batch)
        return torch.cat([self.popular(by_popularity), of_batch, self.known[(evenly * len(self.known)).long()]])

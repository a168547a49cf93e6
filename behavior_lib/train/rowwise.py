"""Steps that touch only the rows of a table of embeddings that a batch looked up.

With a million items a step of a few thousand lookups would otherwise write, send and read a gradient, two moments and a
weight for every row.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

EPSILON = 1e-8


def make_sparse(model: nn.Module) -> None:
    """From now on the tables give sparse gradients to their own lookups, and to those by models.lookup once cleared."""
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            module.sparse = True


def sparse_tables(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights of the tables that are sparse, by their names."""
    tables = {id(each.weight) for each in model.modules() if isinstance(each, nn.Embedding) and each.sparse}
    return {name: parameter for name, parameter in model.named_parameters() if id(parameter) in tables}


def clear(table: nn.Parameter) -> None:
    """A gradient without rows, to which lookups add theirs."""
    no_rows = torch.zeros(1, 0, dtype=torch.int64, device=table.device)
    # Values of their own: a view of the table would have gradients written into it.
    values = table.detach().new_zeros(0, *table.shape[1:])
    table.grad = torch.sparse_coo_tensor(no_rows, values, table.shape, check_invariants=False)


def looked_up(table: nn.Parameter) -> tuple[Tensor, Tensor]:
    """Rows that have a gradient, in ascending order, int64 [u], and the gradients [u, d].

    A gradient that is dense after all, as a loss over the whole catalogue gives it, has the rows that are not 0.
    """
    if table.grad is None:
        return torch.zeros(0, dtype=torch.int64, device=table.device), table.detach()[:0].clone()
    gradient = table.grad.coalesce() if table.grad.is_sparse else table.grad.to_sparse(1)
    return gradient.indices()[0], gradient.values()


class RowwiseAdagrad:
    """One learning rate a row: Adagrad whose sum holds the mean square of the row's gradients.

    sum[r] += mean(g[r]²); weight[r] -= rate / (sqrt(sum[r]) + EPSILON) · g[r], for the rows with a gradient alone
    (Mudigere et al. 2022, "Software-hardware co-design for fast and scalable training of deep learning recommendation
    models"; FBGEMM's EXACT_ROWWISE_ADAGRAD). It keeps one number a row where AdamW keeps two a weight.
    """

    def __init__(self, tables: Mapping[str, nn.Parameter]) -> None:
        self._tables = tables
        self._sums = {name: table.detach().new_zeros(len(table)) for name, table in tables.items()}

    def tensors(self) -> dict[str, Tensor]:
        """What it keeps, by name."""
        return {f"sum.{name}": sums for name, sums in self._sums.items()}

    def gradients(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Rows and gradients of each table, see `looked_up`."""
        return {name: looked_up(table) for name, table in self._tables.items()}

    @torch.no_grad()
    def step(self, gradients: Mapping[str, tuple[Tensor, Tensor]], rate: float) -> None:
        """Take a step down the gradients, of which a row has one at most."""
        for name, (rows, values) in gradients.items():
            sums = self._sums[name].index_add_(0, rows, values.square().mean(1))
            scale = -rate / (sums[rows].sqrt() + EPSILON)
            self._tables[name].index_add_(0, rows, values * scale[:, None])

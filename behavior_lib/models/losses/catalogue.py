"""The log of the sum of exp over a whole catalogue, without a logit for every pair of state and item at any time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

HELD = 2**24  # logits at once: 64 MB as float32
NARROWEST = 256  # items of a chunk: below that, products of matrices are slow


def catalogue_logsumexp(states: Tensor, vectors: Tensor, bias: Tensor, held: int = HELD) -> Tensor:
    """[m]: log of the sum over all items of exp(state · vector + bias), differentiable in all three.

    states: [m, d]. vectors: [items, d]. bias: [items], -inf for items that do not count; some item must.

    The catalogue is walked in chunks, whose logits are forgotten: forward keeps the running highest logit and the sum
    below it (Milakov and Gimelshein 2018, "Online normalizer calculation for softmax"), backward computes the logits
    again (Wijmans et al. 2024, "Cut your losses in large-vocabulary language models"; none of its approximations).
    That is four products of matrices where three would do with all logits held; so what is one chunk alone is kept.
    Beside the result and the gradients it takes max(held, 256 * m) numbers.
    """
    columns = max(NARROWEST, held // max(1, len(states)))
    everything: Tensor = _LogSumExp.apply(states, vectors, bias, columns)  # type: ignore[no-untyped-call]
    return everything


class _LogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, vectors: Tensor, bias: Tensor, columns: int) -> Tensor:
        # The lowest number, not -inf: a chunk in which no item counts must leave 0, and -inf - -inf is no number.
        highest = states.new_full((len(states),), torch.finfo(states.dtype).min)
        total = torch.zeros_like(highest)
        for _, logits in _chunks(states, vectors, bias, columns):
            before, highest = highest, torch.maximum(highest, logits.amax(1))
            total = total * torch.exp(before - highest) + logits.sub_(highest[:, None]).exp_().sum(1)
        everything = total.log() + highest
        # One chunk is exp(logit - highest) by now: what is left to do for its shares is to divide by the total.
        kept = logits if columns >= len(vectors) else None
        ctx.save_for_backward(states, vectors, bias, everything, total, kept)
        ctx.columns = columns
        return everything

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        states, vectors, bias, everything, total, kept = ctx.saved_tensors
        shares: Iterable[tuple[slice, Tensor]] = [(slice(None), kept)]
        scale = gradient / total
        if kept is None:
            shares, scale = _shares(states, vectors, bias, everything, ctx.columns), gradient
        weighted = states * scale[:, None]
        of_states, of_vectors, of_bias = torch.zeros_like(states), torch.empty_like(vectors), torch.empty_like(bias)
        for part, share in shares:
            of_states.addmm_(share, vectors[part])
            torch.mm(share.T, weighted, out=of_vectors[part])
            torch.mv(share.T, scale, out=of_bias[part])
        return of_states.mul_(scale[:, None]), of_vectors, of_bias, None


def _shares(
    states: Tensor, vectors: Tensor, bias: Tensor, everything: Tensor, columns: int
) -> Iterator[tuple[slice, Tensor]]:
    """Stretches of the catalogue and what each item is of the sum, as `_chunks`. everything: [m], its logarithm."""
    for part, logits in _chunks(states, vectors, bias, columns):
        yield part, logits.sub_(everything[:, None]).exp_()


def _chunks(states: Tensor, vectors: Tensor, bias: Tensor, columns: int) -> Iterator[tuple[slice, Tensor]]:
    """Stretches of the catalogue and their logits [m, columns], each of them in the place of the one before."""
    room = states.new_empty(len(states) * min(columns, len(vectors)))
    for first in range(0, len(vectors), columns):
        part = slice(first, min(first + columns, len(vectors)))
        logits = room[: len(states) * (part.stop - first)].view(len(states), part.stop - first)
        yield part, torch.addmm(bias[part], states, vectors[part].T, out=logits)

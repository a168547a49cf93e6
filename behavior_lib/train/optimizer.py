"""AdamW with all that surrounds it: who decays, the schedule, clipping, row-wise tables, and the moving average."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from behavior_lib.config.train import TableOptimizerName
from behavior_lib.train.rowwise import RowwiseAdagrad, clear, make_sparse, sparse_tables
from behavior_lib.train.settings import FitSettings

# One pass over the weights instead of ten; torch has it on CPUs since 2.4.
_FUSED = torch.__version__ >= "2.4"


def learning_rate(step: int, total: int, settings: FitSettings) -> float:
    """Linear warm-up over the first share of the steps, then a cosine down to 0 after the last."""
    warmup = max(1, round(settings.warmup_share * total))
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, total - warmup)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """For AdamW: matrices decay; vectors, biases, norms and tables of embeddings do not (Radford et al. 2019).

    Tables whose gradients are sparse are not AdamW's.
    """
    sparse = {id(table) for table in sparse_tables(model).values()}
    tables = {id(table.weight) for table in model.modules() if isinstance(table, nn.Embedding)}
    decays = [weight for weight in model.parameters() if weight.ndim > 1 and id(weight) not in tables]
    others = [weight for weight in model.parameters() if weight.ndim < 2 or id(weight) in tables - sparse]
    groups = [{"params": decays, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


class Optimizer:
    """Takes the steps of one model.

    Where settings.average is not 0, a moving average of the weights is kept beside them: after step t (from 1) it moves
    by 1 - min(average, (1 + t) / (10 + t)) of the way to the weights, so that it forgets the start soon.
    Where settings.table_optimizer is rowwise, the model's tables are made sparse and take RowwiseAdagrad's steps.
    """

    def __init__(self, model: nn.Module, settings: FitSettings) -> None:
        self._model, self._settings = model, settings
        if settings.table_optimizer == TableOptimizerName.rowwise.value:
            make_sparse(model)
        tables = sparse_tables(model)
        self._rowwise = RowwiseAdagrad(tables)
        self._tables = list(tables.values())
        self._dense = {name: weight for name, weight in model.named_parameters() if name not in tables}
        self._adam = torch.optim.AdamW(parameter_groups(model, settings.weight_decay), fused=_FUSED)
        self._state = self._first_state()
        names = [name for name, _ in model.named_parameters()] if settings.average else []
        self._averages = {name: torch.zeros_like(model.get_parameter(name)) for name in names}

    def begin(self) -> None:
        """The averages begin at the weights of now."""
        for name, average in self._averages.items():
            average.copy_(self._model.get_parameter(name).detach())

    def tensors(self) -> dict[str, Tensor]:
        """All that steps change, by name: the weights, and what the optimizer keeps beside them."""
        averages = {f"average.{name}": tensor for name, tensor in self._averages.items()}
        return {**dict(self._model.named_parameters()), **self._state, **self._rowwise.tensors(), **averages}

    def zero(self) -> None:
        """Gradients of 0 for every dense parameter, also for one that no batch has reached yet: AdamW passes over None,
        and a run that goes on would differ from one that was never stopped. Those of sparse tables have no rows.
        """
        for table in self._tables:
            clear(table)
        for parameter in self._dense.values():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            parameter.grad.zero_()

    def step(self, done: int, total: int) -> float:
        """Take a step down the gradients, clipped. done: steps before it; total: of the whole run.

        Returns the norm of the gradients; where it is not finite no step is taken.
        """
        rows = self._rowwise.gradients()
        dense = [weight.grad for weight in self._dense.values() if weight.grad is not None]
        length = nn.utils.get_total_norm([*dense, *(values for _, values in rows.values())])
        norm = float(length)
        if not math.isfinite(norm):
            return norm
        shrink = self._settings.clip_norm / (norm + 1e-6)
        if shrink < 1:  # by 1 it would read and write every gradient for nothing
            nn.utils.clip_grads_with_norm_(self._dense.values(), self._settings.clip_norm, length)
        rate = learning_rate(done, total, self._settings)
        for group in self._adam.param_groups:
            group["lr"] = rate
        self._adam.step()
        self._rowwise.step({name: (index, values * min(1.0, shrink)) for name, (index, values) in rows.items()}, rate)
        decay = min(self._settings.average, (2 + done) / (11 + done))
        for name, average in self._averages.items():
            average.lerp_(self._model.get_parameter(name).detach(), 1 - decay)
        return norm

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the model has the averages for its weights, where there are any."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        for name, average in self._averages.items():
            weight = self._model.get_parameter(name)
            weight.data, average.data = average.data, weight.data

    def _first_state(self) -> dict[str, Tensor]:
        """Give AdamW the state that it has before its first step, by name."""
        named: dict[str, Tensor] = {}
        for name, parameter in self._dense.items():
            moments = {key: torch.zeros_like(parameter) for key in ("exp_avg", "exp_avg_sq")}
            own = {"step": torch.zeros((), device=parameter.device), **moments}  # where the fused kernel reads it
            self._adam.state[parameter] = own
            named |= {f"{key}.{name}": value for key, value in own.items()}
        return named

"""Supervised fine-tuning: a head on user vectors learns labels of users, and with it the encoder if wanted."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from behavior_lib.config.fine_tune import EncoderMode
from behavior_lib.data.histories import Histories
from behavior_lib.errors import TrainingFailed
from behavior_lib.evaluation.probes_folds import TRAIN_FOLD, VALIDATION_FOLD
from behavior_lib.models.base import SequenceModel
from behavior_lib.models.batch import Batch
from behavior_lib.models.labels import LabelHead

_ROWS = 256  # histories that go through the encoder at once where nothing is learned


@dataclass(frozen=True)
class FineTuneSettings:
    """How to learn. The meaning of each key is that of FineTuneConfig. seed: of the order of users and of dropout."""

    encoder: str
    epochs: int
    patience: int
    batch_size: int
    learning_rate: float
    encoder_learning_rate: float
    weight_decay: float
    hidden: int
    seed: int


@dataclass(frozen=True)
class LabelledUsers:
    """n users: what the model reads of each, and k labels. values: float32 [n, k], NaN where one is not known.

    is_binary: bool [k]. fold: int64 [n], the one of probes_folds that each user is in.
    """

    histories: Histories
    names: tuple[str, ...]
    is_binary: NDArray[np.bool_]
    values: NDArray[np.float32]
    fold: NDArray[np.int64]

    def of(self, fold: int) -> NDArray[np.int64]:
        """The users of a fold."""
        return np.flatnonzero(self.fold == fold)


@dataclass(frozen=True)
class FineTuned:
    """A head, best on validation, and what came of it.

    before, after: float32 [n, dimension], the user vectors of the encoder as it was and as it is, the same where it is
    frozen. The losses are means by epoch: of train while it learned, of validation after it. best_epoch: from 0.
    """

    head: LabelHead
    before: Tensor
    after: Tensor
    train_losses: tuple[float, ...]
    validation_losses: tuple[float, ...]

    @property
    def answers(self) -> NDArray[np.float64]:
        """float64 [n, k]: what head and encoder tell of each user that was given."""
        with torch.no_grad():
            return np.asarray(self.head.answers(self.after).numpy(), dtype=np.float64)

    @property
    def best_epoch(self) -> int:
        """Of equal ones the first."""
        return int(np.argmin(self.validation_losses))


def vectors_of(model: SequenceModel, histories: Histories) -> Tensor:
    """float32 [n, dimension]: the user vectors, without gradients."""
    rows = np.arange(len(histories))
    was_training = model.training
    model.eval()
    with torch.no_grad():
        found = [
            model.user_vectors(_batch(histories, rows[at : at + _ROWS])) for at in range(0, max(len(rows), 1), _ROWS)
        ]
    model.train(was_training)
    return torch.cat(found)


def fine_tune(model: SequenceModel, users: LabelledUsers, settings: FineTuneSettings) -> FineTuned:
    """Learn the labels of the train users, until those of validation are told no better for `patience` epochs.

    model: of a trained encoder; its weights are those of the best epoch afterwards, of a frozen one they stay. One seed
    gives the same weights on a CPU. Raises TrainingFailed for a loss that is no number.
    """
    with _own_randomness(settings.seed):
        labels = torch.from_numpy(users.values)
        frozen = vectors_of(model, users.histories)
        train, validation = users.of(TRAIN_FOLD), users.of(VALIDATION_FOLD)
        head = LabelHead(users.names, torch.from_numpy(users.is_binary), frozen.shape[1], settings.hidden)
        head.fit_to(frozen[train], labels[train])
        is_frozen = settings.encoder == EncoderMode.frozen.value
        learner = nn.ModuleList([head] if is_frozen else [head, model])

        def vectors(rows: NDArray[np.int64]) -> Tensor:
            return frozen[rows] if is_frozen else model.user_vectors(_batch(users.histories, rows))

        def judge() -> float:
            with torch.no_grad():
                told = frozen if is_frozen else vectors_of(model, users.histories.rows(validation))
                return float(head.loss(told[validation] if is_frozen else told, labels[validation]))

        groups = [{"params": list(head.parameters()), "weight_decay": settings.weight_decay}]
        if not is_frozen:
            # What no user of a batch has would decay to nothing.
            groups += [{"params": list(model.parameters()), "lr": settings.encoder_learning_rate, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate)
        losses = _learn(learner, optimizer, train, settings, lambda rows: head.loss(vectors(rows), labels[rows]), judge)
        after = frozen if is_frozen else vectors_of(model, users.histories)
    return FineTuned(head.eval(), frozen, after, *losses)


def _learn(
    learner: nn.Module,
    optimizer: torch.optim.Optimizer,
    train: NDArray[np.int64],
    settings: FineTuneSettings,
    loss_of: Callable[[NDArray[np.int64]], Tensor],
    judge: Callable[[], float],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Epoch after epoch; the learner ends with the weights of the best. Returns the losses of train and validation."""
    losses: list[float] = []
    judged: list[float] = []
    best = copy.deepcopy(learner.state_dict())
    for epoch in range(settings.epochs):
        learner.train()
        order = train[np.random.default_rng((settings.seed, epoch)).permutation(len(train))]
        total = 0.0
        for at in range(0, len(order), settings.batch_size):
            rows = order[at : at + settings.batch_size]
            optimizer.zero_grad()
            loss = loss_of(rows)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += float(loss.detach()) * len(rows)
        learner.eval()
        losses.append(total / len(order))
        judged.append(judge())
        if not np.isfinite(losses[-1] + judged[-1]):
            mend = "lower fine_tune.learning_rate"
            raise TrainingFailed("the loss is not a number", where=f"epoch {epoch}", value=losses[-1], mend=mend)
        if judged[-1] < min(judged[:-1], default=np.inf):
            best = copy.deepcopy(learner.state_dict())
        if epoch - int(np.argmin(judged)) >= settings.patience:
            break
    learner.load_state_dict(best)
    return tuple(losses), tuple(judged)


def _batch(histories: Histories, rows: NDArray[np.int64]) -> Batch:
    return Batch.from_histories(histories.without_padding(rows))


@contextmanager
def _own_randomness(seed: int) -> Iterator[None]:
    """Inside, torch draws by the seed; outside nothing of it is seen."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield

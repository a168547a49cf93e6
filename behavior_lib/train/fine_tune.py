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
    """How to learn. The meaning of each key is that of FineTuneConfig. seed: of the order of users, and of a
    hidden layer.
    """

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

    is_binary: bool [k]. fold: int64 [n], the one of probes_folds that each user is in. group: int64 [k], see LabelHead.
    """

    histories: Histories
    names: tuple[str, ...]
    is_binary: NDArray[np.bool_]
    values: NDArray[np.float32]
    fold: NDArray[np.int64]
    group: NDArray[np.int64] | None = None

    def of(self, fold: int) -> NDArray[np.int64]:
        """The users of a fold."""
        return np.flatnonzero(self.fold == fold)


@dataclass(frozen=True)
class Losses:
    """The mean losses by epoch: of train while it learned, of validation after it. best: the epochs after which
    validation was told best, which are kept; 0: none.
    """

    train: tuple[float, ...]
    validation: tuple[float, ...]
    best: int

    def followed_by(self, other: Losses) -> Losses:
        """Both as one. other: began with what is kept of this one."""
        best = len(self.train) + other.best if other.best else self.best
        return Losses(self.train + other.train, self.validation + other.validation, best)


@dataclass(frozen=True)
class FineTuned:
    """A head, best on validation, and what came of it.

    before, after: float32 [n, dimension], the user vectors of the encoder as it was and as it is, the same where it is
    frozen.
    """

    head: LabelHead
    before: Tensor
    after: Tensor
    losses: Losses

    @property
    def answers(self) -> NDArray[np.float64]:
        """float64 [n, k]: what head and encoder tell of each user that was given."""
        with torch.no_grad():
            return np.asarray(self.head.answers(self.after).numpy(), dtype=np.float64)


def vectors_of(model: SequenceModel, histories: Histories) -> Tensor:
    """float32 [n, dimension]: the user vectors, without gradients."""
    rows = np.arange(len(histories))
    with torch.no_grad():
        found = [
            model.user_vectors(_batch(histories, rows[at : at + _ROWS])) for at in range(0, max(len(rows), 1), _ROWS)
        ]
    return torch.cat(found)


def fine_tune(model: SequenceModel, users: LabelledUsers, settings: FineTuneSettings) -> FineTuned:
    """Learn the labels of the train users, until those of validation are told no better for `patience` epochs.

    The head learns alone first: one that knows nothing would have the encoder unlearn what it knows (Kumar et al. 2022,
    "Fine-tuning can distort pretrained features and underperform out-of-distribution"). The encoder learns without
    dropout: users differ in little of their vectors, and the head would see more of the noise. model: in evaluation
    mode afterwards; a trained encoder has the weights of its best epoch, a frozen one its own. One seed gives the same
    weights on a CPU. Raises TrainingFailed for a loss that is no number.
    """
    model.eval()
    with _own_randomness(settings.seed):
        labels = torch.from_numpy(users.values)
        before = after = vectors_of(model, users.histories)
        train, validation = users.of(TRAIN_FOLD), users.of(VALIDATION_FOLD)
        group = None if users.group is None else torch.from_numpy(users.group)
        head = LabelHead(users.names, torch.from_numpy(users.is_binary), before.shape[1], settings.hidden, group)
        head.fit_to(before[train], labels[train])
        course = _Course(train, settings)
        groups = [{"params": list(head.parameters()), "weight_decay": settings.weight_decay}]
        losses = course.learn(
            head,
            torch.optim.AdamW(groups, lr=settings.learning_rate),
            lambda rows: head.loss(before[rows], labels[rows]),
            lambda: head.loss(before[validation], labels[validation]),
        )
        if settings.encoder == EncoderMode.trained.value:
            asked, both = users.histories.rows(validation), nn.ModuleList([head, model])
            more = course.learn(
                both,
                # Without decay: what no user of a batch has would become nothing.
                torch.optim.AdamW(both.parameters(), lr=settings.encoder_learning_rate, weight_decay=0.0),
                lambda rows: head.loss(model.user_vectors(_batch(users.histories, rows)), labels[rows]),
                lambda: head.loss(vectors_of(model, asked), labels[validation]),
            )
            losses, after = losses.followed_by(more), vectors_of(model, users.histories)
    return FineTuned(head.eval(), before, after, losses)


class _Course:
    """Epochs over the train users, in an order of their own each."""

    def __init__(self, train: NDArray[np.int64], settings: FineTuneSettings) -> None:
        self._train, self._settings = train, settings
        self._random = np.random.default_rng(settings.seed)

    def learn(
        self,
        learner: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss_of: Callable[[NDArray[np.int64]], Tensor],
        judge: Callable[[], Tensor],
    ) -> Losses:
        """Epoch after epoch; the learner ends with the weights of the best one, or with those that it had."""
        losses: list[float] = []
        judged: list[float] = []
        best, least, kept = copy.deepcopy(learner.state_dict()), _value(judge), 0
        while len(judged) < min(self._settings.epochs, kept + self._settings.patience):
            losses.append(self._epoch(optimizer, loss_of))
            judged.append(_value(judge))
            if not np.isfinite(losses[-1] + judged[-1]):
                what, mend = "the loss is not a number", "lower fine_tune.learning_rate or encoder_learning_rate"
                raise TrainingFailed(what, where=f"epoch {len(losses)}", value=losses[-1], mend=mend)
            if judged[-1] < least:
                best, least, kept = copy.deepcopy(learner.state_dict()), judged[-1], len(judged)
        learner.load_state_dict(best)
        return Losses(tuple(losses), tuple(judged), kept)

    def _epoch(self, optimizer: torch.optim.Optimizer, loss_of: Callable[[NDArray[np.int64]], Tensor]) -> float:
        order, total = self._random.permutation(self._train), 0.0
        for at in range(0, len(order), self._settings.batch_size):
            rows = order[at : at + self._settings.batch_size]
            optimizer.zero_grad()
            loss = loss_of(rows)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += float(loss.detach()) * len(rows)
        return total / len(order)


def _value(judge: Callable[[], Tensor]) -> float:
    with torch.no_grad():
        return float(judge())


def _batch(histories: Histories, rows: NDArray[np.int64]) -> Batch:
    return Batch.from_histories(histories.without_padding(rows))


@contextmanager
def _own_randomness(seed: int) -> Iterator[None]:
    """Inside, torch draws by the seed; outside nothing of it is seen."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield

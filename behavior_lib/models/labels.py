"""What a user vector says of labels: a head that is fitted on users whose labels are known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from behavior_lib.errors import DataRefused

HEAD, LABELS = "labels.safetensors", "labels.json"
HEAD_FILES = (HEAD, LABELS)


class LabelHead(nn.Module):
    """User vectors [n, dimension] in, one number a label out: a logit, or a number in units of `scale` from `mean`.

    names: of the k labels. is_binary: bool [k]. hidden: width of a layer between the two; 0: linear. group: int64 [k],
    the number from 1 of the classes that a binary label is one of, of which a user has exactly one; 0: of none. Vectors
    are standardised by `center` and `spread` [dimension], labels that are numbers by `mean` and `scale` [k]: what
    `fit_to` has found of them.
    """

    center: Tensor
    spread: Tensor
    mean: Tensor
    scale: Tensor
    is_binary: Tensor
    group: Tensor

    def __init__(
        self, names: Sequence[str], is_binary: Tensor, dimension: int, hidden: int = 0, group: Tensor | None = None
    ) -> None:
        super().__init__()
        self.names, self.dimension, self.hidden = tuple(names), dimension, hidden
        before = [nn.Linear(dimension, hidden), nn.GELU()] if hidden else []
        last = nn.Linear(hidden or dimension, len(self.names))
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.network = nn.Sequential(*before, last)
        for name, width, value in (("center", dimension, 0.0), ("spread", dimension, 1.0)):
            self.register_buffer(name, torch.full((width,), value))
        for name, value in (("mean", 0.0), ("scale", 1.0)):
            self.register_buffer(name, torch.full((len(self.names),), value))
        self.register_buffer("is_binary", is_binary.bool())
        self.register_buffer("group", torch.zeros_like(is_binary, dtype=torch.long) if group is None else group)

    def fit_to(self, vectors: Tensor, labels: Tensor) -> None:
        """Take mean and deviation of vectors [n, dimension], and of the known labels [n, k] that are numbers."""
        self.center.copy_(vectors.mean(0))
        self.spread.copy_(_deviation(vectors - vectors.mean(0), torch.ones_like(vectors)))
        known = (~labels.isnan()).float()
        mean = labels.nan_to_num().mul(known).sum(0) / known.sum(0).clamp(min=1)
        scale = _deviation((labels.nan_to_num() - mean) * known, known)
        self.mean.copy_(mean.masked_fill(self.is_binary, 0.0))
        self.scale.copy_(scale.masked_fill(self.is_binary, 1.0))

    def forward(self, vectors: Tensor) -> Tensor:
        """float32 [n, k]."""
        told: Tensor = self.network((vectors - self.center) / self.spread)
        return told

    def loss(self, vectors: Tensor, labels: Tensor) -> Tensor:
        """The mean over the labels that anybody's is known of. labels: float32 [n, k], NaN where it is not known.

        Of each the mean over those users: cross-entropy of a binary one, the squared error of a standardised number.
        Classes are one label, whose cross-entropy is that of their softmax.
        """
        told, known = self(vectors), ~labels.isnan()
        wanted = torch.where(known, (labels - self.mean) / self.scale, 0.0)
        entropy = F.binary_cross_entropy_with_logits(told, wanted, reduction="none")
        each = torch.where(self.is_binary, entropy, (told - wanted).square())
        share = told.new_ones(len(self.names))
        for columns in self._groups():
            each = each.index_copy(1, columns, -wanted[:, columns] * told[:, columns].log_softmax(1))
            share[columns] = 1 / len(columns)
        n = known.sum(0)
        loss: Tensor = ((each * known).sum(0) / n.clamp(min=1)).sum() / share[n > 0].sum().clamp(min=1)
        return loss

    def answers(self, vectors: Tensor) -> Tensor:
        """float32 [n, k]: the probability of a binary label, the number of any other."""
        told = self(vectors)
        answers = torch.where(self.is_binary, told.sigmoid(), told * self.scale + self.mean)
        for columns in self._groups():
            answers = answers.index_copy(1, columns, told[:, columns].softmax(1))
        return answers

    def _groups(self) -> list[Tensor]:
        """int64, the columns of each group."""
        return [(self.group == number).nonzero().squeeze(1) for number in range(1, int(self.group.max()) + 1)]

    def save(self, folder: Path) -> None:
        """Write HEAD_FILES: what was learned as safetensors, what is needed to build the head as JSON."""
        save_file({name: tensor.contiguous() for name, tensor in self.state_dict().items()}, folder / HEAD)
        told = {"labels": self.names, "dimension": self.dimension, "hidden": self.hidden}
        (folder / LABELS).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> LabelHead:
        """What `save` wrote, in evaluation mode. Raises DataRefused where it is not whole."""
        try:
            told = json.loads((folder / LABELS).read_text(encoding="utf-8"))
            weights = load_file(folder / HEAD)
            weights = {"group": torch.zeros_like(weights["is_binary"], dtype=torch.long), **weights}  # older heads
            head = cls(told["labels"], weights["is_binary"], told["dimension"], told["hidden"])
            head.load_state_dict(weights)
        except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as problem:
            reason = " ".join(str(problem).split())
            raise DataRefused("no whole head", where=str(folder), value=reason, mend="run fine_tune again") from None
        return head.eval()


def _deviation(differences: Tensor, weight: Tensor) -> Tensor:
    """The standard deviation of each column, 1 where it is 0."""
    deviation = (differences.square().sum(0) / weight.sum(0).clamp(min=1)).sqrt()
    return torch.where(deviation > 0, deviation, 1.0)

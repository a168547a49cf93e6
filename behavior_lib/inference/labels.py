"""A fine-tuned model ready to serve: the encoder, its vocabulary and a head, one folder of JSON and safetensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from behavior_lib.data.histories import Histories
from behavior_lib.inference.encoder import BUNDLE_FILES, Encoder
from behavior_lib.models.labels import HEAD_FILES, LabelHead

LABEL_BUNDLE_FILES = (*BUNDLE_FILES, *HEAD_FILES)


class LabelPredictor:
    """Turns histories into one answer a label."""

    def __init__(self, encoder: Encoder, head: LabelHead) -> None:
        self.encoder, self._head = encoder, head

    @classmethod
    def load(cls, folder: str | Path) -> LabelPredictor:
        """From a folder that holds LABEL_BUNDLE_FILES. Raises DataRefused where one is missing or broken."""
        return cls(Encoder.load(folder), LabelHead.load(Path(folder)))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the labels."""
        return self._head.names

    def predict(self, histories: Histories) -> NDArray[np.float64]:
        """float64 [n, labels]: the probability of a binary label, the number of any other; NaN without an event."""
        vectors = torch.from_numpy(self.encoder.encode(histories))
        with torch.inference_mode():
            answers = self._head.answers(vectors).numpy().astype(np.float64)
        return np.where(histories.length[:, None] > 0, answers, np.nan)

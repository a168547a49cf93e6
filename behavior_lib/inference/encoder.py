"""A trained model with its vocabulary, ready to serve: one folder of JSON and safetensors, no pickle, no Spark."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from behavior_lib.data.histories import Histories
from behavior_lib.errors import ConfigError, DataRefused
from behavior_lib.inference.vocabulary import VOCABULARY_FILE, Vocabulary
from behavior_lib.models.base import SequenceModel
from behavior_lib.models.batch import Batch
from behavior_lib.models.build import DESCRIPTION, WEIGHTS, load_model
from behavior_lib.models.similarity import COSINE

BUNDLE = "bundle"  # folder of a registered version that holds the files
BUNDLE_FILES = (WEIGHTS, DESCRIPTION, VOCABULARY_FILE)

_ROWS = 256  # histories that go through the model at once
_SCORES = 2**24  # scores held at once, 64 MB


class Encoder:
    """Turns histories into user vectors and next items.

    However many histories are given, they go through the model in batches of bounded size, and what comes out for a
    history does not depend on its neighbours beyond float32 rounding (1e-5). A history without events has the zero
    vector and no next items.
    """

    def __init__(self, model: SequenceModel, vocabulary: Vocabulary) -> None:
        is_known = model.known_items.numpy().copy()
        for buckets in vocabulary.buckets:
            is_known[buckets.first : buckets.end] = False  # read, and never told: nobody can be shown a bucket
        known = np.flatnonzero(is_known)
        if any(index >= len(vocabulary.item_ids) or vocabulary.item_ids[index] is None for index in known):
            raise DataRefused("the model knows items that have no name", where=VOCABULARY_FILE, mend="train again")
        self._model = model.eval()
        self.vocabulary = vocabulary
        self.known_items = known

    @classmethod
    def load(cls, folder: str | Path) -> Encoder:
        """From a folder that holds BUNDLE_FILES.

        Raises DataRefused where one is missing or broken, or was written by code that built the model otherwise.
        """
        try:
            model = load_model(Path(folder))
        except (RuntimeError, ConfigError) as problem:
            reason = " ".join(str(problem).split())
            what = "the model does not fit this version of the code"
            raise DataRefused(what, where=str(folder), value=reason, mend="train again") from None
        return cls(model, Vocabulary.load(Path(folder)))

    @classmethod
    def from_bytes(cls, files: Mapping[str, bytes]) -> Encoder:
        """From the contents of BUNDLE_FILES by name, as they travel to other machines."""
        with TemporaryDirectory() as folder:
            for name in BUNDLE_FILES:
                (Path(folder) / name).write_bytes(files[name])
            return cls.load(folder)

    @property
    def model(self) -> SequenceModel:
        """What it encodes with."""
        return self._model

    @property
    def length(self) -> int:
        """Newest events of a history that count."""
        return self._model.spec.length

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""
        return self._model.spec.dimension

    @property
    def is_cosine(self) -> bool:
        """Whether users and items are compared by the cosine, so that vectors have length 1."""
        return self._model.spec.similarity == COSINE

    def encode(self, histories: Histories) -> NDArray[np.float32]:
        """float32 [n, dimension]: one vector a history, in order; zeros where there is no event."""
        vectors = np.zeros((len(histories), self.dimension), dtype=np.float32)
        # Histories of like length go together: padding is work too.
        present = np.argsort(histories.length, kind="stable")
        present = present[histories.length[present] > 0]
        for start in range(0, len(present), _ROWS):
            rows = present[start : start + _ROWS]
            with torch.inference_mode():
                vectors[rows] = self._model.user_vectors(Batch.from_histories(histories.rows(rows))).numpy()
        return vectors

    def scores(self, histories: Histories) -> NDArray[np.float32]:
        """float32 [n, n_items]: the score of each item index as the next item; -inf for what the model does not know.

        Buckets of rare items are no items, and -inf too. The caller bounds n: the whole matrix is returned.
        """
        with torch.inference_mode():
            scores = np.asarray(self._model.scores(Batch.from_histories(histories)).numpy(), dtype=np.float32)
        for buckets in self.vocabulary.buckets:
            scores[:, buckets.first : buckets.end] = -np.inf
        return scores

    def score_parts(self, histories: Histories, items: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
        """What the scores of the known items `items` [m] are made of (SequenceModel.score_parts): [n, m] each.

        In batches of bounded size; what comes out for a history does not depend on its neighbours beyond rounding.
        """
        step = max(1, min(_ROWS, _SCORES // self._model.spec.n_items))
        return _in_batches(lambda batch: self._model.score_parts(batch, torch.from_numpy(items)), histories, step)

    def foretold(self, histories: Histories) -> dict[str, NDArray[np.generic]]:
        """What the model says of the next instant of each history (SequenceModel.foretold), in order."""
        return _in_batches(self._model.foretold, histories, _ROWS)

    def next_items(self, histories: Histories, k: int) -> tuple[list[list[str]], list[list[float]]]:
        """The ids of the k best next items of each history, best first, and their scores (logits).

        Fewer than k where the model knows fewer items; none where the history has no event. Equal scores: lower index
        first. Raises DataRefused where k is not positive.
        """
        if k < 1:
            raise DataRefused("k must be at least 1", where="params", value=k)
        names: list[list[str]] = []
        scores: list[list[float]] = []
        step = max(1, min(_ROWS, _SCORES // self._model.spec.n_items))
        for start in range(0, len(histories), step):
            batch = histories.rows(slice(start, start + step))
            for length, row in zip(batch.length, self.scores(batch), strict=True):
                best = self._best(row, k)[: k if length else 0]
                names.append([str(self.vocabulary.item_ids[index]) for index in best])
                scores.append([float(row[index]) for index in best])
        return names, scores

    def item_vectors(self) -> NDArray[np.float32]:
        """float32 [len(known_items), dimension]: the vectors of the items at the indexes `known_items`."""
        with torch.inference_mode():
            return np.asarray(self._model.item_vectors().numpy()[self.known_items], dtype=np.float32)

    def product_terms(self) -> tuple[float, NDArray[np.float32]]:
        """The factor of user · item vector in a score, and float32 [len(known_items)], what popularity adds to it."""
        with torch.inference_mode():
            factor, addend = self._model.product_terms()
            return factor, np.asarray(addend.numpy()[self.known_items], dtype=np.float32)

    def _best(self, row: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        candidates = self.known_items
        if k < len(candidates):
            threshold = np.partition(row[candidates], len(candidates) - k)[len(candidates) - k]
            candidates = candidates[row[candidates] >= threshold]
        return candidates[np.argsort(-row[candidates], kind="stable")][:k]


def read_bundle(folder: str | Path) -> dict[str, bytes]:
    """The files that `Encoder.from_bytes` takes. Raises DataRefused where one is missing."""
    try:
        return {name: (Path(folder) / name).read_bytes() for name in BUNDLE_FILES}
    except OSError as problem:
        raise DataRefused("no whole model", where=str(folder), value=str(problem), mend="train again") from None


def _in_batches(
    answer: Callable[[Batch], Mapping[str, Tensor]], histories: Histories, step: int
) -> dict[str, NDArray[Any]]:
    """What a model answers of all histories by name, of so many at a time; of none the empty arrays."""
    batches: list[dict[str, NDArray[Any]]] = []
    for start in range(0, max(len(histories), 1), step):
        batch = Batch.from_histories(histories.rows(slice(start, start + step)))
        with torch.inference_mode():
            batches.append({name: told.numpy() for name, told in answer(batch).items()})
    return {name: np.concatenate([told[name] for told in batches]) for name in batches[0]}

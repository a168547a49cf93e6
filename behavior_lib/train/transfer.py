"""The registered model that a run begins with: how it comes to the rank that needs it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from behavior_lib.models.base import ModelSpec, SequenceModel
from behavior_lib.models.build import DESCRIPTION, WEIGHTS, load_model
from behavior_lib.models.transfer import check_alike
from behavior_lib.train.store import FolderStore

_FOLDER = "start"  # of a run's store
_NUMBERS, _ITEMS, _EVENT_TYPES = "numbers.safetensors", "items", "event_types"
_NONE = -1


@dataclass(frozen=True)
class Origin:
    """A model to begin with. name: as people read it. files: its weights and description.

    items, event_types: int64, its number for each number of the tables, -1 where it has none (see same_names).
    """

    name: str
    files: Mapping[str, bytes]
    items: NDArray[np.int64]
    event_types: NDArray[np.int64]

    @property
    def identity(self) -> str:
        """The name, and a hash of all that a run takes from it."""
        parts = (self.files[WEIGHTS], self.files[DESCRIPTION], self.items.tobytes(), self.event_types.tobytes())
        digest = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts))
        return f"{self.name} {digest.hexdigest()[:16]}"

    def check(self, spec: ModelSpec) -> None:
        """Raises ConfigError where a model of this spec cannot begin with it."""
        check_alike(spec, ModelSpec.from_json(json.loads(self.files[DESCRIPTION])))

    def put(self, store: FolderStore) -> None:
        """Lay it into the store of the run that begins with it, before any rank is started."""
        with TemporaryDirectory() as name:
            folder = Path(name)
            for file in (WEIGHTS, DESCRIPTION):
                (folder / file).write_bytes(self.files[file])
            numbers = {_ITEMS: torch.from_numpy(self.items), _EVENT_TYPES: torch.from_numpy(self.event_types)}
            save_file(numbers, folder / _NUMBERS)
            store.put(_FOLDER, folder)


def start_from_model(model: SequenceModel, store: FolderStore) -> torch.Tensor:
    """Give the model what the one that lies in the run's store has learned. Returns bool [n_items], the items that both
    know. Raises DataRefused where there is no model.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        store.get(_FOLDER, folder)
        numbers = load_file(folder / _NUMBERS)
        items, event_types = (
            _as_long_as(numbers[kind], size)
            for kind, size in ((_ITEMS, model.spec.n_items), (_EVENT_TYPES, model.spec.n_event_types))
        )
        other = load_model(folder)
    return model.start_from(other, items, event_types)


def _as_long_as(numbers: torch.Tensor, size: int) -> torch.Tensor:
    """The first `size` of them; what the tables have no name for the other model does not know either."""
    return torch.cat([numbers, numbers.new_full((max(0, size - len(numbers)),), _NONE)])[:size]

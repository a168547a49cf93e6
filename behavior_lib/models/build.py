"""Models by name, and their folders on disk."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from behavior_lib.errors import ConfigError, DataRefused
from behavior_lib.models.base import ModelSpec, SequenceModel
from behavior_lib.models.encoders import ENCODERS
from behavior_lib.models.next_item import NextItem

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"

FAMILIES: dict[str, type[SequenceModel]] = dict.fromkeys(ENCODERS, NextItem)


def build_model(
    spec: ModelSpec, item_counts: Tensor, attribute_index: Tensor | None = None, given_vectors: Tensor | None = None
) -> SequenceModel:
    """A new model with random weights from torch's global generator.

    item_counts: int64 [n_items], counts in train. attribute_index, given_vectors: what SequenceModel.take_attributes
    and take_vectors take; None where they are loaded later. Raises ConfigError for an unknown name.
    """
    if spec.name not in FAMILIES:
        raise ConfigError("unknown model", where="model.name", value=spec.name, mend=f"known: {', '.join(FAMILIES)}")
    model = FAMILIES[spec.name](spec, item_counts)
    if attribute_index is not None:
        model.take_attributes(attribute_index)
    if given_vectors is not None:
        model.take_vectors(given_vectors)
    return model


def as_tensors(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
    """What `build_model` takes, of the arrays of TrainCounts."""
    return {name: torch.from_numpy(values) for name, values in arrays.items()}


def blank_tensors(spec: ModelSpec) -> dict[str, Tensor]:
    """Zeros in the place of what `build_model` takes: int64, the given vectors float32."""
    floats = {"given_vectors": torch.float32}
    return {name: torch.zeros(shape, dtype=floats.get(name, torch.int64)) for name, shape in spec.shapes().items()}


def save_model(model: SequenceModel, folder: Path) -> None:
    """Write the folder that `load_model` reads: weights and buffers as safetensors, the spec as JSON. No pickle."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / WEIGHTS)
    (folder / DESCRIPTION).write_text(json.dumps(model.spec.as_json(), indent=2) + "\n", encoding="utf-8")
    for name in (WEIGHTS, DESCRIPTION):
        with open(folder / name, "rb") as file:
            os.fsync(file.fileno())


def load_model(folder: Path) -> SequenceModel:
    """The model of a checkpoint folder, on the CPU, in evaluation mode. Raises DataRefused where it is not whole."""
    try:
        spec = ModelSpec.from_json(json.loads((folder / DESCRIPTION).read_text(encoding="utf-8")))
        weights = load_file(folder / WEIGHTS)
        item_counts = weights["item_counts"]
    except (OSError, KeyError, ValueError, SafetensorError) as problem:
        raise DataRefused("no whole model", where=str(folder), value=str(problem), mend="train again") from None
    model = build_model(spec, item_counts)
    model.load_state_dict(weights)
    return model.eval()

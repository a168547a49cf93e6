"""What of a model another one can begin with: the same architecture, though of other items and event types."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from behavior_lib.errors import ConfigError
from behavior_lib.models.base import ModelSpec
from behavior_lib.models.encoders import ENCODERS
from behavior_lib.models.mean import RunningMean
from behavior_lib.models.similarity import COSINE

# What decides what weights mean, and, where it is not the size of a weight, cannot be told from them.
ARCHITECTURE = (
    "dimension",
    "layers",
    "heads",
    "positions",
    "fusion",
    "pooling",
    "similarity",
    "use_event_type",
    "use_gap",
    "use_value",
    "use_hour",
    "use_weekday",
)
ENCODER = "encoder."
BY_ITEM = ("items.weight", "bias", "repeat.propensity.weight")
BY_EVENT_TYPE = (
    "encoder.input.event_type.weight",
    "objectives.parts.next_type.head.weight",
    "objectives.parts.next_type.head.bias",
)
BY_VALUE = "attributes.vectors.weight"  # values of items' attributes have numbers of their own in every training
_OF_ATTRIBUTES = "attributes."
_KEY = "train.start_model"


def check_alike(spec: ModelSpec, other: ModelSpec) -> None:
    """Raises ConfigError where a model of `spec` cannot begin with one of `other`, with what to set instead."""
    of_mean = ["repeat_discount"] if ENCODERS.get(spec.name) is RunningMean else []
    of_cosine = ["temperature"] if spec.similarity == COSINE else []
    keys = [*ARCHITECTURE, *of_mean, *of_cosine]
    differ = {key: getattr(other, key) for key in keys if getattr(other, key) != getattr(spec, key)}
    if ENCODERS.get(spec.name) is not ENCODERS.get(other.name):
        differ = {"name": other.name, **differ}
    if differ:
        what = "the model to start from has another architecture"
        raise ConfigError(what, where=_KEY, value=differ, mend=_mend(differ))


def take_weights(
    model: nn.Module, spec: ModelSpec, other: ModelSpec, given: Mapping[str, Tensor], rows: Mapping[str, Tensor]
) -> None:
    """Copy what `given`, weights by name, has for the model. What it does not have stays.

    rows: by the name of a weight int64 [its rows], which row of the given one each takes, -1 for none. Every other
    weight is taken whole where it has the same shape, but for those of other item attributes, and of their values.
    spec, other: of the model and of what is given. Raises ConfigError where a whole weight of the encoder is not given
    in its shape.
    """
    has_same_attributes = list(spec.item_attributes) == list(other.item_attributes)
    for name, weight in model.named_parameters():
        theirs = given.get(name)
        if name == BY_VALUE or (name.startswith(_OF_ATTRIBUTES) and not has_same_attributes):
            continue
        if theirs is not None and name in rows:
            taken = rows[name] >= 0
            weight.data[taken] = theirs[rows[name][taken]]
        elif theirs is not None and theirs.shape == weight.shape:
            weight.data.copy_(theirs)
        elif name.startswith(ENCODER):
            what = f"the model to start from has another {name}"
            mend = _mend({"window": other.window} if spec.window != other.window else {})
            raise ConfigError(what, where=_KEY, value=theirs if theirs is None else list(theirs.shape), mend=mend)


def _mend(differ: Mapping[str, object]) -> str:
    settings = [f"--set model.{key}={str(value).lower()}" for key, value in differ.items()]
    return f"{' '.join(settings)}, or start from another model" if settings else "start from another model"

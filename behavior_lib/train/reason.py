"""Why a rank failed, as text that travels to the driver."""

from __future__ import annotations

import json

from behavior_lib import errors
from behavior_lib.errors import BehaviorError, TrainingFailed


def as_text(error: BehaviorError) -> str:
    """Its kind and its sentence."""
    return json.dumps({"kind": type(error).__name__, "sentence": str(error)})


def from_text(text: str) -> BehaviorError:
    """The error that `as_text` told of."""
    told = json.loads(text)
    kind: type[BehaviorError] = getattr(errors, told["kind"], TrainingFailed)
    return kind(told["sentence"])

"""How users and items are compared: by the product of their vectors, or by its cosine."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from behavior_lib.errors import ConfigError
from behavior_lib.models.base import ModelSpec

DOT, COSINE = "dot", "cosine"


class Similarity:
    """A logit is `asked(state) · vectors(item)` + the item's bias.

    dot: both as they are (matrix factorisation, Koren, Bell and Volinsky 2009). cosine: both of length 1, divided by
    spec.temperature (Yi et al. 2019, "Sampling-bias-corrected neural modeling for large corpus item recommendations");
    a vector of length 0 stays so.
    """

    def __init__(self, spec: ModelSpec) -> None:
        """Raises ConfigError for an unknown name."""
        if spec.similarity not in (DOT, COSINE):
            mend = f"known: {DOT}, {COSINE}"
            raise ConfigError("unknown similarity", where="model.similarity", value=spec.similarity, mend=mend)
        self._is_cosine, self._temperature = spec.similarity == COSINE, spec.temperature

    @property
    def scale(self) -> float:
        """What the product of two written vectors is multiplied with."""
        return 1 / self._temperature if self._is_cosine else 1.0

    def vectors(self, vectors: Tensor) -> Tensor:
        """[n, d]: of users and items, as they are written and compared."""
        return F.normalize(vectors, dim=1) if self._is_cosine else vectors

    def asked(self, states: Tensor) -> Tensor:
        """[n, d]: of states, what is multiplied with the items' vectors."""
        return F.normalize(states, dim=1) / self._temperature if self._is_cosine else states

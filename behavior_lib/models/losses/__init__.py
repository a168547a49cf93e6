"""Losses of states over a catalogue: what a model chooses by its spec, and the functions themselves."""

from behavior_lib.models.losses.chosen import OWN_SAMPLING, CatalogueLoss, sampling_of
from behavior_lib.models.losses.negatives import PARTS, NegativeSampler
from behavior_lib.models.losses.pairs import bce, bpr, gbce
from behavior_lib.models.losses.softmax import chunked_softmax, full_softmax, path_softmax, sampled_softmax

__all__ = [
    "OWN_SAMPLING",
    "PARTS",
    "CatalogueLoss",
    "NegativeSampler",
    "bce",
    "bpr",
    "chunked_softmax",
    "full_softmax",
    "gbce",
    "path_softmax",
    "sampled_softmax",
    "sampling_of",
]

"""Every encoder with weights at random, and random windows for it."""

from dataclasses import replace

import numpy as np
import torch

from behavior_lib.models.base import ModelSpec
from behavior_lib.models.batch import Batch
from behavior_lib.models.encoders import ENCODERS, looks_both_ways
from tests.transitions_oracle import Transitions

N_ITEMS, N_TYPES, WINDOW = 20, 5, 12
NAMES = [name for name in ENCODERS if name != "transformer_repeat"]
VARIANTS = {
    **{name: {"name": name} for name in NAMES},
    "transformer, learned": {"name": "transformer", "positions": "learned"},
    "transformer, time": {"name": "transformer", "positions": "time"},
    "gru, concat": {"name": "gru", "fusion": "concat"},
    "mean, discounted": {"name": "mean", "repeat_discount": 1.0},
    "bidirectional, learned": {"name": "bidirectional", "positions": "learned"},
    "bidirectional, time": {"name": "bidirectional", "positions": "time"},
}
CAUSAL = [variant for variant, values in VARIANTS.items() if not looks_both_ways(values["name"])]
BOTH_WAYS = [variant for variant in VARIANTS if variant not in CAUSAL]


def objectives_of(name):
    """What an encoder of this name learns: the next item, where it can be asked for it."""
    return {"masked_items": 1.0} if looks_both_ways(name) else {"next_item": 1.0}


def spec_of(variant, **changes):
    values = {"length": WINDOW, "window": WINDOW, "n_items": N_ITEMS, "n_event_types": N_TYPES}
    values |= {"dimension": 8, "layers": 2, "heads": 2, "use_hour": True, "use_weekday": True, **VARIANTS[variant]}
    values["objectives"] = objectives_of(values["name"])
    return ModelSpec(**{**values, **changes})


def encoder_of(variant, seed=0, **changes):
    """The encoder in evaluation mode, and item vectors; no weight is left at 0 or 1."""
    spec = spec_of(variant, **changes)
    torch.manual_seed(seed)
    encoder = ENCODERS[spec.name](spec).eval()
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    fill(encoder.item_graph())
    return encoder, torch.randn(N_ITEMS, spec.dimension)


def fill(graph, neighbours=3):
    """Edges of random transitions, where there is a graph."""
    if graph is not None:
        transitions = Transitions(graph.n_items)
        transitions.add(torch.randint(3, graph.n_items, (90,), generator=torch.Generator().manual_seed(6)), numbers(90))
        graph.take(*transitions.edges(neighbours))


def numbers(events):
    """Instants of three events, in rows of five instants."""
    return torch.arange(events) // 3 + torch.arange(events) // 15


def noise(seed, n, columns=WINDOW, length=None):
    """Rows that hold anything, in the padding too."""
    random = np.random.default_rng(seed)
    shape = (n, columns)
    gap = torch.from_numpy(random.choice([0, 0, 1, 60, 86_400, 1_000_000], shape))
    gap[:, 0] = 0
    length = torch.full((n,), columns) if length is None else length
    return Batch(
        torch.from_numpy(random.integers(0, N_ITEMS, shape)),
        torch.from_numpy(random.integers(0, N_TYPES, shape)),
        gap,
        torch.from_numpy(random.normal(0, 5, shape).astype(np.float32)),
        torch.from_numpy(random.integers(0, 169, shape)),
        length,
    )


def rows(seed, n=5, columns=WINDOW):
    """The same with random lengths, one row empty and one full, and padding of 0."""
    length = torch.from_numpy(np.random.default_rng(seed).integers(0, columns + 1, n))
    length[:2] = torch.tensor([0, columns])
    return noise(seed, n, columns).cut(length)


def replaced(batch, other, where):
    """The batch with what `other` holds where `where` [n, L] is true; lengths stay."""
    arrays = {name: events for name, events in vars(batch).items() if name != "length"}
    return replace(batch, **{name: torch.where(where, getattr(other, name), own) for name, own in arrays.items()})

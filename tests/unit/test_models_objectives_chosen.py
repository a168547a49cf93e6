"""Several objectives over one pass of the encoder."""

from dataclasses import replace

import pytest
import torch

from behavior_lib.models.build import build_model
from behavior_lib.models.objectives.chosen import NEXT_ITEM, OBJECTIVES
from tests.encoders_example import CAUSAL, N_ITEMS, rows, spec_of

pytestmark = pytest.mark.usefixtures("one_thread")
WHAT_COMES = [NEXT_ITEM, *(name for name, each in OBJECTIVES.items() if each.needs_causal)]


def passes(variant, names):
    """How often the encoder reads in one loss."""
    spec = replace(spec_of(variant), repeat_path=False, negatives=16, objectives=dict.fromkeys(names, 1.0))
    model = build_model(spec, torch.tensor([0, 0, 0, *[4] * (N_ITEMS - 3)]))
    batch, read = model.prepare(rows(3, n=8)), []
    model.encoder.register_forward_hook(lambda *_: read.append(1))
    model.loss(batch, model.draw(batch, torch.Generator().manual_seed(0))).backward()
    assert all(weight.grad is not None for weight in model.objectives.parameters())
    return len(read)


@pytest.mark.parametrize("variant", CAUSAL)
def test_all_that_asks_what_comes_is_asked_of_one_pass(variant):
    assert len(WHAT_COMES) == 6
    assert [passes(variant, names) for names in ([NEXT_ITEM], WHAT_COMES)] == [1, 1]


def test_what_changes_the_history_costs_a_pass_of_its_own():
    assert passes("gru", [*WHAT_COMES, "masked_items", "masked_spans"]) == 3
    assert passes("gru", [*WHAT_COMES, "sub_sequences", "augmentations", "order"]) == 4

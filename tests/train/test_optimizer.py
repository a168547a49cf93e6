"""The optimizer against the recurrences that define it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from behavior_lib.config import load
from behavior_lib.data.snapshot import TrainCounts
from behavior_lib.errors import ConfigError
from behavior_lib.train.optimizer import Optimizer, learning_rate, parameter_groups
from behavior_lib.train.plan import plan
from tests.train.test_fit import SETTINGS


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.items = nn.Embedding(5, 3)
        self.layer = nn.Linear(3, 2)
        self.norm = nn.LayerNorm(2)


def test_the_learning_rate_warms_up_and_falls_to_nothing():
    rates = [learning_rate(step, 21, replace(SETTINGS, learning_rate=1.0, warmup_share=0.05)) for step in range(21)]
    assert rates[0] == 1.0
    assert rates[11] == pytest.approx(0.5)
    np.testing.assert_array_equal(np.diff(rates[1:]) < 0, True)
    warm = [learning_rate(step, 10, replace(SETTINGS, learning_rate=1.0, warmup_share=0.4)) for step in range(5)]
    assert warm == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_only_the_matrices_of_layers_decay():
    model = Small()
    decays, others = parameter_groups(model, 0.1)
    assert [id(weight) for weight in decays["params"]] == [id(model.layer.weight)]
    assert (decays["weight_decay"], others["weight_decay"], len(others["params"])) == (0.1, 0.0, 4)


def test_the_counts_of_steps_lie_where_the_weights_do():
    """The fused kernel reads them there; `meta` stands for any device that is not the processor."""
    kept = Optimizer(nn.Linear(1, 1, device="meta"), SETTINGS).tensors()
    steps = {name: tensor.device.type for name, tensor in kept.items() if name.startswith("step.")}
    assert steps == {"step.weight": "meta", "step.bias": "meta"}


def stepped(settings, gradients):
    """A model with one weight that began at 1, its optimizer, and the weight after each step."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 1.0)
    optimizer = Optimizer(model, settings)
    optimizer.begin()
    weights, norms = [], []
    for done, gradient in enumerate(gradients):
        model.weight.grad = torch.full((1, 1), gradient)
        norms.append(optimizer.step(done, len(gradients)))
        weights.append(float(model.weight.detach()))
    return model, optimizer, weights, norms


def test_steps_are_those_of_adamw_with_clipped_gradients():
    settings = replace(SETTINGS, clip_norm=0.5, weight_decay=0.1, learning_rate=0.1, warmup_share=0.5)
    gradients = [0.25, -2.0, 0.75, 0.5]
    _, _, found, norms = stepped(settings, gradients)
    weight, first, second, expected = 1.0, 0.0, 0.0, []
    for done, gradient in enumerate(gradients):
        gradient = np.clip(gradient, -0.5, 0.5)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        rate = learning_rate(done, 4, settings)
        moment = first / (1 - 0.9 ** (done + 1))
        spread = np.sqrt(second / (1 - 0.999 ** (done + 1))) + 1e-8
        weight = weight * (1 - rate * 0.1) - rate * moment / spread
        expected.append(weight)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(norms, np.abs(gradients), rtol=1e-6)


@pytest.mark.parametrize(("clip_norm", "n_writes"), [(4.0, 0), (2.0, 1)])
def test_gradients_are_written_only_where_they_are_clipped(clip_norm, n_writes):
    model = nn.Linear(1, 1, bias=False)
    optimizer = Optimizer(model, replace(SETTINGS, clip_norm=clip_norm))
    model.weight.grad = torch.full((1, 1), 3.0)
    written = model.weight.grad._version
    assert optimizer.step(0, 1) == 3.0
    assert model.weight.grad._version - written == n_writes
    assert float(model.weight.grad) == pytest.approx(min(3.0, clip_norm), rel=1e-5)


def test_the_average_follows_the_weights_and_is_the_model_only_inside_the_block():
    model, optimizer, weights, _ = stepped(replace(SETTINGS, average=0.4), [1.0, 2.0, -1.0])
    average = 1.0
    for number, weight in enumerate(weights, 1):
        decay = min(0.4, (1 + number) / (10 + number))
        average = decay * average + (1 - decay) * weight
    with optimizer.averaged():
        assert float(model.weight.detach()) == pytest.approx(average, rel=1e-6)
    assert float(model.weight.detach()) == weights[-1]
    assert float(optimizer.tensors()["average.weight"]) == pytest.approx(average, rel=1e-6)


def test_without_an_average_nothing_is_kept_and_nothing_changes():
    model, optimizer, weights, _ = stepped(SETTINGS, [1.0])
    assert [name for name in optimizer.tensors() if name.startswith("average")] == []
    with optimizer.averaged():
        assert float(model.weight.detach()) == weights[-1]


def test_a_gradient_that_is_no_number_takes_no_step():
    _, optimizer, weights, norms = stepped(SETTINGS, [1.0, float("inf")])
    assert weights[0] == weights[1]
    assert norms[1] == float("inf")
    assert float(optimizer.tensors()["step.weight"]) == 1.0


COUNTS = TrainCounts(np.array([0, 0, 0, 4, 2]), 4, 8, 30, 10)


def planned(tmp_path, *changes):
    paths = [f"paths.{name}={tmp_path / name}" for name in ("raw", "warehouse", "var")]
    changes = [*paths, "train.batch_size=24", "train.learning_rate=0.01", *changes]
    return plan(load("test", "train", changes).config, COUNTS, tmp_path).fit


@pytest.mark.parametrize(
    ("changes", "batch_size", "rate"),
    [
        ([], 24, 0.01),
        (["train.workers=4", "train.batch_of=step"], 6, 0.01),
        (["train.workers=4", "train.accumulate=2", "train.batch_of=step"], 3, 0.01),
        (["train.workers=4", "train.learning_rate_scaling=linear"], 24, 0.04),
        (["train.workers=2", "train.accumulate=2", "train.learning_rate_scaling=sqrt"], 24, 0.02),
        (["train.workers=4", "train.communicator=single", "train.learning_rate_scaling=linear"], 24, 0.01),
    ],
)
def test_batch_and_learning_rate_scale_as_configured(tmp_path, changes, batch_size, rate):
    fit = planned(tmp_path, *changes)
    assert (fit.batch_size, fit.learning_rate, fit.tokens_per_row) == (batch_size, pytest.approx(rate), 3.0)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("train.batch_of=step", r"cannot be shared out evenly: 24; choose a multiple of .* which is 5"),
        ("train.average=1", r"train\.average must be at least 0 and below 1: 1\.0"),
    ],
)
def test_scales_that_cannot_be_are_refused(tmp_path, change, sentence):
    with pytest.raises(ConfigError, match=sentence):
        planned(tmp_path, "train.workers=5", change)

"""The loss that a configuration names is the one that a model trains with."""

import json

import numpy as np
import pytest
import torch

from behavior_lib.config import load
from behavior_lib.config.model import LossName, SamplingName
from behavior_lib.data.snapshot import TrainCounts
from behavior_lib.errors import ConfigError
from behavior_lib.models.base import ModelSpec
from behavior_lib.models.build import DESCRIPTION, build_model, load_model, save_model
from behavior_lib.models.losses import OWN_SAMPLING, PARTS, CatalogueLoss, bce, bpr, gbce, sampled_softmax
from behavior_lib.train.plan import plan
from tests.unit.test_models_transformer_repeat import batch_of, loss_of, random_rows
from tests.unit.test_models_transformer_repeat import model as repeat_model

COUNTS = torch.tensor([0, 0, 0, 1, 2, 3, 0, 6])
SPEC = {"name": "transformer_repeat", "length": 8, "n_items": 8, "n_event_types": 4, "negatives": 5}
PAIRS = [(loss, sampling) for loss, own in OWN_SAMPLING.items() for sampling in (PARTS if own else [None])]


def planned_spec(tmp_path, *changes):
    paths = [f"paths.{name}={tmp_path / name}" for name in ("raw", "warehouse", "var")]
    config = load("test", "train", [*paths, *changes]).config
    return plan(config, TrainCounts(COUNTS.numpy(), 4, 8, 30, 10), tmp_path).spec


def test_the_names_of_the_configuration_are_those_of_the_losses():
    assert [name.value for name in LossName] == list(OWN_SAMPLING)
    assert [name.value for name in SamplingName] == list(PARTS)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([], ("sampled_softmax", "popularity", 0.75)),
        (["model.loss=gbce", "model.calibration=0.5"], ("gbce", "uniform", 0.5)),
        (["model.loss=bpr", "model.negative_sampling=mixed"], ("bpr", "mixed", 0.75)),
        (["model.loss=chunked_softmax"], ("chunked_softmax", None, 0.75)),
    ],
)
def test_the_spec_has_what_was_configured(tmp_path, changes, expected):
    spec = planned_spec(tmp_path, *changes)
    assert (spec.loss, spec.negative_sampling, spec.calibration) == expected


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            ["model.loss=softmax", "model.negative_sampling=uniform"],
            "scores all items and has no negatives.*: 'uniform'",
        ),
        (["model.calibration=1.5"], r"model\.calibration must be from 0 to 1: 1\.5"),
        (["model.loss=softmx"], r"model\.loss has a value of the wrong type.*softmx"),
        (["model.negative_sampling=hard"], r"model\.negative_sampling has a value of the wrong type.*hard"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        planned_spec(tmp_path, *changes)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"loss": "hinge"}, "unknown loss.*hinge'; known: sampled_softmax, softmax"),
        ({"negative_sampling": "hard"}, "unknown sampling.*hard'; known: popularity"),
        ({"loss": "chunked_softmax", "negative_sampling": "mixed"}, "no negatives"),
    ],
)
def test_a_model_of_a_wrong_spec_is_not_built(values, sentence):
    with pytest.raises(ConfigError, match=sentence):
        build_model(ModelSpec(**SPEC, **values), COUNTS)


def test_a_model_from_before_there_was_a_choice_loads_as_it_was(tmp_path):
    built = build_model(ModelSpec(**SPEC), COUNTS)
    save_model(built, tmp_path)
    described = json.loads((tmp_path / DESCRIPTION).read_text())
    older = {key: value for key, value in described.items() if key not in ("loss", "negative_sampling", "calibration")}
    assert len(older) == len(described) - 3
    (tmp_path / DESCRIPTION).write_text(json.dumps(older))
    assert load_model(tmp_path).spec == built.spec
    assert not [name for name in built.state_dict() if name.startswith("catalogue_loss")]


@pytest.mark.parametrize(("loss", "sampling"), PAIRS)
def test_every_choice_trains_every_parameter_and_is_decided_by_its_draws(loss, sampling):
    built = repeat_model(loss=loss, negative_sampling=sampling)
    batch = batch_of(*random_rows(4, n=3))
    values = [loss_of(built, batch, seed) for seed in (1, 1)]
    values[0].backward()
    assert torch.equal(*values)
    gradients = {name: parameter.grad for name, parameter in built.named_parameters()}
    assert [
        name for name, gradient in gradients.items() if gradient is None or not torch.isfinite(gradient).all()
    ] == []


@pytest.mark.parametrize("sampling", PARTS)
def test_each_loss_gets_the_draws_and_shares_of_its_sampling(sampling):
    random = torch.Generator().manual_seed(2)
    states, vectors, bias = (torch.randn(*shape, generator=random) for shape in ((3, 4), (8, 4), (8,)))
    scored = states, torch.tensor([0, 1, 1, 2]), torch.tensor([3, 4, 7, 5]), vectors, bias
    for loss in ("sampled_softmax", "gbce", "bce", "bpr"):
        chosen = CatalogueLoss(ModelSpec(**SPEC, loss=loss, negative_sampling=sampling, calibration=0.3), COUNTS)
        negatives = chosen.draw(scored[2], random)
        share = chosen.sampler.log_share
        expected = {
            "sampled_softmax": lambda drawn, share=share: sampled_softmax(*scored, share, drawn),
            "gbce": lambda drawn, share=share: gbce(*scored, share, drawn, 0.3),
            "bce": lambda drawn: bce(*scored, drawn),
            "bpr": lambda drawn: bpr(*scored, drawn),
        }
        assert torch.equal(chosen(*scored, negatives), expected[loss](negatives))
        assert negatives.shape == (5,)


@pytest.mark.parametrize("loss", ["softmax", "chunked_softmax"])
def test_a_whole_softmax_draws_nothing_and_knows_its_candidates(loss):
    chosen = CatalogueLoss(ModelSpec(**SPEC, loss=loss), COUNTS)
    none = chosen.draw(torch.tensor([3, 4]), torch.Generator())
    assert none.tolist() == []
    bias = torch.arange(8.0)
    one = torch.tensor([0])
    value = chosen(torch.zeros(1, 4), one, one + 5, torch.zeros(8, 4), bias, none)
    np.testing.assert_allclose(float(value), np.log(np.exp([3, 4, 5, 7]).sum()) - 5, rtol=1e-6)

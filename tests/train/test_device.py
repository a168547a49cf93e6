"""Where and how a model computes: the CPU's side of it. A GPU is not at hand here."""

import copy
from dataclasses import replace

import pytest
import torch

from behavior_lib.errors import ConfigError, EnvironmentProblem
from behavior_lib.models.base import ModelSpec
from behavior_lib.models.build import build_model
from behavior_lib.train.device import PlacedModel, device_of
from tests.sequences_example import habits, histories
from tests.train.test_fit import SETTINGS

LISTS = habits(6, 12, 30, 1)[0]


def placed(layers=2, name="transformer_repeat", **changes):
    torch.manual_seed(0)
    counts = torch.bincount(torch.tensor(LISTS).flatten(), minlength=34)
    spec = ModelSpec(name, 12, 34, 4, window=8, dimension=16, layers=layers, dropout=0.3, negatives=32)
    return PlacedModel(build_model(spec, counts), replace(SETTINGS, **changes))


def learnt(model, columns=12):
    """The loss of one batch of rows that have so many events, and all gradients."""
    loss = model.loss(model.prepare(histories([row[:columns] for row in LISTS], columns), 1, 2))
    loss.backward()
    return loss.detach(), {name: parameter.grad for name, parameter in model.model.named_parameters()}


def test_blocks_that_compute_once_more_give_the_same_loss_and_gradients():
    (loss, wanted), (again, found) = learnt(placed()), learnt(placed(recompute=True))
    assert torch.equal(loss, again)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_blocks_that_compute_once_more_keep_their_inputs_alone():
    x, rotation = torch.rand(3, 8, 16, requires_grad=True), torch.rand(2, 3, 1, 8, 8)

    def kept(**changes):
        sizes, model = [], placed(**changes).model
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: sizes.append(tensor.numel()), lambda _: None):
            model.encoder.blocks[0](x, rotation, None)
        return sum(sizes)

    assert kept(recompute=True) == x.numel() + rotation.numel()
    assert kept() > 10 * (x.numel() + rotation.numel())


def test_blocks_in_bfloat16_come_close_and_the_weights_stay_float32():
    (loss, wanted), (near, found) = learnt(placed()), learnt(placed(precision="bfloat16"))
    assert near.dtype == torch.float32
    assert 0 < abs(near - loss) < 0.02 * loss
    for name, gradient in found.items():
        assert gradient.dtype == torch.float32
        assert torch.nn.functional.cosine_similarity(gradient.flatten(), wanted[name].flatten(), 0) > 0.98
    model = placed(precision="bfloat16").model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.user_vectors(placed().prepare(histories(LISTS, 12), 1, 2).batch).dtype == torch.float32


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru", "cnn", "hstu"])
def test_every_encoder_computes_its_blocks_in_bfloat16(name):
    (loss, _), (near, found) = learnt(placed(name=name)), learnt(placed(name=name, precision="bfloat16"))
    assert near.dtype == torch.float32
    assert 0 < abs(near - loss) < 0.02 * loss
    assert {gradient.dtype for gradient in found.values() if gradient is not None} == {torch.float32}


@pytest.mark.slow
def test_compiled_blocks_give_the_same_loss():
    model, plain = placed(layers=1, compile=True), placed(layers=1)
    for each in (model, plain):
        each.model.eval()  # compiled dropout draws other numbers
    (loss, wanted), (found, gradients) = learnt(plain), learnt(model)
    torch.testing.assert_close(found, loss, rtol=1e-5, atol=0)
    for name in wanted:
        torch.testing.assert_close(gradients[name], wanted[name], rtol=1e-3, atol=1e-5)
    assert model.model.state_dict().keys() == plain.model.state_dict().keys()
    for each in (model, plain):
        each.model.train()
    for columns in (7, 5, 3):
        (found, gradients), (loss, _) = learnt(model, columns), learnt(plain, columns)
        assert 0 < abs(found - loss) < 0.2 * loss  # blocks drop a third of their numbers
        assert all(gradient.isfinite().all() for gradient in gradients.values())


def test_a_model_without_blocks_is_refused_what_is_for_blocks(monkeypatch):
    model = placed().model
    monkeypatch.setattr(type(model), "blocks", lambda self: [])
    with pytest.raises(ConfigError, match=r"no blocks for train\.recompute in model\.name: 'transformer_repeat'"):
        PlacedModel(model, replace(SETTINGS, recompute=True))
    PlacedModel(model, SETTINGS)


def test_what_is_drawn_follows_from_the_two_seeds():
    model, rows = placed(), histories(LISTS, 12)
    one, same, other = model.prepare(rows, 1, 2), model.prepare(rows, 1, 3), model.prepare(rows, 4, 2)
    assert torch.equal(one.drawn["negatives"], same.drawn["negatives"])
    assert not torch.equal(one.drawn["negatives"], other.drawn["negatives"])
    assert torch.equal(model.loss(one), model.loss(one))
    assert not torch.equal(model.loss(one), model.loss(same))


def test_every_tensor_of_a_batch_moves():
    prepared = placed().prepare(histories(LISTS, 12), 1, 2)
    moved = prepared.map(lambda tensor: tensor.to("meta"))
    del_seed = {name: tensor for name, tensor in moved.tensors().items() if name != "seed"}
    assert {tensor.device.type for tensor in del_seed.values()} == {"meta"}
    drawn = {"negatives", "boundaries", "done"}
    assert set(del_seed) == {"item_index", "event_type", "gap_seconds", "value", "hour_of_week", "length", *drawn}
    assert moved.seed == 2


def test_the_model_follows_its_twin():
    model = placed()
    assert model.twin is model.model
    model.twin = copy.deepcopy(model.model)
    with torch.no_grad():
        model.twin.bias.fill_(5.0)
    model.take_weights_of_twin()
    assert torch.equal(model.model.bias, model.twin.bias)


@pytest.mark.parametrize(
    ("name", "gpus", "local_rank", "device"),
    [("auto", 0, 0, "cpu"), ("cpu", 2, 1, "cpu"), ("auto", 2, 1, "cuda:1"), ("cuda", 2, 2, "cuda:0")],
)
def test_each_rank_takes_a_gpu_of_its_own_where_there_is_one(monkeypatch, name, gpus, local_rank, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert str(device_of(name, local_rank)) == device


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EnvironmentProblem, match=r"finds no GPU in train\.device: 'cuda'; --set train\.device=cpu"):
        device_of("cuda", 0)

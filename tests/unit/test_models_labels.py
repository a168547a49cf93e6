"""A head on user vectors: its loss by hand, labels that are not known, and what it writes."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from behavior_lib.errors import DataRefused
from behavior_lib.models.labels import HEAD, LABELS, LabelHead

NAN = float("nan")
IS_BINARY = torch.tensor([True, True, True, True, False])
BINARY = torch.tensor([True, False, True])
VECTORS = torch.tensor([[1.0, 2.0], [3.0, -2.0], [0.0, 1.0]])
VALUES = torch.tensor([[1.0, 10.0, NAN], [0.0, NAN, NAN], [1.0, 30.0, NAN]])


def head_of(hidden=0, seed=0):
    head = LabelHead(("old", "spent", "never"), BINARY, 2, hidden)
    torch.manual_seed(seed)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    return head


def test_the_loss_is_that_of_numpy_and_what_is_not_known_has_no_part():
    head = head_of()
    head.fit_to(VECTORS, VALUES)
    vectors = VECTORS.numpy().astype(float)
    standardised = (vectors - vectors.mean(0)) / vectors.std(0)
    weight, bias = (parameter.detach().numpy().astype(float) for parameter in head.parameters())
    told = standardised @ weight.T + bias
    probability = 1 / (1 + np.exp(-told[:, 0]))
    entropy = -np.mean([np.log(probability[0]), np.log(1 - probability[1]), np.log(probability[2])])
    # 10 and 30 have the mean 20 and the deviation 10; the third label is known of nobody.
    squares = np.mean([(told[0, 1] + 1) ** 2, (told[2, 1] - 1) ** 2])
    assert float(head.loss(VECTORS, VALUES).detach()) == pytest.approx((entropy + squares) / 2, rel=1e-5)
    answers = head.answers(VECTORS).detach().numpy()
    np.testing.assert_allclose(answers[:, 0], probability, rtol=1e-5)
    np.testing.assert_allclose(answers[:, 1], 20 + 10 * told[:, 1], rtol=1e-5)


def test_classes_are_one_label_whose_probabilities_add_up_to_one():
    """Three classes between a label that is binary and one that is a number."""
    head = LabelHead(("old", "red", "green", "blue", "spent"), IS_BINARY, 2, group=torch.tensor([0, 1, 1, 1, 0]))
    torch.manual_seed(0)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    values = torch.tensor([[1.0, 0, 1, 0, 4], [0, 1, 0, 0, 4], [1, NAN, NAN, NAN, 4]])
    told = head(VECTORS).detach().numpy().astype(float)
    entropy = -np.mean(np.log(1 / (1 + np.exp(-told[:, 0] * np.array([1, -1, 1])))))
    chance = np.exp(told[:, 1:4]) / np.exp(told[:, 1:4]).sum(1, keepdims=True)
    surprise = -(np.log(chance[0, 1]) + np.log(chance[1, 0])) / 2
    squares = np.mean((told[:, 4] - 4) ** 2)
    assert float(head.loss(VECTORS, values).detach()) == pytest.approx((entropy + surprise + squares) / 3, rel=1e-5)
    answers = head.answers(VECTORS).detach().numpy()
    np.testing.assert_allclose(answers[:, 1:4], chance, rtol=1e-5)
    np.testing.assert_allclose(answers[:, 0], 1 / (1 + np.exp(-told[:, 0])), rtol=1e-5)
    # Where nobody's class is known, it has no part.
    values[:, 1:4] = NAN
    assert float(head.loss(VECTORS, values).detach()) == pytest.approx((entropy + squares) / 2, rel=1e-5)


def test_a_head_from_before_classes_is_read(tmp_path):
    head = head_of()
    head.save(tmp_path)
    save_file({name: part for name, part in load_file(tmp_path / HEAD).items() if name != "group"}, tmp_path / HEAD)
    assert torch.equal(LabelHead.load(tmp_path).answers(VECTORS), head.answers(VECTORS))


def test_what_is_not_known_moves_nothing():
    head = head_of(hidden=4)
    head.loss(VECTORS, VALUES).backward()
    last = head.network[-1]
    assert last.weight.grad[:2].abs().sum(1).min() > 0
    assert not last.weight.grad[2].any()
    assert float(head.loss(VECTORS, torch.full((3, 3), NAN)).detach()) == 0


def test_before_it_has_learned_it_says_one_half_and_the_mean():
    head = LabelHead(("old", "spent", "never"), BINARY, 2)
    head.fit_to(VECTORS, VALUES)
    assert head.answers(VECTORS).tolist() == [[0.5, 20.0, 0.5]] * 3
    same = torch.ones(3, 2)
    head.fit_to(same, torch.full((3, 3), 4.0))
    assert head.answers(same).isfinite().all()


@pytest.mark.parametrize("hidden", [0, 5])
def test_what_was_saved_answers_alike(hidden, tmp_path):
    head = head_of(hidden)
    head.fit_to(VECTORS, VALUES)
    head.save(tmp_path)
    loaded = LabelHead.load(tmp_path)
    assert loaded.names == head.names
    assert torch.equal(loaded.answers(VECTORS), head.answers(VECTORS))
    assert json.loads((tmp_path / LABELS).read_text()) == {
        "labels": ["old", "spent", "never"],
        "dimension": 2,
        "hidden": hidden,
    }
    (tmp_path / HEAD).write_bytes(b"")
    with pytest.raises(DataRefused, match="no whole head in .*; run fine_tune again"):
        LabelHead.load(tmp_path)

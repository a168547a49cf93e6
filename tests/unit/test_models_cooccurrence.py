import numpy as np
import torch

from behavior_lib.models.cooccurrence import (
    INSTANT_REGULARISATION,
    ITEM_REGULARISATION,
    cooccurrence_vectors,
)


def baskets(seed: int, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Items 3 to 7 are mostly bought together, and 8 to 12 are; some baskets hold any; item 13 is in none."""
    draw = np.random.default_rng(seed)
    pairs = []
    for basket in range(n):
        choice = {0: range(3, 13), 1: range(3, 8), 2: range(3, 8)}.get(basket % 5, range(8, 13))
        pairs += [(item, basket * 7) for item in draw.choice(choice, draw.integers(2, 5), replace=False)]
    item, instant = zip(*pairs, strict=True)
    return torch.tensor(item), torch.tensor(instant)


def test_vectors_equal_numpys_decomposition():
    item, instant = baskets(1, 40)
    matrix = np.zeros((14, 40))
    for i, j in zip(item.tolist(), instant.tolist(), strict=True):
        matrix[i, j // 7] += 1
    scale = np.sqrt(np.outer(matrix.sum(1) + ITEM_REGULARISATION, matrix.sum(0) + INSTANT_REGULARISATION))
    left, values, _ = np.linalg.svd(matrix / scale, full_matrices=False)
    expected = left[:, 1:10] * values[1:10]
    expected /= np.maximum(np.linalg.norm(expected, axis=1, keepdims=True), 1e-12)
    found = cooccurrence_vectors(item, instant, 14, 9, seed=0).numpy().astype(np.float64)
    known = slice(3, 13)
    np.testing.assert_allclose(found[known] @ found[known].T, expected[known] @ expected[known].T, atol=2e-3)
    assert np.linalg.norm(found[[0, 1, 2, 13]]) < 1e-3


def test_what_is_bought_together_lies_together():
    vectors = cooccurrence_vectors(*baskets(2, 200), 14, 1, seed=0)
    likeness = vectors[3:13] @ vectors[3:13].T
    same = torch.block_diag(torch.ones(5, 5), torch.ones(5, 5)).bool()
    assert likeness[same].min() > likeness[~same].max()


def test_it_is_decided_by_its_seed_and_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = cooccurrence_vectors(*baskets(3, 50), 14, 4, seed=1)
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first, cooccurrence_vectors(*baskets(3, 50), 14, 4, seed=1))


def test_few_instants_leave_columns_empty():
    vectors = cooccurrence_vectors(torch.tensor([3, 4, 4, 5]), torch.tensor([0, 0, 1, 1]), 8, 6, seed=0)
    assert vectors.shape == (8, 6)
    assert torch.equal(vectors[:, 1:], torch.zeros(8, 5))

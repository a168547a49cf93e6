import numpy as np
import torch

from behavior_lib.models.cooccurrence import (
    HISTORY_REGULARISATION,
    INSTANT_REGULARISATION,
    ITEM_REGULARISATION,
    cooccurrence_vectors,
    starting_vectors,
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


def numpys(item, instant, n_items, dimension):
    """What `cooccurrence_vectors` is to find, by numpy's decomposition of the whole matrix. Returns the products."""
    _, group = np.unique(instant.numpy(), return_inverse=True)
    matrix = np.zeros((n_items, group.max() + 1))
    np.add.at(matrix, (item.numpy(), group), 1)
    scale = np.sqrt(np.outer(matrix.sum(1) + ITEM_REGULARISATION, matrix.sum(0) + INSTANT_REGULARISATION))
    left, values, _ = np.linalg.svd(matrix / scale, full_matrices=False)
    expected = left[:, 1 : dimension + 1] * values[1 : dimension + 1]
    expected[matrix.sum(1) == 0] = 0
    expected /= np.maximum(np.linalg.norm(expected, axis=1, keepdims=True), 1e-12)
    return expected @ expected.T


def test_vectors_equal_numpys_decomposition():
    item, instant = baskets(1, 40)
    found = cooccurrence_vectors(item, instant, 14, 9, INSTANT_REGULARISATION, seed=0).numpy().astype(np.float64)
    np.testing.assert_allclose(found @ found.T, numpys(item, instant, 14, 9), atol=2e-3)
    assert np.linalg.norm(found[[0, 1, 2, 13]]) < 1e-3


def test_vectors_equal_numpys_where_no_few_of_them_stand_out():
    """300 items without any structure: the singular values fall slowly, and a rough decomposition is its seed's."""
    draw = np.random.default_rng(6)
    item, instant = (torch.from_numpy(draw.integers(low, high, 4000)) for low, high in ((3, 300), (0, 1500)))
    expected = numpys(item, instant, 300, 24)
    for seed in (1, 2):
        found = cooccurrence_vectors(item, instant, 300, 24, INSTANT_REGULARISATION, seed).numpy()
        assert np.abs(found @ found.T - expected).mean() < 0.001 < 0.15 < np.abs(expected).mean()


def test_what_is_bought_together_lies_together():
    vectors = cooccurrence_vectors(*baskets(2, 200), 14, 1, INSTANT_REGULARISATION, seed=0)
    likeness = vectors[3:13] @ vectors[3:13].T
    same = torch.block_diag(torch.ones(5, 5), torch.ones(5, 5)).bool()
    assert likeness[same].min() > likeness[~same].max()


def test_it_is_decided_by_its_seed_and_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = cooccurrence_vectors(*baskets(3, 50), 14, 4, 10.0, seed=1)
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first, cooccurrence_vectors(*baskets(3, 50), 14, 4, 10.0, seed=1))


def test_few_instants_leave_columns_empty():
    vectors = cooccurrence_vectors(torch.tensor([3, 4, 4, 5, 6, 6]), torch.arange(6) // 2, 8, 6, 10.0, seed=0)
    assert vectors[[3, 4, 5, 6], 0].abs().tolist() == [1, 1, 1, 1]
    assert torch.equal(vectors[:, 1:], torch.zeros(8, 5))
    alone = cooccurrence_vectors(torch.tensor([3, 4, 4, 5]), torch.arange(4) // 2, 8, 6, 10.0, seed=0)
    assert torch.equal(alone, torch.zeros(8, 6))


def test_groups_that_are_all_alike_say_nothing():
    """One singular value alone is not 0, and that follows the counts."""
    vectors = cooccurrence_vectors(torch.tensor([3, 4, 5] * 200), torch.arange(600) // 3, 100, 64, 10.0, seed=0)
    assert torch.equal(vectors, torch.zeros(100, 64))


def test_half_of_the_columns_tells_instants_and_the_other_half_histories():
    item, instant = baskets(4, 60)
    history = instant // 21  # three baskets each
    found = starting_vectors(item, instant, history, 14, 5, seed=2)
    of_instants = cooccurrence_vectors(item, instant, 14, 3, INSTANT_REGULARISATION, seed=2)
    of_histories = cooccurrence_vectors(item, history, 14, 2, HISTORY_REGULARISATION, seed=2)
    torch.testing.assert_close(found, torch.cat([of_instants, of_histories], 1) / 2**0.5, rtol=0, atol=1e-6)
    torch.testing.assert_close(found[3:13].norm(dim=1), torch.ones(10))


def test_what_the_same_people_buy_lies_together_though_never_in_one_basket():
    """Items 3 and 4 are bought by one kind of people, 5 and 6 by the other, a few by both, and always one at a time."""
    item = torch.tensor([*[3, 4, 5, 6] * 50, *[3, 5, 4, 6] * 5])
    history = torch.arange(len(item)) // 2
    found = starting_vectors(item, torch.arange(len(item)), history, 8, 1, seed=0)
    assert found[[3, 4, 5, 6], 0].sign().unique(return_counts=True)[1].tolist() == [2, 2]
    assert found[3, 0] == found[4, 0] == -found[5, 0] == -found[6, 0]
    assert found[[3, 4, 5, 6], 0].abs().tolist() == [1, 1, 1, 1]


def test_an_event_beside_no_other_says_nothing():
    """Item 7 is always alone in its instant, 8 in its history; a seldom event alone changes no other vector."""
    item, instant = baskets(5, 40)
    history = instant // 14
    one = torch.tensor([7, 8])
    found = starting_vectors(
        torch.cat([item + 10, one]),
        torch.cat([instant, torch.tensor([1001, 2001])]),
        torch.cat([history, torch.tensor([0, 999])]),
        24,
        4,
        seed=0,
    )
    assert found[7, :2].tolist() == [0, 0]
    assert found[7, 2:].norm() > 0.5
    assert found[8].tolist() == [0, 0, 0, 0]
    alone = starting_vectors(item + 10, instant, history, 24, 4, seed=0)
    likeness = [each[10:, :2] @ each[10:, :2].T for each in (found, alone)]
    torch.testing.assert_close(*likeness, rtol=0, atol=1e-4)


def test_where_nothing_is_together_there_is_no_vector():
    found = starting_vectors(torch.tensor([3, 4]), torch.tensor([0, 1]), torch.tensor([0, 1]), 8, 4, seed=0)
    assert torch.equal(found, torch.zeros(8, 4))

"""Events in order, and the instants that they make."""

import numpy as np

from behavior_lib.evaluation.interactions import Interactions

USERS, ITEMS, TIMES = np.array([2, 0, 2, 2, 2, 0]), np.array([5, 4, 3, 3, 3, 4]), np.array([7, 9, 7, 1, 7, 8])


def test_events_are_ordered_by_user_and_time():
    found = Interactions.from_events(USERS, ITEMS, TIMES, 4, np.array([3, 2]))
    assert found.offsets.tolist() == [0, 2, 2, 6, 6]
    assert (found.item.tolist(), found.time.tolist()) == ([4, 4, 3, 3, 3, 5], [8, 9, 1, 7, 7, 7])
    assert (found.item.dtype, found.time.dtype, found.n_users) == (np.int32, np.int64, 4)
    assert found.user.tolist() == [0, 0, 2, 2, 2, 2]
    assert found.popularity(7).tolist() == [0, 0, 0, 3, 2, 1, 0]


def test_order_of_the_rows_is_nothing_where_there_are_times():
    shuffle = np.array([4, 2, 5, 0, 3, 1])
    one = Interactions.from_events(USERS, ITEMS, TIMES, 4, np.arange(4))
    other = Interactions.from_events(USERS[shuffle], ITEMS[shuffle], TIMES[shuffle], 4, np.arange(4))
    assert np.array_equal(one.item, other.item)
    assert np.array_equal(one.time, other.time)


def test_places_are_the_times_of_data_without():
    found = Interactions.from_events(USERS, ITEMS, None, 3, np.arange(3))
    assert (found.item.tolist(), found.time.tolist()) == ([4, 4, 5, 3, 3, 3], [0, 1, 0, 1, 2, 3])
    assert found.baskets(6).offsets.tolist() == [0, 2, 2, 6]


def test_instants_are_sets_and_never_join_two_users():
    users, items, times = np.array([0, 0, 1, 1, 1]), np.array([3, 4, 4, 3, 3]), np.array([5, 7, 7, 7, 9])
    baskets = Interactions.from_events(users, items, times, 3, np.arange(3)).baskets(5)
    assert baskets.offsets.tolist() == [0, 2, 4, 4]
    assert baskets.items.toarray()[:, 3:].tolist() == [[1, 0], [0, 1], [1, 1], [1, 0]]
    assert (baskets.user.tolist(), baskets.age.tolist()) == ([0, 0, 1, 1], [1, 0, 1, 0])
    weighted = baskets.weighted(np.array([1.0, 10.0, 0.0, 1000.0]))
    assert weighted.toarray()[:, 3:].tolist() == [[1, 10], [1000, 0], [0, 0]]
    assert np.diff(weighted.indptr).tolist() == [2, 1, 0]


def test_an_item_had_twice_is_had():
    found = Interactions.from_events(USERS, ITEMS, TIMES, 3, np.arange(3)).had(6)
    assert found.toarray()[:, 3:].tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 1]]


def test_nobody_has_had_anything():
    nothing = np.zeros(0, dtype=np.int64)
    found = Interactions.from_events(nothing, nothing, nothing, 2, np.arange(2))
    assert (found.offsets.tolist(), found.had(4).nnz, found.baskets(4).items.shape) == ([0, 0, 0], 0, (0, 4))

"""The map and the neighbours."""

import numpy as np
import pytest

from behavior_lib.report.item_map import draw_map
from behavior_lib.report.projection import nearest, project
from tests.report_example import vectors


def test_neighbours_are_by_cosine_not_by_length():
    points = np.array([[1.0, 0.0], [50.0, 1.0], [0.9, 0.9], [0.0, 1.0]])
    found = nearest(points, 0, 2)
    assert [index for index, _ in found] == [1, 2]
    assert [round(value, 4) for _, value in found] == [0.9998, 0.7071]


def test_equal_neighbours_come_in_order_and_the_item_is_not_its_own():
    assert [index for index, _ in nearest(np.ones((4, 2)), 1, 10)] == [0, 2, 3]


@pytest.mark.parametrize("count", [3, 5, 12, 40])
def test_every_item_has_a_place_in_the_square(count):
    places = project(vectors(count).vectors)
    assert places.shape == (count, 2)
    assert np.isfinite(places).all()
    assert places.min() >= 0
    assert places.max() <= 1


def test_groups_that_point_two_ways_lie_apart():
    places = project(vectors(40).vectors)
    odd, even = places[1::2], places[::2]
    apart = np.linalg.norm(odd.mean(axis=0) - even.mean(axis=0))
    assert apart > 2 * max(np.linalg.norm(group - group.mean(axis=0), axis=1).mean() for group in (odd, even))


def test_the_same_vectors_give_the_same_map():
    assert np.array_equal(project(vectors(40).vectors), project(vectors(40).vectors))


def test_vectors_that_are_all_alike_do_not_break_the_map():
    assert np.isfinite(project(np.ones((20, 4)))).all()
    assert np.isfinite(project(np.zeros((20, 4)))).all()


def test_large_groups_get_a_colour_and_the_small_ones_share_the_last():
    items = vectors(40)
    many = (*(f"group {number // 4}" for number in range(38)), "", "")
    drawn = draw_map(type(items)(items.ids, items.names, many, items.events, items.vectors, "department"))
    assert drawn is not None
    assert [group.name for group in drawn.groups] == [*(f"group {number}" for number in range(7)), "all others"]
    assert drawn.groups[-1].items == 12
    assert sum(group.items for group in drawn.groups) == len(drawn.dots) == 40
    assert drawn.dots[39].colour == 7
    assert drawn.labels[3] == ("item 3", "group 0", "37 events")


def test_two_items_are_no_map():
    assert draw_map(vectors(2)) is None

"""What is read of items beside their ids."""

import numpy as np
import pytest

from behavior_lib.data.snapshot import TrainCounts
from behavior_lib.errors import ConfigError
from behavior_lib.spark.item_attributes import groupings, with_attributes
from behavior_lib.spark.schema import rows_frame
from behavior_lib.tables import ITEMS

pytestmark = pytest.mark.spark
COUNTS = TrainCounts(np.array([0, 0, 0, 4, 2, 1]), 4, 8, 30, 10)


@pytest.fixture(scope="module")
def items(spark):
    """Item 6 came after the cut, and item 5 has no brand."""
    attributes = {
        "c": {"category": "tea"},
        "a": {"category": "tea", "brand": "own"},
        "d": {"category": "cola", "brand": "own"},
        "b": {"category": "cola", "brand": "own"},
    }
    numbers = {"a": 3, "b": 4, "c": 5, "d": 6}
    rows = [
        {ITEMS.item_id: name, ITEMS.item_index: numbers[name], ITEMS.n_events: 1, ITEMS.attributes: values}
        for name, values in attributes.items()
    ]
    return rows_frame(spark, ITEMS, rows)


def test_the_items_of_train_have_numbers_of_their_values(items):
    found = with_attributes(COUNTS, items, ["brand", "category"])
    assert found.attributes.tolist() == [[0, 0], [0, 0], [0, 0], [3, 4], [3, 0], [0, 4]]
    assert found.attribute_values == 5
    assert with_attributes(COUNTS, items, []) is COUNTS


def test_items_are_grouped_by_their_values(items):
    found = groupings(items, ["category", "brand"], 8)
    assert {name: grouping.number.tolist() for name, grouping in found.items()} == {
        "category": [0, 0, 0, 2, 1, 2, 1, 0],
        "brand": [0, 0, 0, 1, 1, 0, 1, 0],
    }
    assert groupings(items, [], 8) == {}


def test_an_attribute_that_no_item_has_is_told(items):
    with pytest.raises(ConfigError, match=r"no item has this attribute .*categry.*did you mean category\?"):
        with_attributes(COUNTS, items, ["categry"])
    with pytest.raises(ConfigError, match=r"'colour'; there are: brand, category$"):
        with_attributes(COUNTS, items, ["colour"])
    with pytest.raises(ConfigError, match=r"attribute in evaluate.calibration_attributes: 'colour'; there are"):
        groupings(items, ["brand", "colour"], 8)

"""What the source's item file says of items, and vectors on their way from it to training."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behavior_lib.config.schema import VocabularyConfig
from behavior_lib.config.source import ItemsConfig
from behavior_lib.data.snapshot import TrainCounts
from behavior_lib.errors import ConfigError, DataRefused
from behavior_lib.spark.dimension import read_dimension
from behavior_lib.spark.item_attributes import with_vectors
from behavior_lib.spark.tables import Tables
from behavior_lib.spark.vocabulary import write_items
from behavior_lib.tables import ITEMS
from tests.spark.conftest import event

pytestmark = pytest.mark.spark

VECTORS = {"text": "text", "picture": "picture"}


def items_of(path: Path, vectors: dict[str, str] = VECTORS, **values) -> ItemsConfig:
    return ItemsConfig(**{"format": "parquet", "path": str(path), "item_id": "sku", "vectors": vectors, **values})


def write(path: Path, text: list, picture: list, skus: str = "abcd") -> None:
    columns = {"sku": list(skus), "text": pa.array(text, pa.list_(pa.float32()))}
    pq.write_table(pa.table({**columns, "picture": pa.array(picture, pa.list_(pa.float64()))}), path)


def test_item_files_give_one_row_an_item(spark, tmp_path: Path):
    (tmp_path / "items.csv").write_text("sku,name\na,Apple\na,Aardvark\nb,\n")
    items = items_of(tmp_path, {}, format="csv", options={"header": "true"}, attributes={"name": "name"})
    rows = {row.item_id: (row.attributes, row.vectors) for row in read_dimension(spark, items).collect()}
    assert rows == {"a": ({"name": "Aardvark"}, None), "b": ({}, None)}


def test_of_two_rows_of_an_item_the_smaller_vectors_stand_and_null_is_none(spark, tmp_path: Path):
    write(tmp_path / "items.parquet", [[2, 0], [1, 9], None, [1, 5]], [[1], [2], None, [0.5]], "aaba")
    rows = {row.item_id: row for row in read_dimension(spark, items_of(tmp_path)).collect()}
    assert {name: row.vectors for name, row in rows.items()} == {"a": {"text": [1, 5], "picture": [0.5]}, "b": {}}
    assert rows["a"].attributes is None


def test_vectors_go_from_the_file_to_the_array_that_training_gets(spark, events, tmp_path: Path):
    text, picture = [[3, 4], [0, 0], None, [7, 7]], [[0.1], None, [0.5], [9.0]]
    write(tmp_path / "items.parquet", text, picture)
    tables = Tables(spark, str(tmp_path / "warehouse"))
    # d comes after the cut, e is not in the file.
    seen = events(*(event("u", f"2017-01-0{day} 12:00:00", item_id=item) for day, item in enumerate("abced", 1)))
    write_items(tables, seen, read_dimension(spark, items_of(tmp_path)), VocabularyConfig())
    counts = TrainCounts(np.array([0, 0, 0, 1, 2, 1, 1]), 4, 8, 30, 10)
    found = with_vectors(counts, tables.read(ITEMS), ["picture", "text"])
    assert (list(found.vectors), found.vector_widths) == (["picture", "text"], [1, 2])
    expected = np.zeros((7, 3))
    expected[[3, 5], 0] = [-1, 1]  # .1 and .5: .3 in the middle, .2 on either side
    expected[[3, 4], 1:] = [[0.6, 0.8], [-0.6, -0.8]]
    np.testing.assert_allclose(found.arrays()["given_vectors"], expected, atol=1e-6)
    assert with_vectors(counts, tables.read(ITEMS), []) is counts

    # Without an item file what is known stays; with one its word stands.
    write_items(tables, seen, None, VocabularyConfig())
    again = with_vectors(counts, tables.read(ITEMS), ["picture", "text"])
    np.testing.assert_array_equal(again.arrays()["given_vectors"], found.arrays()["given_vectors"])
    write_items(tables, seen, read_dimension(spark, items_of(tmp_path, {"text": "text"})), VocabularyConfig())
    with pytest.raises(ConfigError, match=r"this vector in model.item_vectors: 'picture'; there are: text$"):
        with_vectors(counts, tables.read(ITEMS), ["text", "picture"])
    with pytest.raises(ConfigError, match=r"no item has this vector .*: 'txt'; did you mean text\?"):
        with_vectors(counts, tables.read(ITEMS), ["txt"])


@pytest.mark.parametrize(
    ("vector", "sentence"),
    [
        ([1.0, None], r"of item 'b' holds a null or a number that is not finite in items.vectors.picture: nan"),
        ([1.0, 1e300], r"of item 'b' holds a null or a number that is not finite in items.vectors.picture: inf"),
        ([1.0], r"of item 'b' is empty or not as wide as that of item 'a', 2 in items.vectors.picture: 1"),
    ],
)
def test_a_vector_that_cannot_be_read_is_refused_with_its_item(spark, events, tmp_path: Path, vector, sentence):
    write(tmp_path / "items.parquet", [None] * 2, [[0, 1], vector], "ab")
    tables = Tables(spark, str(tmp_path / "warehouse"))
    seen = events(*(event("u", f"2017-01-0{day} 12:00:00", item_id=item) for day, item in enumerate("ab", 1)))
    write_items(tables, seen, read_dimension(spark, items_of(tmp_path)), VocabularyConfig())
    counts = TrainCounts(np.array([0, 0, 0, 1]), 4, 8, 30, 10)
    with pytest.raises(DataRefused, match=sentence):
        with_vectors(counts, tables.read(ITEMS), ["picture"])


def test_what_is_no_array_of_numbers_is_refused_with_the_mend(spark, tmp_path: Path):
    write(tmp_path / "items.parquet", [[1]], [[1]], "a")
    for sql, kind in (("sku", "string"), ("array(sku)", "array<string>"), ("text[0]", "float")):
        with pytest.raises(ConfigError, match=f"no array of numbers in items.vectors.text: '{kind}'; give .*from_json"):
            read_dimension(spark, items_of(tmp_path, {"text": sql}))
    parsed = items_of(tmp_path, {"text": "from_json('[1, 2.5]', 'array<double>')"})
    assert read_dimension(spark, parsed).collect()[0].vectors == {"text": [1.0, 2.5]}

"""Rare items share numbers: how the hash is made, what a model reads of them, and that nobody is shown one."""

import json
import subprocess

import numpy as np
import pytest
import torch

from behavior_lib.data.histories import Histories, unknown_times
from behavior_lib.errors import DataRefused
from behavior_lib.inference.encoder import Encoder
from behavior_lib.inference.raw import to_histories
from behavior_lib.inference.renumber import Renumbering
from behavior_lib.inference.vocabulary import Vocabulary
from behavior_lib.models.base import ModelSpec
from behavior_lib.models.build import build_model
from behavior_lib.tables.buckets import Buckets

TYPES = [("view", 3)]
TABLES = Vocabulary.from_pairs([("apple", 3), ("pear", 9), ("plum", 10)], TYPES, [Buckets(4, 5), Buckets(11, 2)])
COUNTS = np.array([0, 0, 0, 7, 0, 1, 2, 0, 0, 0, 4])


def test_the_bucket_is_the_first_32_bits_of_sha256():
    for name, count in (("apple", 5), ("ítem 🍐", 1000), ("", 7)):
        written = subprocess.run(["sha256sum"], input=name.encode(), capture_output=True, check=True).stdout
        assert Buckets(20, count).index_of(name) == 20 + int(written[:8], 16) % count
    assert Buckets(3, 5).index_of("None") == 2


def test_what_is_reserved_is_read_back_from_the_properties_of_the_table():
    reserved = (Buckets(3, 1), Buckets(100, 1024))
    properties = {f"delta.constraints.{name}": sql for name, sql in (each.check for each in reserved[::-1])}
    assert Buckets(100, 1024).check == ("buckets_from_100", "item_index NOT BETWEEN 100 AND 1123")
    assert Buckets.recorded({**properties, "delta.constraints.numbered": "item_index >= 3"}) == reserved


def test_a_model_names_what_it_has_learnt_and_the_rest_is_rare():
    model = TABLES.learnt(COUNTS)
    assert model == Vocabulary((None,) * 3 + ("apple",) + (None,) * 6 + ("plum",), TABLES.event_types, (Buckets(4, 5),))
    rare = [Buckets(4, 5).index_of(name) for name in ("pear", "never seen")]
    found = to_histories({"item_id": [["apple", "pear", "plum", "never seen", None, "None"]]}, model, 6)
    assert found.item_index.tolist() == [[3, rare[0], 10, rare[1], 2, 2]]
    without = TABLES.learnt(COUNTS * (np.arange(11) % 7 == 3))
    assert without.buckets == ()
    assert without.item_indexes(["apple", "pear", "never seen"]).tolist() == [3, 2, 2]


def test_buckets_survive_the_file_and_older_files_have_none(tmp_path):
    TABLES.save(tmp_path)
    assert Vocabulary.load(tmp_path) == TABLES
    assert len(TABLES.item_ids) == 13
    path = tmp_path / "vocabulary.json"
    stored = json.loads(path.read_text())
    del stored["buckets"]
    path.write_text(json.dumps(stored))
    assert Vocabulary.load(tmp_path).buckets == ()


def test_buckets_of_one_count_are_the_same_and_others_are_unknown():
    model = Vocabulary.from_pairs([("plum", 3)], TYPES, [Buckets(4, 5)])
    pear, apple = (model.buckets[0].index_of(name) for name in ("pear", "apple"))
    numbers = Renumbering.between(TABLES, model)
    assert numbers.items.tolist() == [0, 1, 2, apple, 4, 5, 6, 7, 8, pear, 3, 2, 2]
    scores = np.arange(9, dtype=np.float32)[None]
    assert np.flatnonzero(numbers.scores(scores)[0] == 3).tolist() == [10]


def test_a_bucket_is_read_and_never_shown():
    torch.manual_seed(3)
    spec = ModelSpec("transformer_repeat", length=4, n_items=11, n_event_types=4, dimension=8, heads=1, layers=1)
    model = build_model(spec, torch.from_numpy(COUNTS))
    encoder = Encoder(model, TABLES.learnt(COUNTS))
    items = np.array([[3, 5, 10, 6], [3, 2, 10, 2]], dtype=np.int32)
    given = Histories(
        items, items * 0 + 3, items * 0, items * np.float32(0), np.array([4, 4], dtype=np.int32), unknown_times(2)
    )
    assert not np.allclose(*encoder.encode(given))
    assert encoder.known_items.tolist() == [3, 10]
    assert [sorted(names) for names in encoder.next_items(given, 10)[0]] == [["apple", "plum"]] * 2
    assert np.isfinite(encoder.scores(given)).sum(axis=0).nonzero()[0].tolist() == [3, 10]
    with pytest.raises(DataRefused, match="the model knows items that have no name"):
        Encoder(model, Vocabulary(TABLES.item_ids, TABLES.event_types))

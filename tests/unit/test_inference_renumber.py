"""A model of another warehouse reads and answers with the numbers of this one."""

import numpy as np

from behavior_lib.data.histories import Histories, unknown_times
from behavior_lib.inference.renumber import Renumbering, same_names
from behavior_lib.inference.vocabulary import Vocabulary
from behavior_lib.tables.buckets import Buckets

TABLES = Vocabulary.from_pairs([("apple", 3), ("pear", 4), ("plum", 5), ("new", 6)], [("view", 3), ("buy", 4)])
MODEL = Vocabulary.from_pairs([("plum", 3), ("apple", 4), ("gone", 5)], [("buy", 3)])


def histories(items, types):
    items, types = np.array([items], dtype=np.int32), np.array([types], dtype=np.int32)
    return Histories(items, types, items * 0, items.astype(np.float32), np.array([4], dtype=np.int32), unknown_times(1))


def test_names_keep_their_meaning_and_the_rest_is_unknown():
    numbers = Renumbering.between(TABLES, MODEL)
    given = histories([3, 4, 5, 6, 99, 2, 1, 0], [3, 4, 7, 2, 0, 0, 0, 0])
    read = numbers.histories(given)
    assert read.item_index.tolist() == [[4, 2, 3, 2, 2, 2, 1, 0]]
    assert read.event_type.tolist() == [[2, 3, 2, 2, 0, 0, 0, 0]]
    assert read.value is given.value


def test_scores_come_back_in_the_tables_order():
    numbers = Renumbering.between(TABLES, MODEL)
    scores = np.array([[-np.inf, -np.inf, -np.inf, 0.3, 0.4, 0.5]], dtype=np.float32)
    never = -np.inf
    assert numbers.scores(scores).tolist() == [[never, never, never, np.float32(0.4), never, np.float32(0.3), never]]


def test_the_same_warehouse_changes_nothing_but_adds_what_is_new():
    older = Vocabulary(TABLES.item_ids[:5], TABLES.event_types)
    numbers = Renumbering.between(TABLES, older)
    assert numbers.items.tolist() == [0, 1, 2, 3, 4, 2, 2]
    assert numbers.event_types.tolist() == [0, 1, 2, 3, 4]
    scores = np.random.default_rng(0).random((2, 5)).astype(np.float32)
    assert np.array_equal(numbers.scores(scores)[:, 3:5], scores[:, 3:5])
    assert np.isneginf(numbers.scores(scores)[:, 5:]).all()


def test_the_same_names_are_found_and_nothing_else():
    items, types = same_names(TABLES, MODEL)
    assert items.tolist() == [0, 1, 2, 4, -1, 3, -1]
    assert types.tolist() == [0, 1, 2, -1, 3]
    assert (items.dtype, types.dtype) == (np.int64, np.int64)


def test_buckets_are_the_same_where_there_are_as_many_and_no_item_is_its_bucket():
    tables = Vocabulary.from_pairs([("apple", 3), ("pear", 6)], [], [Buckets(4, 2)])
    assert same_names(tables, Vocabulary.from_pairs([("apple", 5)], [], [Buckets(3, 2)]))[0].tolist() == [
        *(0, 1, 2, 5),
        *(3, 4),
        -1,
    ]
    assert same_names(tables, Vocabulary.from_pairs([], [], [Buckets(3, 3)]))[0].tolist() == [0, 1, 2, *[-1] * 4]

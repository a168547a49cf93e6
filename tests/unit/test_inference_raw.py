"""Raw histories to arrays, against a plain reading of the rules, and complaints about bad frames."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis.strategies import integers, lists

from behavior_lib.errors import DataRefused
from behavior_lib.inference.raw import to_histories
from behavior_lib.inference.vocabulary import Vocabulary

VOCABULARY = Vocabulary.from_pairs([("apple", 3), ("🍐", 5), ("None", 4)], [("view", 3), ("buy", 4)])
SECOND = 1_000_000


def convert(length=4, **columns):
    return to_histories(columns, VOCABULARY, length)


def test_names_become_indexes_and_the_rest_is_padding():
    histories = convert(
        user_id=["a"],
        item_id=[["apple", "🍐", "new"]],
        event_type=[["view", "buy", "fly"]],
        event_time=[[10 * SECOND, 10 * SECOND + 1_999_999, 70 * SECOND]],
        value=[[1.5, None, 2.0]],
    )
    assert histories.item_index.tolist() == [[3, 5, 2, 0]]
    assert histories.event_type.tolist() == [[3, 4, 2, 0]]
    assert histories.gap_seconds.tolist() == [[0, 1, 59, 0]]
    assert histories.value.tolist() == [[1.5, 0, 2, 0]]
    assert histories.length.tolist() == [3]


def test_types_are_those_of_the_model():
    histories = convert(item_id=[["apple"]], event_time=[[1]], value=[[1.0]])
    assert [histories.item_index.dtype, histories.gap_seconds.dtype, histories.length.dtype] == [np.int32] * 3
    assert histories.value.dtype == np.float32


def test_only_the_newest_events_stay_and_the_oldest_of_them_keeps_its_gap():
    names = ["apple", "🍐", "apple", "None", "🍐", "🍐"]
    times = [SECOND * at for at in (0, 5, 7, 20, 21, 25)]
    histories = convert(item_id=[names], event_time=[times])
    assert histories.item_index.tolist() == [[3, 4, 5, 5]]
    assert histories.gap_seconds.tolist() == [[2, 13, 1, 4]]
    assert histories.length.tolist() == [4]


@pytest.mark.parametrize("nothing", [None, [], np.array([], dtype=object), float("nan")])
def test_no_history_is_a_row_of_padding(nothing):
    histories = convert(user_id=["a", "b"], item_id=[nothing, ["apple"]], event_time=[None, [5]])
    assert histories.length.tolist() == [0, 1]
    assert histories.item_index.tolist() == [[0, 0, 0, 0], [3, 0, 0, 0]]


def test_absent_columns_and_null_cells_are_unknown_types_and_zeros():
    histories = convert(item_id=[["apple", None]], event_type=[None])
    assert histories.item_index.tolist() == [[3, 2, 0, 0]]
    assert histories.event_type.tolist() == [[2, 2, 0, 0]]
    assert not histories.gap_seconds.any()
    assert not histories.value.any()
    assert np.isnat(histories.first_event_time).all()
    assert convert(item_id=[["apple"]]).event_type.tolist() == [[2, 0, 0, 0]]


def test_values_are_finite_as_those_of_sequences_are():
    values = convert(item_id=[["apple"] * 4], value=[[float("nan"), float("inf"), -1e39, 2.5]]).value
    most = np.finfo(np.float32).max
    assert values.tolist() == [[0.0, most, -most, 2.5]]


def test_a_gap_too_long_for_32_bits_is_the_longest_one():
    assert convert(item_id=[["apple"] * 2], event_time=[[0, 10**17]]).gap_seconds[0, 1] == 2**31 - 1


def test_arrays_and_lists_are_read_alike():
    random = np.random.default_rng(5)
    names = ["apple", "🍐", "other", "None"]
    rows = [list(random.choice(names, size)) for size in random.integers(0, 9, 30)]
    times = [sorted(random.integers(0, 10**9, len(row)).tolist()) for row in rows]
    lists = convert(item_id=rows, event_time=times)
    frame = pd.DataFrame({"item_id": [np.array(row, dtype=object) for row in rows], "event_time": map(np.array, times)})
    arrays = convert(**{name: frame[name].tolist() for name in frame})
    for field in ("item_index", "gap_seconds", "length"):
        assert np.array_equal(getattr(lists, field), getattr(arrays, field))
    for row, (items, moments) in enumerate(zip(rows, times, strict=True)):
        known = [VOCABULARY.item_ids.index(name) if name in VOCABULARY.item_ids else 2 for name in items]
        gaps = [0] + [new // SECOND - old // SECOND for old, new in itertools.pairwise(moments)]
        kept = len(items[-4:])
        assert lists.item_index[row, :kept].tolist() == known[-4:]
        assert lists.gap_seconds[row, :kept].tolist() == (gaps[-4:] if items else [])


@given(times=lists(integers(-(10**16), 10**16), min_size=1, max_size=7).map(sorted), length=integers(1, 8))
def test_a_first_time_and_gaps_are_every_time_to_the_second(times, length):
    histories = convert(length, item_id=[["apple"] * len(times)], event_time=[times])
    kept = int(histories.length[0])
    first, gaps = histories.first_event_time.astype(np.int64), histories.gap_seconds[0, 1:kept].astype(np.int64)
    expected = [time // SECOND for time in times[-kept:]]
    close = [new - old < 2**31 for old, new in itertools.pairwise(expected)]
    wanted = expected[: 1 + next((at for at, is_close in enumerate(close) if not is_close), len(close))]
    assert (first + np.cumsum([0, *gaps]))[: len(wanted)].tolist() == wanted


def test_within_a_second_there_is_no_gap():
    times = [[SECOND - 1, SECOND, 2 * SECOND - 1, 2 * SECOND]]
    assert convert(item_id=[["apple"] * 4], event_time=times).gap_seconds.tolist() == [[0, 1, 0, 1]]


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ({"user_id": ["a"]}, r"column item_id is missing in the frame of histories: \['user_id'\]; give"),
        ({"user_id": ["a"], "item_id": ["apple"]}, "item_id is no list in the history of user 'a': 'apple'"),
        ({"item_id": [["apple"]], "value": [[1.0, 2.0]]}, r"value and item_id differ in length in row 0: \(2, 1\)"),
        ({"item_id": [["apple"] * 2], "event_time": [[2, 1]]}, "event_time decreases in row 0; sort"),
        ({"item_id": [["apple"]], "event_time": [[None]]}, "event_time holds what is no number in row 0"),
        ({"item_id": [["apple"]], "value": [["dear"]]}, "value holds what is no number in row 0"),
        ({"item_id": [["apple"]], "event_time": [np.array(["2020-01-01"], "datetime64[ns]")]}, "no number"),
    ],
)
def test_a_bad_frame_gets_one_sentence(columns, complaint):
    with pytest.raises(DataRefused, match=complaint):
        convert(**columns)


def test_vocabulary_survives_its_file(tmp_path):
    VOCABULARY.save(tmp_path)
    assert Vocabulary.load(tmp_path) == VOCABULARY
    assert VOCABULARY.item_ids == (None, None, None, "apple", "None", "🍐")


@pytest.mark.parametrize("text", [None, "{", "{}", '{"item_ids": 3, "event_types": []}'])
def test_a_broken_vocabulary_is_refused(tmp_path, text):
    if text is not None:
        (tmp_path / "vocabulary.json").write_text(text)
    with pytest.raises(DataRefused, match=r"no vocabulary in .*; train again"):
        Vocabulary.load(tmp_path)


@pytest.mark.parametrize("pairs", [[("a", 3), ("b", 3)], [("a", 2)]])
def test_an_index_has_one_name_and_is_not_reserved(pairs):
    with pytest.raises(DataRefused, match="is reserved or given twice in table items"):
        Vocabulary.from_pairs(pairs, [])

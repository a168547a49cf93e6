"""Why a vector is where it is and why an item is recommended: a mean's reasons by hand, planted ones found."""

import numpy as np
import pytest
import torch

from behavior_lib.errors import DataRefused
from behavior_lib.inference.encoder import Encoder
from behavior_lib.inference.explain import SMALLEST_PART, Occlusion, without
from behavior_lib.inference.vocabulary import Vocabulary
from behavior_lib.models.base import ModelSpec
from behavior_lib.models.batch import Batch
from behavior_lib.models.build import FAMILIES, build_model
from behavior_lib.models.causal import span_buckets
from behavior_lib.models.successors import FOLDS, SuccessorCounts
from behavior_lib.tables.buckets import Buckets
from tests.encoders_example import fill, objectives_of
from tests.sequences_example import KIND, MONDAY, histories, widened

pytestmark = pytest.mark.usefixtures("one_thread")

N_ITEMS, LENGTH, DAY = 20, 12, 86_400
VOCABULARY = Vocabulary.from_pairs([(f"item {index}", index) for index in range(3, N_ITEMS)], [("buy", KIND)])
BASKETS = [0, 0, DAY, 0, 3 * DAY, 0, 60, 0, 5 * DAY, 0, 0, 2 * DAY]  # several events an instant


def model_of(name="transformer", seed=1, std=0.3, **changes):
    """Weights at random, none of them 0."""
    counts = torch.arange(N_ITEMS) + 1
    sizes = {"window": LENGTH, "dimension": 8, "layers": 1, "heads": 2, "dropout": 0.0}
    objectives = objectives_of(name)
    spec = ModelSpec(name, LENGTH, N_ITEMS, KIND + 1, **{**sizes, "objectives": objectives, **changes})
    torch.manual_seed(seed)
    model = build_model(spec, counts)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=std)
    fill(model.item_graph())
    return model.eval()


def with_successors(model, pairs):
    """The model, with these (item, successor) pairs counted once in each fold."""
    item, by_fold = torch.zeros_like(model.successors.successor), torch.zeros(FOLDS, *model.successors.count.shape)
    for source, successor in pairs:
        item[source, 0], by_fold[:, source, 0] = successor, 1.0
    model.successors.prepare_for_counts()
    model.successors.take(SuccessorCounts(item, by_fold.sum(0), by_fold))
    return model


def explained(model, newest=LENGTH, vocabulary=VOCABULARY):
    return Occlusion(Encoder(model, vocabulary), newest)


def weights(module):
    return module.weight.detach().numpy().astype(np.float64)


def event_vectors(model, rows):
    """What a mean is taken of, float64 [length, d], from the definition of an event's input."""
    encoder, n = model.encoder.input, int(rows.length[0])
    seconds, value = rows.gap_seconds[0, :n], rows.value[0, :n].astype(np.float64)
    parts = weights(model.items)[rows.item_index[0, :n]] + weights(encoder.event_type)[rows.event_type[0, :n]]
    if encoder.gap is not None:
        parts = parts + weights(encoder.gap)[span_buckets(torch.from_numpy(seconds)).numpy()]
    return parts + np.log1p(value)[:, None] * weights(encoder.value).T


def cosine(one, other):
    return one @ other / np.linalg.norm(one) / np.linalg.norm(other)


def test_what_stays_keeps_its_time_and_an_instant_stays_one():
    rows = histories([[5, 6, 7, 8]], 4, [[0, 10, 0, 7]])
    left_out = np.array([[0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1], [1, 1, 1, 1]], bool)
    found = without(rows, left_out)
    assert found.item_index.tolist() == [[5, 6, 7, 8], [6, 7, 8, 0], [5, 7, 8, 0], [5, 8, 0, 0], [5, 6, 7, 0], [0] * 4]
    assert found.gap_seconds.tolist() == [
        [0, 10, 0, 7],
        [0, 0, 7, 0],
        [0, 10, 7, 0],
        [0, 17, 0, 0],
        [0, 10, 0, 0],
        [0] * 4,
    ]
    assert found.length.tolist() == [4, 3, 3, 2, 3, 0]
    moved = [MONDAY, MONDAY + 10, MONDAY, MONDAY, MONDAY, np.datetime64("NaT")]
    np.testing.assert_array_equal(found.first_event_time, np.array(moved))
    assert found.first_event_time.dtype == rows.first_event_time.dtype
    rows.gap_seconds[0, 0] = 99  # from an event of an earlier chunk
    np.testing.assert_array_equal(without(rows, left_out).first_event_time, np.array(moved))
    nothing_known = without(histories([[5, 6]], 2, starts=["NaT"]), left_out[:2, :2])
    assert np.isnat(nothing_known.first_event_time).all()
    assert found.value[1].tolist() == [6 / 8, 7 / 8, 1.0, 0.0]
    assert [part.dtype for part in (found.item_index, found.gap_seconds, found.value)] == [np.int32] * 2 + [np.float32]


def test_a_gap_that_is_too_long_to_be_told_ends_where_others_do():
    longest = np.iinfo(np.int32).max
    found = without(histories([[5, 6, 7]], 3, [[0, longest, longest]]), np.array([[False, True, False]]))
    assert found.gap_seconds.tolist() == [[0, longest, 0]]


def test_influences_on_a_mean_are_those_taken_by_hand():
    model = model_of("mean")
    rows = histories([[3, 9, 9, 4, 17, 5, 3, 6, 7]], LENGTH, [BASKETS[:9]])
    (found,) = explained(model).influences(rows)
    whole = event_vectors(model, rows).mean(0)
    expected = []
    for event in range(9):
        items = [item for place, item in enumerate(rows.item_index[0, :9]) if place != event]
        times = [time for place, time in enumerate(np.cumsum(BASKETS[:9])) if place != event]
        gaps = [0, *(int(gap) for gap in np.diff(times))]
        expected.append(1 - cosine(event_vectors(model, histories([items], LENGTH, [gaps])).mean(0), whole))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
    assert np.ptp(expected) > 0.005


def test_only_the_newest_events_are_left_out_and_what_the_model_does_not_read_is_not_there():
    model = model_of("mean", use_hour=True, use_weekday=True)
    longer = histories([[3 + place % 7 for place in range(LENGTH + 5)]], LENGTH + 5)
    newest = histories([[3 + place % 7 for place in range(5, LENGTH + 5)]], LENGTH, starts=[MONDAY + 5 * DAY])
    (all_events,) = explained(model).influences(newest)
    assert len(all_events) == LENGTH
    assert np.array_equal(explained(model).influences(longer)[0], all_events)
    assert np.array_equal(explained(model, newest=4).influences(longer)[0], all_events[-4:])
    parts = explained(model, newest=2).next_items(longer, 3, 9)
    assert {reason.item_id for each in parts[0] for reason in each.reasons} <= {"item 4", "item 5"}


def test_parts_of_a_score_from_a_mean_are_those_taken_by_hand():
    """An item's events are left out together; only items that lift the score are reasons."""
    model = model_of("mean", repeat_path=False, use_gap=False, std=1.0)
    items = [3, 9, 9, 4, 9, 5, 3]
    rows = histories([items], LENGTH)
    events, vectors = event_vectors(model, rows), weights(model.items)
    (found,) = explained(model).next_items(rows, 4, 9)
    names, scores = Encoder(model, VOCABULARY).next_items(rows, 4)
    assert ([each.item_id for each in found], [each.score for each in found]) == (names[0], scores[0])
    total = 0
    for each in found:
        target = vectors[int(each.item_id.split()[1])]
        parts = {}
        for own in set(items):
            kept = [place for place, item in enumerate(items) if item != own]
            parts[f"item {own}"] = (events.mean(0) - events[kept].mean(0)) @ target
        expected = sorted(((part, name) for name, part in parts.items() if part > SMALLEST_PART), reverse=True)
        assert [reason.item_id for reason in each.reasons] == [name for _, name in expected]
        assert [reason.part for reason in each.reasons] == pytest.approx([part for part, _ in expected], rel=1e-4)
        assert [reason.n_events for reason in each.reasons] == [
            items.count(int(name.split()[1])) for _, name in expected
        ]
        total += len(expected)
    assert 4 <= total < 16
    (fewer,) = explained(model).next_items(rows, 4, 1)
    assert [each.reasons for each in fewer] == [each.reasons[:1] for each in found]


@pytest.mark.parametrize("name", FAMILIES)
def test_parts_are_differences_of_the_scores_of_histories_without_the_item(name):
    """Of the whole score, with both paths; the histories without an item are made up here, by their times."""
    model = with_successors(model_of(name, successors=1), [(5, 6), (9, 8)])
    encoder = Encoder(model, VOCABULARY)
    items, times = [5, 9, 4, 5, 7, 9, 5], np.cumsum(BASKETS[:7])
    rows = histories([items], LENGTH, [BASKETS[:7]])
    (found,) = explained(model).next_items(rows, 17, 9)
    expected, known = {}, encoder.known_items
    for own in (4, 5, 7, 9):
        kept = [place for place, item in enumerate(items) if item != own]
        gaps = [0, *(int(gap) for gap in np.diff(times[kept]))]
        fewer = histories([[items[place] for place in kept]], LENGTH, [gaps])
        expected[f"item {own}"] = encoder.scores(rows)[0, known] - encoder.scores(fewer)[0, known]
    for each in found:
        place = int(each.item_id.split()[1]) - known[0]
        wanted = {name: part[place] for name, part in expected.items() if part[place] > 1e-3}
        told = {reason.item_id: reason.part for reason in each.reasons if reason.part > 1e-3}
        assert told == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_neighbours_and_padding_change_nothing(name):
    model = with_successors(model_of(name, successors=1), [(5, 6), (7, 8)])
    lists = [[5, 4, 4, 2, 9], [], [7], list(range(3, 3 + LENGTH)), [2, 2]]
    rows = histories(lists, LENGTH, [BASKETS[: len(items)] for items in lists])
    wide = widened(rows, 5)
    reader = explained(model)
    influences, items = reader.influences(rows), reader.next_items(rows, 3, 9)
    assert [len(row) for row in influences] == [5, 0, 1, LENGTH, 2]
    assert [len(row) for row in items] == [3, 0, 3, 3, 3]
    assert all(np.isfinite(row).all() and (row >= 0).all() and (row <= 2).all() for row in influences)
    for other in (wide, rows.rows(np.arange(4, -1, -1))):
        step = 1 if other is wide else -1
        for one, again in zip(influences, reader.influences(other)[::step], strict=True):
            assert np.array_equal(one, again)
        assert _without_scores(reader.next_items(other, 3, 9)[::step]) == _without_scores(items)
    for row, own in zip(items, lists, strict=True):
        assert {reason.item_id for each in row for reason in each.reasons} <= {f"item {item}" for item in own}


def _without_scores(items):
    """Scores are the encoder's, which rounds by the width of its batch."""
    return [[(each.item_id, each.path, each.reasons) for each in row] for row in items]


@pytest.mark.parametrize("name", ["mean", "transformer", "bidirectional"])
def test_without_its_only_event_a_user_is_nobody_and_popularity_is_left(name):
    model = model_of(name)
    (influence,) = explained(model).influences(histories([[7]], LENGTH))
    assert influence.tolist() == [1.0]
    (found,) = explained(model).next_items(histories([[7, 7]], LENGTH), 17, 9)
    by_item = {each.item_id: each for each in found}
    bias = model.bias.detach().numpy()
    for index in range(3, N_ITEMS):
        each = by_item[f"item {index}"]
        part = each.score - bias[index]
        assert [(r.item_id, r.n_events) for r in each.reasons] == ([("item 7", 2)] if part > SMALLEST_PART else [])
        assert [r.part for r in each.reasons] == pytest.approx([part] * len(each.reasons), rel=1e-4)
    assert any(each.reasons for each in found)
    assert not all(each.reasons for each in found)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_the_parts_add_up_to_the_score(name, similarity):
    model = with_successors(model_of(name, similarity=similarity, successors=1), [(5, 6), (7, 8)])
    encoder = Encoder(model, VOCABULARY)
    rows = histories([[5, 4, 4, 2, 9], [], [7]], LENGTH)
    items = encoder.known_items[::-1].copy()
    parts = encoder.score_parts(rows, items)
    assert list(parts) == ["popularity", "vectors", "own past", "what follows"]
    np.testing.assert_allclose(sum(parts.values()), encoder.scores(rows)[:, items], rtol=0, atol=1e-4)
    assert [{int(item) for item in items[row != 0]} for row in parts["own past"]] == [{4, 5, 9}, set(), {7}]
    assert [{int(item) for item in items[row != 0]} for row in parts["what follows"]] == [{6}, set(), {8}]
    assert not parts["vectors"][1].any()
    assert [part.shape for part in encoder.score_parts(rows.rows(slice(0)), items).values()] == [(0, 17)] * 4
    assert np.array_equal(parts["popularity"][1], model.bias.detach().numpy()[items])


def test_the_path_is_how_the_history_lifts_the_item_most():
    model = with_successors(model_of(successors=1), [(5, 6), (7, 8)])
    with torch.no_grad():
        model.bias.zero_()
        for path, amount in ((model.repeat, 3.0), (model.successors, 2.0)):
            for parameter in path.parameters():
                parameter.zero_()
            path.network[2].bias.fill_(amount)
    (found,) = explained(model).next_items(histories([[5, 7, 4]], LENGTH), 17, 9)
    paths = {each.item_id: each.path for each in found}
    lifts = model.score_parts(Batch.from_histories(histories([[5, 7, 4]], LENGTH)), torch.arange(3, N_ITEMS))
    by_vectors = (lifts["vectors"][0] - lifts["vectors"][0].mean()).tolist()
    assert max(abs(lift) for lift in by_vectors) < 2
    expected = {
        f"item {index}": "vectors" if by_vectors[index - 3] > 0 else "popularity" for index in range(3, N_ITEMS)
    }
    expected |= dict.fromkeys(("item 4", "item 5", "item 7"), "own past")
    expected |= dict.fromkeys(("item 6", "item 8"), "what follows")
    assert paths == expected
    assert set(paths.values()) == {"vectors", "popularity", "own past", "what follows"}
    without_paths = explained(model_of(repeat_path=False)).next_items(histories([[5, 7, 4]], LENGTH), 17, 9)
    assert {each.path for each in without_paths[0]} == {"vectors", "popularity"}


def test_what_has_no_name_is_no_reason():
    """The unknown item, an item of a bucket, and one that the model has not learnt."""
    model = model_of("mean", repeat_path=False)
    names = Vocabulary.from_pairs([(f"item {index}", index) for index in range(3, 18)], [], [Buckets(18, 2)])
    rows = histories([[18, 2, 5, 77, 19, 2]], LENGTH)
    (influence,) = explained(model, vocabulary=names).influences(rows)
    assert (influence > 0).all()
    (found,) = explained(model, vocabulary=names).next_items(rows, 15, 9)
    assert {reason.item_id for each in found for reason in each.reasons} == {"item 5"}


def test_a_part_of_zero_events_is_refused():
    with pytest.raises(DataRefused, match="newest must be at least 1 in occlusion: 0"):
        explained(model_of(), newest=0)
    with pytest.raises(DataRefused, match="k must be at least 1"):
        explained(model_of()).next_items(histories([[3]], LENGTH), 0, 1)


FIRST, THEN = 5, 6


def planted(n, length, seed):
    """Rows of anything but THEN, which comes right after every FIRST and nowhere else; no item is twice in a row."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        items = random.choice([item for item in range(3, N_ITEMS) if item not in (FIRST, THEN)], length, replace=False)
        place = int(random.integers(0, length - 1))
        rows.append([*items[:place].tolist(), FIRST, THEN, *items[place:].tolist()][:length])
    return rows


@pytest.fixture(scope="module", params=["vectors", "what follows"])
def taught(request):
    """A model that has learnt that THEN follows FIRST, by its vectors or by counts of what follows what."""
    by_counts = request.param == "what follows"
    torch.manual_seed(2)
    spec = ModelSpec("transformer", LENGTH, N_ITEMS, KIND + 1, window=LENGTH, dimension=16, layers=1, heads=2)
    spec = ModelSpec(**{**spec.as_json(), "dropout": 0.0, "repeat_path": False, "successors": int(by_counts)})
    model = build_model(spec, torch.full((N_ITEMS,), 5))
    if by_counts:
        with_successors(model, [(FIRST, THEN)])
        model.items.weight.requires_grad_(False)
    optimizer = torch.optim.Adam([each for each in model.parameters() if each.requires_grad], lr=0.01)
    rows = planted(64, 8, 0)
    generator = torch.Generator().manual_seed(0)
    batch = model.prepare(Batch.from_histories(histories(rows, LENGTH)))
    for _ in range(60):
        optimizer.zero_grad()
        model.loss(batch, model.draw(batch, generator)).backward()
        optimizer.step()
    return request.param, model.eval()


def test_a_planted_reason_is_found(taught):
    """Of a history that ends with FIRST, among other items, the next is THEN, and FIRST is why."""
    path, model = taught
    others = [8, 11, 4, 15, 9]
    rows = histories([[*others[:n], FIRST] for n in range(1, 6)], LENGTH)
    for found in explained(model).next_items(rows, 1, 3):
        (best,) = found
        assert (best.item_id, best.path, best.reasons[0].item_id) == (f"item {THEN}", path, f"item {FIRST}")
        assert best.reasons[0].part > 2 * sum(reason.part for reason in best.reasons[1:])

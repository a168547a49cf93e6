"""Vectors in fewer bytes: what comes back, how far off it is, and what a ranking by it loses."""

from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from behavior_lib.errors import ConfigError
from behavior_lib.evaluation.comparison import Comparison
from behavior_lib.evaluation.compression import Codec, Kept, VectorScorer
from behavior_lib.evaluation.judge import rank_methods

NAMES = ("float32", "float16", "int8", "binary", "first_3")


def named(name, dimension=4):
    return Codec.named(name, dimension, "compare.vectors")


def test_bytes_of_a_vector():
    assert [named(name, 64).n_bytes for name in NAMES] == [256, 128, 68, 12, 12]
    assert named("binary", 65).n_bytes == 13
    assert named("first_64", 64).n_bytes == 256


def test_what_comes_back_by_hand():
    vectors = np.array([[1.27, -0.503, 0.0, 0.012], [0, 0, 0, 0], [1e9, -2049, 1, -1e-9]], np.float32)
    given = vectors.copy()
    restored = {name: named(name).restore(vectors) for name in NAMES}
    np.testing.assert_array_equal(vectors, given)
    assert all(values.dtype == np.float32 for values in restored.values())
    np.testing.assert_array_equal(restored["float32"], vectors)
    np.testing.assert_array_equal(restored["first_3"], vectors[:, :3])
    size = np.abs(vectors).mean(axis=1)
    assert restored["binary"][:2] == pytest.approx(np.array([[1, -1, 1, 1], [0] * 4]) * size[:2, None])
    assert restored["binary"][2] == pytest.approx(np.array([1, -1, 1, -1]) * size[2])
    # Steps of .01 in the first vector.
    np.testing.assert_allclose(restored["int8"][0], [1.27, -0.5, 0, 0.01], rtol=1e-6, atol=1e-8)
    assert restored["int8"][1].tolist() == [0, 0, 0, 0]
    # Eleven bits, and nothing is infinite.
    assert restored["float16"][2].tolist() == [65504, -2048, 1, 0]


@pytest.mark.parametrize("seed", [0, 1])
def test_int8_is_off_by_half_a_step_at_most(seed):
    random = np.random.default_rng(seed)
    vectors = (random.normal(size=(200, 32)) * random.lognormal(0, 3, (200, 1))).astype(np.float32)
    step = np.abs(vectors).max(axis=1) / 127
    off = np.abs(named("int8", 32).restore(vectors) - vectors).max(axis=1)
    assert (off <= step * (0.5 + 1e-4)).all()
    assert off.max() > 0.45 * step[off.argmax()]
    half = np.abs(named("float16", 32).restore(vectors) - vectors)
    assert (half <= np.abs(vectors) * 2**-11 + 2**-25).all()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("int9", r"vectors cannot be kept so in compare.vectors: 'int9'; did you mean int8\?"),
        ("4", r"cannot be kept so in compare.vectors: '4'; known: float32, float16, int8, binary, first_2$"),
        ("first_x", r"'first_x'; did you mean first_2\?"),
        ("first_5", r"a vector has no such part in compare.vectors: 'first_5'; the vectors have 4 numbers"),
        ("first_0", "a vector has no such part"),
    ],
)
def test_other_forms_are_refused(name, sentence):
    with pytest.raises(ConfigError, match=sentence):
        named(name)


# Two users and items 3, 4, 5 of which the model knows 3 and 5.
SCORER = VectorScorer(
    np.array([[1, 0.1], [0.1, -1]], np.float32),
    np.array([[2, 1], [1, -3]], np.float32),
    np.array([3, 5]),
    6,
    0.5,
    np.zeros(2),
)


def test_scores_are_products_and_what_has_no_vector_is_no_candidate():
    never = -np.inf
    assert SCORER(slice(0, 2)) == pytest.approx(
        np.array([[never, never, never, 1.05, never, 0.35], [never, never, never, -0.4, never, 1.55]])
    )
    added = replace(SCORER, addend=np.array([1, -1.0]))
    assert added(slice(0, 2))[:, [3, 5]] == pytest.approx(np.array([[2.05, -0.65], [0.6, 0.55]]))
    assert SCORER(slice(1, 2)).shape == (1, 6)
    signs, first = (SCORER.kept_by(named(name, 2))(slice(0, 2))[:, [3, 5]] for name in ("binary", "first_1"))
    assert signs == pytest.approx(np.array([[0.55 * 1.5, 0], [0, 0.55 * 2]]), abs=1e-6)
    assert first == pytest.approx(np.array([[1, 0.5], [0.1, 0.05]]))


def test_parts_of_vectors_that_are_compared_by_the_cosine_have_length_1():
    users, items = np.array([[1, 0], [-0.6, 0.8]], np.float32), np.array([[0.6, 0.8], [1, 0], [0, 1]], np.float32)
    dot = VectorScorer(users, items, np.array([0, 1, 2]), 3, 2.0, np.array([0, 0.25, 0]))
    cosine = replace(dot, is_cosine=True)

    def scores(scorer, codec):
        return scorer.kept_by(named(codec, 2))(slice(0, 2)).round(6).tolist()

    # A part that is nothing stays so.
    assert scores(cosine, "first_1") == [[2, 2.25, 0], [-2, -1.75, 0]]
    assert scores(dot, "first_1") == pytest.approx(np.array([[1.2, 2.25, 0], [-0.72, -0.95, 0]]))
    assert scores(cosine, "first_2") == scores(dot, "first_2")
    np.testing.assert_array_equal(cosine.kept_by(named("int8", 2)).items, dot.kept_by(named("int8", 2)).items)


@pytest.fixture
def kept():
    codecs = [named(name, 2) for name in ("float32", "binary", "first_1")]
    scorers = {codec.name: SCORER.kept_by(codec) for codec in codecs}
    scorers["model"] = lambda rows: np.tile([-np.inf] * 3 + [1, 3, 2], (rows.stop - rows.start, 1))
    targets = np.array([[3], [5]])
    return Kept(codecs, Comparison("test", rank_methods("test", scorers, targets, np.arange(6) > 2, 1, 2)))


def test_what_is_left_of_the_ranking(kept):
    # Without its second number the vector of the second user points to item 3, which is not the one.
    assert kept.left() == {"float32": 1, "binary": 1, "first_1": 0.5}
    lost = dict.fromkeys(kept.comparison.results, kept.comparison.results["model"])
    assert Kept(kept.codecs, Comparison("test", lost)).left() == {}


def test_the_table_has_bytes_and_what_is_left(kept):
    console = Console(width=200, file=StringIO())
    console.print(kept.as_table())
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in console.file.getvalue().splitlines()]
    assert [cells for cells in lines if cells] == [
        ["float32", "8", "1.0000 ± 0.0000", "100.0%", ""],
        ["binary", "5", "1.0000 ± 0.0000", "100.0%", "+0.0000 ± 0.0000"],
        ["first_1", "4", "0.5000 ± 0.5000", "50.0%", "-0.5000 ± 0.5000"],
        ["model, with all beside its vectors", "", "0.0000 ± 0.0000", "", "-1.0000 ± 0.0000"],
    ]

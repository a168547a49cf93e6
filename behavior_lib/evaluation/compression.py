"""Vectors that are kept in fewer bytes, and what a ranking by them is still worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from behavior_lib.config.keys import nearest
from behavior_lib.errors import ConfigError
from behavior_lib.evaluation.comparison import Comparison, signed, with_error
from behavior_lib.evaluation.judge import MODEL
from behavior_lib.evaluation.metrics import SURE
from behavior_lib.evaluation.ranking import Scores

Vectors = NDArray[np.float32]

FLOAT32, FLOAT16, INT8, BINARY, FIRST = "float32", "float16", "int8", "binary", "first_"

_HIGHEST = 127  # of an int8 whose range is the same on both sides
_HIGHEST_HALF = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Codec:
    """A way to keep vectors of one dimension. n_bytes: of a vector. restore: vectors [n, d] as they are read back."""

    name: str
    n_bytes: int
    restore: Callable[[Vectors], Vectors]

    @classmethod
    def named(cls, name: str, dimension: int, where: str) -> Codec:
        """float16; int8 and binary (signs), with a float32 scale for each vector; first_N, the first N numbers of each
        vector as float32; float32, as they are.

        where: the key that names it, for errors. Raises ConfigError for another name, or more numbers than there are.
        """
        if name.startswith(FIRST) and (digits := name.removeprefix(FIRST)).isdecimal():
            width = int(digits)
            if not 1 <= width <= dimension:
                mend = f"the vectors have {dimension} numbers"
                raise ConfigError("a vector has no such part", where=where, value=name, mend=mend)
            return cls(name, 4 * width, lambda vectors: vectors[:, :width])
        known = {
            FLOAT32: cls(FLOAT32, 4 * dimension, lambda vectors: vectors),
            FLOAT16: cls(FLOAT16, 2 * dimension, _as_float16),
            INT8: cls(INT8, dimension + 4, _as_int8),
            BINARY: cls(BINARY, -(-dimension // 8) + 4, _as_signs),
        }
        if name not in known:
            names = [*known, f"{FIRST}{dimension // 2}"]
            near = nearest(name, names)
            mend = f"did you mean {near}?" if near else f"known: {', '.join(names)}"
            raise ConfigError("vectors cannot be kept so", where=where, value=name, mend=mend)
        return known[name]


def _as_float16(vectors: Vectors) -> Vectors:
    return vectors.clip(-_HIGHEST_HALF, _HIGHEST_HALF).astype(np.float16).astype(np.float32)


def _as_int8(vectors: Vectors) -> Vectors:
    """Steps of a 127th of each vector's largest number, so that no number is off by more than half a step."""
    scale = np.abs(vectors).max(axis=1, keepdims=True) / np.float32(_HIGHEST)
    codes = np.rint(vectors / np.where(scale > 0, scale, 1)).astype(np.int8)
    return np.asarray(codes * scale, dtype=np.float32)


def _as_signs(vectors: Vectors) -> Vectors:
    """Each with the mean size of its vector's numbers, the scale that is nearest (Rastegari et al. 2016, XNOR-Net)."""
    scale = np.abs(vectors).mean(axis=1, keepdims=True)
    return np.asarray(np.where(vectors < 0, -scale, scale), dtype=np.float32)


def _of_length_1(vectors: Vectors) -> Vectors:
    """Each divided by its length; one of length 0 stays so."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1), dtype=np.float32)


@dataclass(frozen=True)
class VectorScorer:
    """score(u, j) = f x_u · y_j + a_j: vectors and popularity, without a model's paths.

    users: float32 [n, d]. items: float32 [m, d], of the items at `index`, int64 [m]; n_items: V, all others being no
    candidates. factor: f. addend: float32 [m], a. is_cosine: whether vectors have length 1 (or 0).
    """

    users: Vectors
    items: Vectors
    index: NDArray[np.int64]
    n_items: int
    factor: float
    addend: Vectors
    is_cosine: bool = False

    def __call__(self, rows: slice) -> Scores:
        """float32 [n, V], a Scorer."""
        users = self.users[rows]
        scores = np.full((len(users), self.n_items), -np.inf, dtype=np.float32)
        scores[:, self.index] = self.factor * (users @ self.items.T) + self.addend
        return scores

    def kept_by(self, codec: Codec) -> VectorScorer:
        """The same of users and items that were kept so.

        A part of a vector of length 1 is given that length again: so training compares parts (`model.prefixes`).
        """
        users, items = codec.restore(self.users), codec.restore(self.items)
        if self.is_cosine and users.shape[1] < self.users.shape[1]:
            users, items = _of_length_1(users), _of_length_1(items)
        return replace(self, users=users, items=items)


@dataclass(frozen=True)
class Kept:
    """What rankings by vectors are worth. codecs: the first is what the others are compared with.

    comparison: their rankings by name, and behind them those of the whole model (MODEL) and of what needs no vector.
    """

    codecs: Sequence[Codec]
    comparison: Comparison

    def left(self) -> Mapping[str, float]:
        """By codec the share of the first's mean NDCG at the headline's k; of none where that is 0."""
        ndcg = {codec.name: float(self.comparison.results[codec.name].ndcg.mean()) for codec in self.codecs}
        whole = ndcg[self.codecs[0].name]
        return {name: value / whole for name, value in ndcg.items()} if whole else {}

    def as_table(self) -> Table:
        """A line a codec, and one for the whole model; a star stands at a difference that is told from 0."""
        results, differences, left = self.comparison.results, self.comparison.differences(), self.left()
        first = self.comparison.first
        metric = f"ndcg@{results[first].ks[0]}"
        title = f"{self.comparison.split}, {results[first].n_users:,} users, ranked by vectors and popularity"
        caption = f"left: of {first}; difference: from it, user by user; {SURE}"
        table = Table(title=title, title_justify="left", caption=caption)
        for name in ("vectors", "bytes", metric, "left", "difference"):
            table.add_column(name, justify="left" if name == "vectors" else "right")
        n_bytes = {codec.name: f"{codec.n_bytes:,}" for codec in self.codecs}
        for name, ranking in results.items():
            label = f"{MODEL}, with all beside its vectors" if name == MODEL else name
            share = f"{left[name]:.1%}" if name in left else ""
            figure = with_error(ranking.metrics()[metric])
            difference = signed(differences.get(name, {}).get(metric))
            table.add_row(label, n_bytes.get(name, ""), figure, share, difference)
        return table

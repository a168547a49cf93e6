"""The map of the items: many-dimensional vectors on a page, near ones near."""

from __future__ import annotations

from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FEWEST_FOR_TSNE, _FEWEST_FOR_TREE = 12, 500


def project(vectors: NDArray[np.floating[Any]], seed: int = 0) -> NDArray[np.float64]:
    """Places in the unit square, [n, 2]: neighbours by cosine stay neighbours.

    vectors: [n, d]. t-SNE that starts from the two main directions, so that the map looks alike from run to run;
    the two main directions alone where there are too few items for t-SNE.
    """
    unit = normalise(vectors)
    flat = _main_directions(unit)
    if len(unit) >= _FEWEST_FOR_TSNE and np.ptp(flat) > 0:
        flat = _tsne(unit, flat, seed)
    return _fit(flat)


def nearest(vectors: NDArray[np.floating[Any]], item: int, k: int) -> list[tuple[int, float]]:
    """The k items nearest to one by cosine, itself left out: position and similarity, nearest first."""
    unit = normalise(vectors)
    similarity = unit @ unit[item]
    similarity[item] = -np.inf
    order = np.lexsort((np.arange(len(unit)), -similarity))[: min(k, len(unit) - 1)]
    return [(int(index), float(similarity[index])) for index in order]


def normalise(vectors: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Vectors of length 1; a zero vector stays zero."""
    wide = np.asarray(vectors, dtype=np.float64)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    result: NDArray[np.float64] = wide / np.where(length > 0, length, 1)
    return result


def _main_directions(unit: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = unit - unit.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    flat = np.zeros((len(unit), 2))
    kept = min(2, len(sizes))
    # The sign of a direction is arbitrary; its largest entry is made positive.
    columns = left[:, :kept] * sizes[:kept]
    signs = np.sign(columns[np.abs(columns).argmax(axis=0), np.arange(kept)])
    flat[:, :kept] = columns * np.where(signs == 0, 1, signs)
    return flat


def _tsne(unit: NDArray[np.float64], start: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    from sklearn.manifold import TSNE  # takes a second to import, and only a map needs it

    perplexity = min(30.0, (len(unit) - 1) / 3)
    small = (start / start.std(axis=0).max() * 1e-4).astype(np.float32)
    steps = "max_iter" if "max_iter" in signature(TSNE).parameters else "n_iter"  # renamed in scikit-learn 1.5
    # Half the default steps and a coarser angle: a quarter of the time, and 10 neighbours are kept as well (0.937
    # against 0.940 trustworthiness on Complete Journey).
    # The tree pays from some hundred points on.
    way = {"method": "exact" if len(unit) < _FEWEST_FOR_TREE else "barnes_hut", steps: 500}
    method = TSNE(perplexity=perplexity, init=small, angle=0.8, random_state=seed, **way)
    result: NDArray[np.float64] = method.fit_transform(unit.astype(np.float32)).astype(np.float64)
    return result


def _fit(flat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Both axes on one scale, so that distances stay comparable; a stray item does not squeeze the others."""
    low, high = np.percentile(flat, [0.5, 99.5], axis=0)
    middle, width = (low + high) / 2, max(float((high - low).max()), 1e-12)
    placed: NDArray[np.float64] = np.clip((flat - middle) / width * 0.94 + 0.5, 0.01, 0.99)
    return placed

"""Who is in which fold: a function of the user's id alone, never of the order in which rows come."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray


def deal(
    user_ids: NDArray[np.object_], strata: NDArray[np.float64] | None, n_folds: int, key: str
) -> NDArray[np.int64]:
    """int64 [n], the fold of each user, 0 … n_folds - 1.

    Users lie in the order of SHA-256 of `key` and their id, class after class, and are dealt in turn. So folds differ
    by one user at most, in all and of each class. strata: float64 [n], the class of each user; None for no classes.
    """
    drawn = np.array([hashlib.sha256(f"{key}\x1f{user}".encode()).digest() for user in user_ids], dtype=object)
    classes = np.zeros(len(user_ids)) if strata is None else strata
    order = sorted(range(len(user_ids)), key=lambda row: (classes[row], drawn[row]))
    fold = np.empty(len(user_ids), dtype=np.int64)
    fold[order] = np.arange(len(user_ids)) % n_folds
    return fold


def fewest(n_folds: int, n_inner: int) -> int:
    """Users of a class that every fold needs one of, and every inner fold of what is left."""
    n = max(n_folds, n_inner)
    while n - -(-n // n_folds) < n_inner:
        n += 1
    return n

"""Who is in which fold: a function of the user's id and label alone, never of the order in which rows come."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

TRAIN_FOLD, VALIDATION_FOLD, TEST_FOLD = 0, 1, 2


def deal(
    user_ids: NDArray[np.object_], values: NDArray[np.float64], is_binary: bool, n_folds: int, key: str
) -> NDArray[np.int64]:
    """int64 [n], the fold of each user, 0 … n_folds - 1; stratified, so that folds are alike.

    Users lie in the order of SHA-256 of `key` and their id, class after class, and are dealt in turn. So folds differ
    by one user at most, in all and of each class. values: float64 [n], the label. Where it is a number, n_folds users
    next to each other by it are a class.
    """
    drawn = [hashlib.sha256(f"{key}\x1f{user}".encode()).digest() for user in user_ids]
    order = sorted(range(len(drawn)), key=lambda row: (values[row], drawn[row]))
    if not is_binary:
        starts = range(0, len(order), n_folds)
        order = [row for at in starts for row in sorted(order[at : at + n_folds], key=lambda row: drawn[row])]
    fold = np.empty(len(drawn), dtype=np.int64)
    fold[order] = np.arange(len(drawn)) % n_folds
    return fold


def in_a_whole_fold(values: NDArray[np.float64], n_folds: int) -> float | None:
    """The value that `deal` may give all users of a fold, of whom R² tells nothing; None where there is none.

    values: float64 [n], a label that is a number, n at least 2 n_folds. A fold has one user of every n_folds that are
    next to each other; so the value would have to be among the lowest of these and among the highest.
    """
    ascending, last = np.sort(values), (len(values) // n_folds - 1) * n_folds
    return float(ascending[last]) if ascending[n_folds - 1] == ascending[last] else None


def fewest(n_folds: int, n_inner: int) -> int:
    """Users of a class that every fold needs one of, and every inner fold of what is left."""
    n = max(n_folds, n_inner)
    while n - -(-n // n_folds) < n_inner:
        n += 1
    return n


def part(user_ids: NDArray[np.object_], validation: float, test: float, key: str) -> NDArray[np.int64]:
    """int64 [n], TRAIN_FOLD, VALIDATION_FOLD or TEST_FOLD: of each user by SHA-256 of `key` and the id alone.

    validation, test: shares of all users; who else comes moves nobody.
    """
    drawn = [int.from_bytes(hashlib.sha256(f"{key}\x1f{user}".encode()).digest()[:8]) / 2**64 for user in user_ids]
    places = np.array(drawn, dtype=np.float64)
    return np.select([places < test, places < test + validation], [TEST_FOLD, VALIDATION_FOLD], TRAIN_FOLD)

"""How firm and how distinct clusters of user vectors are: k-means, again and again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, silhouette_score
from threadpoolctl import threadpool_limits

from behavior_lib.evaluation.probes_features import VECTORS

SHUFFLED = "shuffled"

_RUNS = 5  # on all users, and as many on halves of them: ten pairs of each
_STARTS = 4  # of a run; the one with the smallest sum of squares counts
_LEAST_USERS = 10  # for each cluster: of two halves a quarter of the users is common
_MOST_POINTS = 4_000  # of the silhouette, which looks at all pairs of them
_NOT_IN_IT = -1


@dataclass(frozen=True)
class Clusters:
    """What k-means makes of some vectors.

    seeds: mean adjusted Rand index (Hubert & Arabie 1985: 1 for the same clusters, 0 for chance) of pairs of runs that
    differ in their seed. halves: of pairs of runs on random halves of the users, told by the users that both halves
    have (Ben-Hur, Elisseeff & Guyon 2002). silhouette: mean over the users (Rousseeuw 1987: 1 for far apart, 0 for
    touching); None where all users that it was asked of are in one cluster.
    """

    seeds: float
    halves: float
    silhouette: float | None

    def figures(self) -> dict[str, float]:
        """By name, without a silhouette that there is not."""
        return {name: value for name, value in vars(self).items() if value is not None}


def objection(vectors: NDArray[np.float32], n_clusters: int) -> str | None:
    """Why there are no clusters of these vectors to judge; None where there are."""
    n_users, needed = len(vectors), _LEAST_USERS * n_clusters
    if n_users < needed:
        return f"{n_users} users, and {needed} are needed"
    n_different = len(np.unique(vectors, axis=0))
    return f"the users have {n_different} different vectors" if n_different < n_clusters else None


def cluster(vectors: NDArray[np.float32], n_clusters: int, seed: int) -> dict[str, Clusters]:
    """By VECTORS what the vectors give, by SHUFFLED what they would give if their numbers had nothing to do with each
    other: each column in an order of its own, as the reference of what k-means finds anywhere.

    vectors: float32 [n, d], as they are; no objection. n_clusters: at least 2.
    """
    shuffled = np.random.default_rng(seed).permuted(vectors, axis=0)
    # With more threads sums have another order, and so the figures other digits; and small steps wait for the threads.
    with threadpool_limits(1):
        return {name: _judge(each, n_clusters, seed) for name, each in ((VECTORS, vectors), (SHUFFLED, shuffled))}


def _judge(vectors: NDArray[np.float32], n_clusters: int, seed: int) -> Clusters:
    random, everybody = np.random.default_rng(seed), np.arange(len(vectors))
    halves = [random.permutation(everybody)[: len(vectors) // 2] for _ in range(_RUNS)]
    of_all = [_run(vectors, everybody, n_clusters, seed + number) for number in range(_RUNS)]
    of_halves = [_run(vectors, half, n_clusters, seed + number) for number, half in enumerate(halves)]
    asked = random.permutation(everybody)[:_MOST_POINTS]
    return Clusters(_agreement(of_all), _agreement(of_halves), _silhouette(vectors[asked], of_all[0][asked]))


def _run(vectors: NDArray[np.float32], users: NDArray[np.int64], n_clusters: int, seed: int) -> NDArray[np.int64]:
    """int64 [n]: the cluster of each of the users, _NOT_IN_IT for the others. users: rows of the vectors."""
    labels = np.full(len(vectors), _NOT_IN_IT, dtype=np.int64)
    labels[users] = KMeans(n_clusters, n_init=_STARTS, random_state=seed % 2**32).fit_predict(vectors[users])
    return labels


def _agreement(runs: Iterable[NDArray[np.int64]]) -> float:
    indexes = []
    for one, other in combinations(runs, 2):
        common = (one != _NOT_IN_IT) & (other != _NOT_IN_IT)
        indexes.append(adjusted_rand_score(one[common], other[common]))
    return float(np.mean(indexes))


def _silhouette(vectors: NDArray[np.float32], labels: NDArray[np.int64]) -> float | None:
    return float(silhouette_score(vectors, labels)) if len(np.unique(labels)) > 1 else None

"""Clusters of vectors: planted ones are found again, noise has none; the silhouette in loops."""

import numpy as np
import pytest

from behavior_lib.evaluation import clustering
from behavior_lib.evaluation.clustering import SHUFFLED, Clusters, cluster, objection
from behavior_lib.evaluation.probes_features import VECTORS


def planted(n_users, n_clusters=4, spread=0.02):
    """Users around points that are 1.4 apart, in a drawn order; and whose is which."""
    random = np.random.default_rng(3)
    own = random.integers(0, n_clusters, n_users)
    noise = random.normal(size=(n_users, 8)) * spread
    return (np.eye(8)[own] + noise).astype(np.float32), own


def silhouette(vectors, labels):
    values = []
    for row, vector in enumerate(vectors):
        distance = np.sqrt(((vectors - vector) ** 2).sum(axis=1))
        own = labels == labels[row]
        within = distance[own].sum() / (own.sum() - 1)
        nearest = min(distance[labels == other].mean() for other in set(labels) - {labels[row]})
        values.append((nearest - within) / max(nearest, within))
    return np.mean(values)


def test_planted_clusters_are_found_whatever_the_seed_and_the_users():
    vectors, own = planted(160)
    found = cluster(vectors, 4, 0)[VECTORS]
    assert (found.seeds, found.halves) == (1, 1)
    assert found.silhouette == pytest.approx(silhouette(vectors.astype(float), own), abs=1e-5)
    assert found.silhouette > 0.9


def test_too_many_clusters_are_not_firm():
    vectors, _ = planted(160)
    assert cluster(vectors, 8, 0)[VECTORS].halves < 0.8


def test_noise_has_no_clusters():
    random = np.random.default_rng(1)
    noise = random.normal(size=(200, 32)).astype(np.float32)
    for found in cluster(noise, 4, 0).values():
        assert found.seeds < 0.5
        assert found.halves < 0.3
        assert found.silhouette < 0.1


def test_shuffled_vectors_have_the_same_numbers_and_no_clusters():
    vectors, _ = planted(160)
    found = cluster(vectors, 4, 0)
    assert found[SHUFFLED].silhouette < 0.7 < found[VECTORS].silhouette
    # Where all that is known is one number, nothing can be torn apart.
    alone = cluster(vectors[:, :1], 2, 0)
    assert alone[SHUFFLED].silhouette == pytest.approx(alone[VECTORS].silhouette, abs=1e-6)


def test_the_same_seed_gives_the_same_figures():
    noise = np.random.default_rng(1).normal(size=(60, 8)).astype(np.float32)
    assert cluster(noise, 3, 5) == cluster(noise, 3, 5)
    assert cluster(noise, 3, 5) != cluster(noise, 3, 6)


def test_the_silhouette_is_of_few_users(monkeypatch):
    asked = []
    monkeypatch.setattr(clustering, "_MOST_POINTS", 30)
    monkeypatch.setattr(clustering, "silhouette_score", lambda vectors, labels: asked.append(vectors) or 0.5)
    vectors, _ = planted(160)
    assert cluster(vectors, 4, 0)[VECTORS].silhouette == 0.5
    assert [len(np.unique(each, axis=0)) for each in asked] == [30, 30]


def test_what_cannot_be_clustered_is_told():
    vectors, _ = planted(30)
    assert objection(vectors, 3) is None
    assert objection(vectors, 4) == "30 users, and 40 are needed"
    assert objection(np.ones((40, 2), np.float32), 2) == "the users have 1 different vectors"


def test_a_silhouette_of_one_cluster_is_none():
    assert Clusters(1.0, 0.5, None).figures() == {"seeds": 1.0, "halves": 0.5}
    few = np.zeros((5_000, 1), np.float32)
    few[0] = 9  # alone in its cluster, and not among those that are asked
    assert cluster(few, 2, 0)[VECTORS].silhouette is None

"""behavior evaluate where each user's last events are held out: figures of baselines by loops over the raw rows."""

import math

import numpy as np
import pytest
import torch
from mlflow import MlflowClient

from behavior_lib.inference.vocabulary import Vocabulary
from behavior_lib.models.base import ModelSpec
from behavior_lib.models.build import build_model, save_model
from behavior_lib.registry import SOURCE, TRAIN_CUT, Registry
from behavior_lib.tables import EVALUATIONS
from tests.jobs.small_source import YAML, line

pytestmark = pytest.mark.spark

N_ITEMS, K = 9, 3
WORDS = ("split.kind=leave_one_out", "mlflow.model_name=encoder", "evaluate.gate=[popularity]", f"evaluate.k={K}")
BASELINES = ("popularity", "own_frequency")


@pytest.fixture
def histories():
    """Of 30 users, oldest first; the first four have one or two events, of whom nothing is held out."""
    random = np.random.default_rng(5)
    sizes = [1, 2, 1, 2, *random.integers(3, 12, 26)]
    return [random.integers(0, N_ITEMS, size).tolist() for size in sizes]


@pytest.fixture
def judged(shop, source, histories, tmp_path):
    """The figures of the baselines beside an untrained model, by split, method and metric."""
    rows = [
        line(user=f"u{user:02}", item=f"i{item}", time=f"2017-05-{1 + place:02} 12:00:00")
        for user, items in enumerate(histories)
        for place, item in enumerate(items)
    ]
    setting = source(YAML, log_json=b"".join(rows))
    for job in ("ingest", "sessionize", "build_sequences"):
        assert shop.run(job, setting, *WORDS)["exit_code"] == 0
    uri = f"sqlite:///{shop.root / 'var' / 'mlflow.db'}"
    registry = Registry(uri, "encoder")
    torch.manual_seed(1)
    spec = ModelSpec("gru", length=8, window=8, n_items=3 + N_ITEMS, n_event_types=4, dimension=8, layers=1)
    save_model(build_model(spec, torch.arange(3 + N_ITEMS)), tmp_path / "checkpoint")
    vocabulary = Vocabulary.from_pairs([(f"i{number}", 3 + number) for number in range(N_ITEMS)], [("view", 3)])
    run_id = MlflowClient(uri).create_run(registry.experiment("behavior", str(shop.root / "artifacts"))).info.run_id
    registry.register(run_id, tmp_path / "checkpoint", vocabulary, {SOURCE: "shop", TRAIN_CUT: "leave_one_out"})
    told = shop.run("evaluate", setting, *WORDS, f"evaluate.baselines=[{', '.join(BASELINES)}]")
    assert told["exit_code"] in (0, 3), told["stderr"]
    assert "another kind of split" not in told["stderr"]
    rows = shop.tables.read(EVALUATIONS).collect()
    return {(row.split, row.method, row.metric): (row.value, row.n_users) for row in rows}


def places(histories, held, scores_of):
    """The mid-rank of each user's held-out item. held: how many of the last events are not known, the oldest of which
    is asked for. scores_of: of a user's past and all counts, by item.
    """
    seen = [items[:-held] if len(items) >= 3 else items for items in histories]
    counts = np.bincount(np.concatenate(seen).astype(int), minlength=N_ITEMS)
    found = []
    for items, past in zip(histories, seen, strict=True):
        if len(items) >= 3:
            scores = scores_of(past, counts)
            ranked = [scores[item] for item in range(N_ITEMS) if counts[item]]
            own = scores[items[-held]]
            above, alike = sum(score > own for score in ranked), ranked.count(own)
            found.append(above + (alike + 1) / 2 if counts[items[-held]] else math.inf)
    return np.array(found)


def test_baselines_count_all_but_what_is_held_out(judged, histories):
    scores = {
        "popularity": lambda past, counts: [(int(counts[item]),) for item in range(N_ITEMS)],
        "own_frequency": lambda past, counts: [(past.count(item), int(counts[item])) for item in range(N_ITEMS)],
    }
    for split, held in (("validation", 2), ("test", 1)):
        for method, scores_of in scores.items():
            place = places(histories, held, scores_of)
            assert len(place) == 26
            hit = place <= K
            expected = {
                f"hit_rate@{K}": hit.mean(),
                f"ndcg@{K}": np.where(hit, 1 / np.log2(1 + place), 0).mean(),
                f"mrr@{K}": np.where(hit, 1 / place, 0).mean(),
                "mrr": (1 / place).mean(),
            }
            for metric, value in expected.items():
                found = judged[split, method, metric]
                assert (math.isclose(found[0], value, abs_tol=1e-12), found[1]) == (True, 26), (split, method, metric)
    assert judged["test", "popularity", "mrr"] != judged["test", "own_frequency", "mrr"]

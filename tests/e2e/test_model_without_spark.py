"""The registered model is whole: it answers where neither Spark nor this project is installed."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from mlflow import MlflowClient

from behavior_lib.inference.encoder import Encoder
from behavior_lib.inference.raw import to_histories
from behavior_lib.inference.vocabulary import Vocabulary
from behavior_lib.models.base import ModelSpec
from behavior_lib.models.build import build_model, save_model
from behavior_lib.registry import Registry

pytestmark = pytest.mark.end_to_end

NAME = "behavior-encoder"
N_ITEMS = 40
VOCABULARY = Vocabulary.from_pairs([(f"ítem {index}", index) for index in range(3, N_ITEMS)], [("buy", 3), ("view", 4)])

# Nothing of the project, nor what it is built on, can be imported, but what the loaded model brings in its own folder.
ELSEWHERE = """
import json, sys
from importlib.machinery import PathFinder

ABSENT = {"pyspark", "delta", "deltalake", "petastorm", "horovod", "omegaconf"}

class Elsewhere:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in ABSENT:
            raise ModuleNotFoundError(f"no module {name} here", name=name)
        if name == "behavior_lib":
            spec = PathFinder.find_spec(name, [entry for entry in sys.path if "/code" in entry])
            if spec is None:
                raise ModuleNotFoundError(f"no module {name} here", name=name)
            return spec
        return None

sys.meta_path.insert(0, Elsewhere())
for name in [*ABSENT, "behavior_lib"]:
    try:
        __import__(name)
    except ImportError:
        continue
    raise SystemExit(f"{name} can be imported")

import mlflow, pandas
tracking_uri, model, frame = sys.argv[1:]
mlflow.set_tracking_uri(tracking_uri)
loaded = mlflow.pyfunc.load_model(model)
frame = pandas.DataFrame(json.loads(frame))
vectors = loaded.predict(frame)
items = loaded.predict(frame, params={"output": "items", "k": 4})
print(json.dumps({
    "user_id": vectors["user_id"].tolist(),
    "embedding": [vector.tolist() for vector in vectors["embedding"]],
    "item_id": items["item_id"].tolist(),
    "score": items["score"].tolist(),
    "code": sys.modules["behavior_lib"].__file__,
    "imported": sorted(ABSENT & {module.partition(".")[0] for module in sys.modules}),
}))
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store whose champion is a small model."""
    folder = tmp_path_factory.mktemp("store")
    registry = Registry(f"sqlite:///{folder}/mlflow.db", NAME)
    experiment = registry.experiment("behavior", str(folder / "artifacts"))
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    torch.manual_seed(3)
    spec = ModelSpec(
        "transformer_repeat", length=16, window=8, n_items=N_ITEMS, n_event_types=5, dimension=8, layers=1, heads=2
    )
    save_model(build_model(spec, torch.arange(N_ITEMS)), folder / "checkpoint")
    version = registry.register(client.create_run(experiment).info.run_id, folder / "checkpoint", VOCABULARY, {})
    client.set_registered_model_alias(NAME, "champion", str(version.version))
    return folder


def histories():
    random = np.random.default_rng(8)
    sizes = [0, 1, 5, 16, 30]
    return {
        "user_id": [f"user {size} é" for size in sizes],
        "item_id": [[f"ítem {index}" for index in random.integers(1, N_ITEMS + 5, size)] for size in sizes],
        "event_type": [random.choice(["buy", "view", "odd"], size).tolist() for size in sizes],
        "event_time": [np.sort(random.integers(0, 10**13, size)).tolist() for size in sizes],
        "value": [random.random(size).tolist() for size in sizes],
    }


def test_the_champion_answers_without_spark_and_without_the_project(store, tmp_path_factory):
    columns = histories()
    arguments = (f"sqlite:///{store}/mlflow.db", f"models:/{NAME}@champion", json.dumps(columns))
    told = subprocess.run(
        [sys.executable, "-IB", "-c", ELSEWHERE, *arguments],
        cwd=tmp_path_factory.mktemp("elsewhere"),
        env={"PATH": "/usr/bin:/bin", "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    answer = json.loads(told.stdout.splitlines()[-1])
    assert "/code/behavior_lib/" in answer["code"]
    assert answer["imported"] == []

    registry = Registry(arguments[0], NAME)
    with registry.bundle(registry.champion()) as bundle:
        encoder = Encoder.load(bundle)
    expected = to_histories(columns, VOCABULARY, encoder.length)
    assert answer["user_id"] == columns["user_id"]
    np.testing.assert_allclose(answer["embedding"], encoder.encode(expected), rtol=0, atol=1e-5)
    names, scores = encoder.next_items(expected, 4)
    assert answer["item_id"] == names
    for row, told_row in zip(scores, answer["score"], strict=True):
        np.testing.assert_allclose(row, told_row, rtol=0, atol=1e-5)


def test_a_version_carries_no_pickle_and_only_what_it_needs(store):
    files = [path for path in (store / "artifacts").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".py", ".json", ".safetensors", ".yaml", ".yml", ".txt", ""}
    packaged = {path.relative_to(path.parents[1]).as_posix() for path in files if path.parent.name == "behavior_lib"}
    assert packaged == {f"behavior_lib/{name}.py" for name in ("__init__", "errors", "version")}
    rooms = {path.parent.name for path in files if path.parent.parent.name == "behavior_lib"}
    assert rooms == {"data", "inference", "models", "tables"}
    requirements = next(path for path in files if path.name == "requirements.txt").read_text().split()
    assert {line.partition("==")[0] for line in requirements} == {"mlflow", "numpy", "pandas", "safetensors", "torch"}

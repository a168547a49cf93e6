"""A run that begins with a registered model: on rank 0, once, and told apart from runs that do not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes

from behavior_lib.config import load
from behavior_lib.data.loader import Loader
from behavior_lib.data.snapshot import Snapshot, count_train
from behavior_lib.errors import ConfigError, DataRefused
from behavior_lib.models.build import DESCRIPTION, WEIGHTS, load_model
from behavior_lib.train.communicator import SingleProcess
from behavior_lib.train.loop import fit
from behavior_lib.train.plan import plan
from behavior_lib.train.start import start_from_cooccurrence
from behavior_lib.train.store import FolderStore
from behavior_lib.train.transfer import Origin, start_from_model
from behavior_lib.train.validation import validation_ndcg
from tests.sequences_example import frame, histories, write
from tests.train.test_fit import LENGTH, SETTINGS, Watcher, new_model

pytestmark = pytest.mark.usefixtures("one_thread")

N_ITEMS = 30
# Without the value, which follows from the number of an item in these rows.
PLAIN = {"repeat_path": False, "use_value": False}
# The other source has the same items under other numbers, and five more.
NUMBER_THERE = np.concatenate([[0, 1, 2], 3 + np.random.default_rng(5).permutation(N_ITEMS)])


def following(n_users, seed):
    """Users who go through the items in one fixed order, each from somewhere; and the item that comes next."""
    random = np.random.default_rng(seed)
    starts = random.integers(0, N_ITEMS, n_users)
    lists = [[int(3 + (start + step) % N_ITEMS) for step in range(LENGTH)] for start in starts]
    return lists, [[int(3 + (start + LENGTH) % N_ITEMS)] for start in starts]


def snapshot_of(folder, lists, targets):
    version = write(
        folder, frame(histories(lists, LENGTH), "train"), frame(histories(lists, LENGTH), "validation", targets)
    )
    return Snapshot.resolve(str(folder), version)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A source, and another of the same structure, whose items have other numbers."""
    root = tmp_path_factory.mktemp("tables")
    lists, targets = following(80, 1)
    others, other_targets = following(80, 2)

    def there(rows):
        return [[int(NUMBER_THERE[item]) for item in row] for row in rows]

    return snapshot_of(root / "one", lists, targets), snapshot_of(root / "two", there(others), there(other_targets))


@pytest.fixture(scope="module")
def trained(sources, tmp_path_factory):
    """A folder with a model of the first source."""
    folder, model = tmp_path_factory.mktemp("trained"), new_model(sources[0], **PLAIN)
    settings = replace(SETTINGS, epochs=10)
    result = fit(model, sources[0], settings, SingleProcess(), Watcher(), FolderStore(str(folder / "store")))
    FolderStore(str(folder / "store")).get(result.checkpoint, folder)
    return folder


@pytest.fixture
def origin(trained):
    number_here = np.argsort(NUMBER_THERE)
    files = {name: (trained / name).read_bytes() for name in (WEIGHTS, DESCRIPTION)}
    return Origin("shop/3", files, number_here.astype(np.int64), np.arange(4))


def ndcg(model, snapshot):
    return validation_ndcg(model, Loader(snapshot, "validation", 16, "pyarrow"), SingleProcess(), 3)


def test_what_was_learned_elsewhere_is_known_before_the_first_step(sources, origin, tmp_path):
    store, fresh, started = FolderStore(str(tmp_path)), *(new_model(sources[1], **PLAIN) for _ in range(2))
    origin.put(store)
    start_from_model(started, store)
    assert ndcg(fresh, sources[1]) < 0.2
    assert ndcg(started, sources[1]) > 0.8


def test_a_run_begins_with_it_whatever_else_it_starts_from(sources, origin, trained, tmp_path):
    """Where no step moves a weight, those of the model are what is kept."""
    settings = replace(SETTINGS, epochs=1, learning_rate=0.0, origin=origin.identity, start="cooccurrence")
    model, store = new_model(sources[1], **PLAIN), FolderStore(str(tmp_path))
    origin.put(store)
    fit(model, sources[1], settings, SingleProcess(), Watcher(), store)
    old = load_model(trained)
    here, there = range(3, 3 + N_ITEMS), NUMBER_THERE[3:].tolist()
    assert torch.equal(model.items.weight[there], old.items.weight[here])
    for name, weight in old.encoder.named_parameters():
        assert torch.equal(dict(model.encoder.named_parameters())[name], weight), name


def test_items_that_it_does_not_know_start_where_they_lie_beside_those_that_it_does(sources, origin, trained, tmp_path):
    """Against SciPy's solution of the orthogonal Procrustes problem."""
    unknown = [int(NUMBER_THERE[place]) for place in range(3, 9)]
    numbers = origin.items.copy()
    numbers[unknown] = -1
    some = replace(origin, items=numbers)
    settings = replace(SETTINGS, epochs=1, learning_rate=0.0, origin=some.identity, start="cooccurrence")
    model, alone, store = *(new_model(sources[1], **PLAIN) for _ in range(2)), FolderStore(str(tmp_path))
    some.put(store)
    fit(model, sources[1], settings, SingleProcess(), Watcher(), store)
    start_from_cooccurrence(alone, sources[1], settings)
    counted, there = (each.items.weight.detach().double().numpy() for each in (alone, model))
    known = [number for number in range(3, 3 + N_ITEMS) if number not in unknown]
    old = load_model(trained).items.weight.detach().numpy()
    np.testing.assert_array_equal(there[known], old[numbers[known]])
    turn, _ = orthogonal_procrustes(counted[known], there[known])
    np.testing.assert_allclose(there[unknown], counted[unknown] @ turn, rtol=0, atol=1e-5)
    assert not np.allclose(there[unknown], counted[unknown], atol=0.01)


def test_without_the_model_in_its_store_a_run_does_not_begin(sources, origin, tmp_path):
    settings = replace(SETTINGS, epochs=1, origin=origin.identity)
    with pytest.raises(DataRefused, match="a checkpoint is not whole"):
        fit(new_model(sources[1]), sources[1], settings, SingleProcess(), Watcher(), FolderStore(str(tmp_path)))


def test_runs_of_other_beginnings_have_other_states(sources, origin, tmp_path):
    paths = [f"paths.{name}={tmp_path / name}" for name in ("raw", "warehouse", "var")]
    sizes = ["model.dimension=16", "model.window=8", "model.layers=1", "model.heads=2", "model.use_value=false"]
    own = [*paths, "model.name=transformer_repeat", *sizes]
    config, counts = load("test", "train", own).config, count_train(sources[1])

    def states(begun):
        return plan(config, counts, tmp_path, begun).checkpoints_of(sources[1])

    renumbered = replace(origin, items=origin.items[::-1].copy())
    found = [states(begun) for begun in (None, origin, renumbered, replace(origin, name="shop/4"))]
    assert len(set(found)) == 4
    assert states(replace(origin)) == found[1]
    assert plan(config, counts, tmp_path, origin).fit.origin.startswith("shop/3 ")
    config.model.dimension = 32
    with pytest.raises(ConfigError, match=r"another architecture in train.start_model: \{'dimension': 16\}"):
        states(origin)

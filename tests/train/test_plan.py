"""What the configuration says reaches the run, key by key."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest

from behavior_lib.config import load
from behavior_lib.config.model import ModelConfig
from behavior_lib.config.train import TrainConfig
from behavior_lib.data.snapshot import Snapshot, TrainCounts
from behavior_lib.errors import ConfigError
from behavior_lib.models.base import ModelSpec
from behavior_lib.models.build import blank_tensors
from behavior_lib.train.plan import plan
from behavior_lib.train.settings import FitSettings, RunSettings

COUNTS = TrainCounts(np.array([0, 0, 0, 4, 2]), 4, 8, 30, 10)


def planned(tmp_path, *changes, counts=COUNTS):
    paths = [f"paths.{name}={tmp_path / name}" for name in ("raw", "warehouse", "var")]
    return plan(load("test", "train", [*paths, *changes]).config, counts, tmp_path / "run")


def names(*kinds):
    return {field.name for kind in kinds for field in fields(kind)}


def test_every_field_of_a_run_is_a_key_or_worked_out_here():
    assert names(ModelSpec) - names(ModelConfig, TrainConfig) == {
        "length",
        "n_items",
        "n_event_types",
        "attribute_values",
        "vector_widths",
    }
    assert names(FitSettings) - names(TrainConfig) == {"seed", "tokens_per_row", "k", "keeps_newest", "origin"}
    assert names(RunSettings) - names(TrainConfig) == {"spec", "fit", "folder", "attributes"}


def test_a_refit_keeps_its_newest_epoch(tmp_path):
    assert [planned(tmp_path, f"train.split={split}").fit.keeps_newest for split in ("train", "refit")] == [False, True]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("train.max_steps=0", "train.max_steps must be above 0: 0; null trains all steps of train.epochs"),
        ("train.stop_after=99", "train.stop_after cannot be: 99; choose 1 to train.epochs"),
        (
            "train.table_optimizer=rowwise model.item_attributes=[brand]",
            r"row-wise tables take no item attributes: \['brand'\]; --set train\.table_optimizer=dense",
        ),
        (
            "train.table_optimizer=rowwise model.item_vectors=[text]",
            r"row-wise tables take no item vectors: \['text'\]; --set train\.table_optimizer=dense, or leave",
        ),
        ("model.item_vectors=[text,text]", r"model.item_vectors names one twice: \['text', 'text'\]"),
        ("evaluate.k=0", "evaluate.k must be at least 1: 0"),
        ("train.clip_norm=0", "train.clip_norm must be above 0: 0"),
        ("train.warmup_share=2", "train.warmup_share must be from 0 to 1: 2"),
        ("train.weight_decay=-0.1", r"train\.weight_decay is less than 0: -0\.1; 0 leaves it out"),
        (
            "model.objectives.augmentations=0.1 train.workers=2 train.batch_of=step train.batch_size=2",
            "augmentations tells rows of a batch apart, and a worker's batches have one row in train.batch_size: 2; "
            "give 4 or more",
        ),
        ("model.successors=-1", "model.successors is less than 0: -1; 0 leaves the path out"),
        ("model.repeat_discount=-0.5", r"model\.repeat_discount is less than 0: -0\.5; 0 counts all events alike"),
    ],
)
def test_what_cannot_be_is_told(tmp_path, change, sentence):
    with pytest.raises(ConfigError, match=sentence):
        planned(tmp_path, *change.split())


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("model.dimension=12", 12),
        ("model.use_gap=false", False),
        ("model.use_hour=true", True),
        ("model.use_weekday=true", True),
        ("train.negatives=7", 7),
        ("train.reader=pyarrow", "pyarrow"),
        ("train.start=random", "random"),
        ("train.clip_norm=0.25", 0.25),
        ("train.half_gradients=true", True),
        ("train.communicator=torch", "torch"),
        ("train.restarts=5", 5),
        ("train.stop_after=3", 3),
        ("train.max_steps=3", 3),
        ("model.successors=7", 7),
    ],
)
def test_a_key_reaches_the_field_of_its_name(tmp_path, change, value):
    run = planned(tmp_path, change)
    name = change.partition("=")[0].partition(".")[2]
    (found,) = [vars(part)[name] for part in (run.spec, run.fit, run) if name in vars(part)]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("key", ["use_hour", "use_weekday"])
def test_hours_of_rows_without_times_are_refused(tmp_path, key):
    timeless = replace(COUNTS, has_times=False)
    sentence = "model.use_hour and use_weekday read times that rows of train do not have; run build_sequences again"
    with pytest.raises(ConfigError, match=sentence):
        planned(tmp_path, f"model.{key}=true", counts=timeless)
    assert not vars(planned(tmp_path, counts=timeless).spec)[key]


def test_what_the_data_says_is_worked_out(tmp_path):
    run = planned(tmp_path, "seed=5", "evaluate.k=4", "model.window=99", "train.threads=3")
    assert (run.spec.length, run.spec.window, run.spec.n_items, run.spec.n_event_types) == (8, 8, 5, 4)
    assert (run.fit.seed, run.fit.k, run.fit.threads, run.fit.tokens_per_row) == (5, 4, 3, 3.0)
    assert run.folder == str(tmp_path / "run")


def test_values_of_items_reach_the_model_and_tell_runs_apart(tmp_path):
    def run(values, *names):
        paths = [f"paths.{name}={tmp_path / name}" for name in ("raw", "warehouse", "var")]
        counts = replace(COUNTS, attributes=values)
        return plan(load("test", "train", [*paths, f"model.item_attributes={list(names)}"]).config, counts, tmp_path)

    values = np.array([[0, 0]] * 3 + [[3, 5], [4, 5]])
    one, other, none = run(values, "brand", "size"), run(values[::-1].copy(), "brand", "size"), run(None)
    assert (one.spec.item_attributes, one.spec.attribute_values) == (["brand", "size"], 6)
    assert (none.spec.item_attributes, none.spec.attribute_values) == ([], 0)
    assert one.spec.shapes() == {"item_counts": (5,), "attribute_index": (5, 2)}
    assert {
        name: array.shape for name, array in replace(COUNTS, attributes=values).arrays().items()
    } == one.spec.shapes()
    assert (none.spec.shapes(), list(COUNTS.arrays())) == ({"item_counts": (5,)}, ["item_counts"])
    files = Snapshot("/tables/sequences", 1, {})
    assert one.spec == other.spec
    assert one.checkpoints_of(files) == run(values, "brand", "size").checkpoints_of(files)
    assert len({each.checkpoints_of(files) for each in (one, other, none)}) == 3


def test_given_vectors_reach_the_model_and_tell_runs_apart(tmp_path):
    def run(vectors, values=None):
        paths = [f"paths.{name}={tmp_path / name}" for name in ("raw", "warehouse", "var")]
        attributes = [] if values is None else ["model.item_attributes=[brand]"]
        config = load("test", "train", [*paths, *attributes, f"model.item_vectors={list(vectors)}"]).config
        counts = replace(COUNTS, vectors=vectors, attributes=values)
        return counts, plan(config, counts, tmp_path)

    text, picture = (np.arange(5 * width, dtype=np.float32).reshape(5, width) for width in (3, 2))
    counts, both = run({"text": text, "picture": picture})
    assert (both.spec.item_vectors, both.spec.vector_widths) == (["text", "picture"], [3, 2])
    assert both.spec.shapes() == {"item_counts": (5,), "given_vectors": (5, 5)}
    np.testing.assert_array_equal(counts.arrays()["given_vectors"], np.concatenate([text, picture], 1))
    assert ModelSpec.from_json(json.loads(json.dumps(both.spec.as_json()))) == both.spec
    blank = blank_tensors(both.spec)
    assert {name: (*tensor.shape, str(tensor.dtype)) for name, tensor in blank.items()} == {
        "item_counts": (5, "torch.int64"),
        "given_vectors": (5, 5, "torch.float32"),
    }
    values, files = np.array([[0]] * 3 + [[3], [4]]), Snapshot("/tables/sequences", 1, {})
    runs = [run({}), run({"text": text}), run({"text": text + 1}), run({"text": text}, values), run({}, values)]
    assert len({each.checkpoints_of(files) for _, each in runs}) == 5
    assert run({"text": text.copy()})[1].checkpoints_of(files) == runs[1][1].checkpoints_of(files)

"""The search space: what a YAML file may say, and what each range gives a trial."""

import optuna
import pytest

from behavior_lib.config import load
from behavior_lib.config.loader import find_yaml
from behavior_lib.errors import ConfigError
from behavior_lib.tune.search import as_settings
from behavior_lib.tune.space import Between, OneOf, Space, read_space, tunable

PATHS = [f"paths.{name}=/x/{name}" for name in ("raw", "warehouse", "var")]


def space_of(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return read_space(str(path))


def test_ranges_take_the_types_of_their_keys_in_the_order_of_the_keys(tmp_path):
    text = """
train.learning_rate: {low: 1e-3, high: 1, log: true}
model: {layers: {low: 1, high: 3}, repeat_path: {choices: [true, false]}}
train.weight_decay: {choices: [0, 0.1]}
train.start: {choices: [random, cooccurrence]}
"""
    space = space_of(tmp_path, text)
    assert list(space.ranges.items()) == [
        ("model.layers", Between(1, 3)),
        ("model.repeat_path", OneOf((True, False))),
        ("train.learning_rate", Between(0.001, 1.0, log=True)),
        ("train.start", OneOf(("random", "cooccurrence"))),
        ("train.weight_decay", OneOf((0.0, 0.1))),
    ]
    backwards = "\n".join(reversed(text.strip().splitlines()))
    assert repr(space_of(tmp_path, backwards)) == repr(space)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    drawn = [space.suggest(study.ask()) for _ in range(40)]
    assert {values["model.layers"] for values in drawn} == {1, 2, 3}
    assert {values["model.repeat_path"] for values in drawn} == {True, False}
    rates = [values["train.learning_rate"] for values in drawn]
    assert all(0.001 <= rate <= 1 for rate in rates)
    assert sum(rate < 0.0316 for rate in rates) > 10  # a third at least below the middle of the magnitudes


def test_what_was_drawn_is_a_setting_without_loss():
    chosen = {"train.learning_rate": 1.2345678901234567e-05, "model.repeat_path": False, "model.layers": 3}
    chosen |= {"train.start": "random"}
    config = load("test", "train", [*PATHS, *as_settings(chosen)]).config
    assert config.train.learning_rate == 1.2345678901234567e-05
    assert (config.model.repeat_path, config.model.layers, config.train.start.value) == (False, 3, "random")


def test_what_a_space_holds():
    space = Space({"model.layers": Between(1, 3), "train.start": OneOf(("random",))})
    assert space.holds({"model.layers": 3, "train.start": "random"})
    assert not space.holds({"model.layers": 4, "train.start": "random"})
    assert not space.holds({"model.layers": 3, "train.start": "cooccurrence"})
    assert not Space({"train.max_steps": Between(500, 2000)}).holds({"train.max_steps": None})


def test_only_what_decides_what_is_learned_can_vary():
    can = set(tunable())
    assert {"model.dimension", "model.name", "train.learning_rate", "train.batch_size", "train.negatives"} <= can
    assert not can & {"train.threads", "train.checkpoints", "train.workers", "train.dry_run", "seed", "evaluate.k"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "nothing varies in space mine.yaml; name keys and their ranges as conf/tune/default.yaml does"),
        (
            "train.learnin_rate: {low: 1, high: 2}",
            "unknown key train.learnin_rate in space mine.yaml; did you mean train.learning_rate?",
        ),
        (
            "paths.var: {choices: [a, b]}",
            "paths.var cannot vary in space mine.yaml; what decides what is learned can: keys of model, and most of "
            "train",
        ),
        (
            "model.layers: 3",
            "model.layers has no range in space mine.yaml: 3; write {low: …, high: …}, with log: true or without, or "
            "{choices: […]}",
        ),
        (
            "model.layers: {low: 1}",
            "model.layers has no range in space mine.yaml: {'low': 1}; write {low: …, high: …}, with log: true or "
            "without, or {choices: […]}",
        ),
        (
            "model.layers: {low: 1, high: 2, choices: [1, 2]}",
            "model.layers has no range in space mine.yaml: {'low': 1, 'high': 2, 'choices': [1, 2]}; write {low: …, "
            "high: …}, with log: true or without, or {choices: […]}",
        ),
        (
            "model.layers: {lo: 1, high: 2}",
            "unknown key model.layers.lo in space mine.yaml; did you mean model.layers.low?",
        ),
        (
            "model.layers: {low: 3, high: 1}",
            "model.layers.low is not below model.layers.high in space mine.yaml: [3, 1]",
        ),
        ("model.layers: {low: 1.5, high: 3}", "model.layers takes whole numbers in space mine.yaml: 1.5"),
        ("model.layers: {low: 1, high: true}", "model.layers takes whole numbers in space mine.yaml: True"),
        ("model.dropout: {low: 0, high: .inf}", "model.dropout takes numbers in space mine.yaml: inf"),
        (
            "model.dropout: {low: 0, high: 1, log: true}",
            "model.dropout.low must be above 0 where log is true in space mine.yaml: 0.0",
        ),
        (
            "model.dropout: {low: 0, high: 1, log: 3}",
            "model.dropout.log is neither true nor false in space mine.yaml: 3",
        ),
        ("train.start: {low: 1, high: 2}", "train.start is no number in space mine.yaml; give it choices"),
        (
            "train.start: {choices: [randm, cooccurrence]}",
            "train.start takes one of cooccurrence, random in space mine.yaml: 'randm'",
        ),
        ("model.use_gap: {choices: [1, true]}", "model.use_gap takes true or false in space mine.yaml: 1"),
        ("model.name: {choices: [a, 3]}", "model.name takes texts in space mine.yaml: 3"),
        (
            "model.layers: {choices: [2, 2]}",
            "model.layers.choices leaves no choice in space mine.yaml: [2, 2]; write two or more, all different",
        ),
        (
            "model.layers: {choices: 2}",
            "model.layers.choices leaves no choice in space mine.yaml: 2; write two or more, all different",
        ),
    ],
)
def test_a_wrong_space_is_one_sentence(tmp_path, text, sentence):
    with pytest.raises(ConfigError) as error:
        space_of(tmp_path, text)
    assert str(error.value) == sentence


def test_the_shipped_space_is_sound_and_holds_the_defaults():
    space, loaded = read_space("default"), load("test", "train", PATHS)
    assert space.holds({key: loaded.value(key) for key in space.ranges})
    with pytest.raises(ConfigError, match=r"^unknown space: 'defalt'; did you mean default\?$"):
        find_yaml("defalt", "tune", "space")

"""What a model takes of another: every weight of the encoder, rows by name, and nothing else."""

import pytest
import torch
from torch.testing import assert_close

from behavior_lib.errors import ConfigError
from behavior_lib.models.base import ModelSpec
from behavior_lib.models.build import build_model
from behavior_lib.models.objectives.chosen import OBJECTIVES
from behavior_lib.models.slots import LEAST
from behavior_lib.models.transfer import BY_EVENT_TYPE, BY_ITEM, BY_VALUE
from tests.encoders_example import VARIANTS, fill, objectives_of, rows

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = {"length": 12, "window": 12, "dimension": 8, "layers": 1, "heads": 2, "successors": 2, "blend": True}
WORDS = {"objectives": {"next_item": 1.0, "next_type": 1.0}}
COUNTS = torch.tensor([0, 0, 0, 5, 3, 0, 2, 7])
# Items 3, 4 and 7 of the new model are 5, 3 and 4 of the old one; the old one has no name for 6. Type 3 is its 4.
ITEMS, TYPES = torch.tensor([0, 1, 2, 5, 3, -1, -1, 4]), torch.tensor([0, 1, 2, 4, -1])


def model_of(counts, n_event_types, seed, name="transformer", **changes):
    spec = ModelSpec(name, n_items=len(counts), n_event_types=n_event_types, **{**SIZES, **WORDS, **changes})
    torch.manual_seed(seed)
    values = torch.stack([3 + torch.arange(len(counts)) % 2], 1) if spec.item_attributes else None
    given = torch.randn(spec.n_items, sum(spec.vector_widths)) if spec.item_vectors else None
    return build_model(spec, counts, values, given).eval()


def randomised(model, seed=9):
    torch.manual_seed(seed)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model


def weights(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def test_whole_weights_are_taken_and_rows_by_name():
    old, new = randomised(model_of(torch.tensor([0, 0, 0, 1, 1, 6]), 6, 1)), model_of(COUNTS, 5, 2)
    before, theirs = weights(new), weights(old)
    counted = new.item_counts.clone()
    taken = new.start_from(old, ITEMS, TYPES)
    assert taken.nonzero().flatten().tolist() == [3, 4, 7]
    after = weights(new)
    for name, weight in after.items():
        expected = before[name].clone()
        if name in BY_EVENT_TYPE:
            for own, other in ((0, 0), (1, 1), (2, 2), (3, 4)):
                expected[own] = theirs[name][other]
        elif name == "bias":
            # What it had left of log(1/8), log(1/8) and log(6/8) is added to the logarithms of the shares here.
            old_share, share = torch.tensor([1, 1, 6]).div(8).log(), COUNTS.div(17.0).log().clamp(min=LEAST)
            for own, other in ((3, 5), (4, 3), (7, 4)):
                expected[own] = share[own] + theirs[name][other] - old_share[other - 3]
            for reserved in range(3):
                expected[reserved] = share[reserved] + theirs[name][reserved] - LEAST
        elif name in BY_ITEM:
            for own, other in ((0, 0), (1, 1), (2, 2), (3, 5), (4, 3), (7, 4)):
                expected[own] = theirs[name][other]
        else:
            expected = theirs[name]
        assert_close(weight, expected, rtol=0, atol=1e-6 if name == "bias" else 0, msg=name)
    assert torch.equal(new.item_counts, counted)


def test_an_item_that_the_other_never_had_in_train_is_not_known_to_it():
    old, new = randomised(model_of(torch.tensor([0, 0, 0, 1, 0, 6]), 5, 1)), model_of(COUNTS, 5, 2)
    before = weights(new)
    new.start_from(old, torch.where(ITEMS == 5, 60, ITEMS), TYPES)
    assert torch.equal(new.items.weight[7], before["items.weight"][7])
    assert torch.equal(new.items.weight[3], before["items.weight"][3])
    assert torch.equal(new.items.weight[4], old.items.weight[3])


@pytest.mark.parametrize("variant", [name for name in VARIANTS if "learned" not in name])
def test_with_the_same_train_it_scores_as_the_other(variant):
    values = VARIANTS[variant]
    changes = {**values, "objectives": objectives_of(values["name"]), "successors": 0, "layers": 2}
    counts = torch.arange(20)
    old, new = randomised(model_of(counts, 5, 1, **changes)), model_of(counts, 5, 2, **changes)
    for model in (old, new):
        fill(model.item_graph())
    new.start_from(old, torch.arange(20), torch.arange(5))
    with torch.no_grad():
        assert_close(new.scores(rows(3)), old.scores(rows(3)))
        assert_close(new.user_vectors(rows(3)), old.user_vectors(rows(3)), rtol=0, atol=0)


def test_what_values_gave_an_item_is_then_its_own():
    changes = {"item_attributes": ["brand"], "attribute_values": 5, "repeat_path": True}
    old, new = (model_of(COUNTS, 5, seed, **changes) for seed in (1, 2))
    randomised(old)
    new.start_from(old, torch.arange(8), torch.arange(5))
    known = COUNTS > 0
    assert_close(new.item_vectors()[known], old.item_vectors()[known], rtol=0, atol=1e-6)
    assert not new.attributes.vectors.weight.any()
    assert torch.equal(new.attributes.networks[0][0].weight, old.attributes.networks[0][0].weight)
    other = model_of(COUNTS, 5, 2, **{**changes, "item_attributes": ["size"]})
    before = weights(other)
    other.start_from(old, torch.arange(8), torch.arange(5))
    assert torch.equal(other.attributes.networks[0][0].weight, before["attributes.networks.0.0.weight"])


def test_projections_are_taken_by_name_and_items_that_both_know_stay_where_they_were():
    old = randomised(model_of(COUNTS, 5, 1, item_vectors=["text", "sound"], vector_widths=[3, 2]))
    new = model_of(COUNTS, 5, 2, item_vectors=["picture", "text"], vector_widths=[2, 3])
    before = weights(new)
    new.start_from(old, ITEMS, TYPES)
    taken = old.given.projections["of_text"]
    assert torch.equal(new.given.projections["of_text"], taken)
    assert torch.equal(new.given.projections["of_picture"], torch.zeros(8, 2))
    # Item 6 is new: where its own vector and its text say. Items 3, 4 and 7 are 5, 3 and 4 of the old model.
    assert_close(new.item_vectors()[6], before["items.weight"][6] + taken @ new.given.given[6, 2:])
    known = COUNTS[[5, 3, 4]] > 0
    assert known.tolist() == [False, True, True]
    assert_close(new.item_vectors()[[4, 7]], old.item_vectors()[[3, 4]], rtol=0, atol=1e-5)
    assert_close(new.item_vectors()[3], before["items.weight"][3] + taken @ new.given.given[3, 2:])

    wider = model_of(COUNTS, 5, 2, item_vectors=["text"], vector_widths=[4])
    wider.start_from(old, ITEMS, TYPES)
    assert not wider.given.projections["of_text"].any()
    without = model_of(COUNTS, 5, 2)
    without.start_from(old, ITEMS, TYPES)
    assert torch.equal(without.items.weight[[4, 7]], old.item_vectors()[[3, 4]])


def test_item_vectors_to_start_from_are_then_those_of_the_items():
    model = randomised(model_of(COUNTS, 5, 1, item_vectors=["text"], vector_widths=[3]))
    before = model.item_vectors().detach()
    start = torch.randn(len(COUNTS), 8)
    start[4] = 0
    model.start_item_vectors(start)
    for item, wanted in ((3, start), (4, before), (5, before), (6, start), (7, start)):
        assert_close(model.item_vectors()[item], wanted[item], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", sorted({values["name"] for values in VARIANTS.values()}))
def test_every_weight_that_grows_with_items_types_or_values_is_listed(name):
    causal = dict.fromkeys(OBJECTIVES, 1.0)
    objectives = causal if "next_item" in objectives_of(name) else objectives_of(name)
    changes = {"name": name, "objectives": objectives, "item_attributes": ["brand"], "repeat_path": True}

    def shapes(n_items, n_types, n_values):
        model = model_of(torch.arange(n_items), n_types, 0, **changes, attribute_values=n_values)
        return {key: parameter.shape for key, parameter in model.named_parameters()}

    plain = shapes(10, 5, 6)

    def grown(*sizes):
        return {key for key, shape in shapes(*sizes).items() if shape != plain[key]}

    assert grown(11, 5, 6) <= {*BY_ITEM}
    assert grown(10, 6, 6) <= {*BY_EVENT_TYPE}
    assert grown(10, 5, 7) == {BY_VALUE}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"dimension": 16, "use_gap": False},
            r"another architecture in train.start_model: \{'dimension': 8, 'use_gap': True\}; "
            r"--set model.dimension=8 --set model.use_gap=true, or start from another model",
        ),
        (
            {"use_hour": True},
            r"architecture in train.start_model: \{'use_hour': False\}; --set model.use_hour=false, or",
        ),
        ({"name": "gru"}, r"another architecture in train.start_model: \{'name': 'transformer'\}"),
    ],
)
def test_another_architecture_is_refused_with_the_mend(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        model_of(COUNTS, 5, 2, **changes).start_from(model_of(COUNTS, 5, 1), ITEMS, TYPES)


@pytest.mark.parametrize(
    ("own", "key", "values"),
    [
        ({"name": "mean"}, "repeat_discount", (1.0, 0.0)),
        ({"similarity": "cosine"}, "temperature", (0.05, 0.2)),
    ],
)
def test_what_weights_mean_where_it_matters_is_compared_too(own, key, values):
    new, old = (model_of(COUNTS, 5, 2, **own, **{key: value}) for value in values)
    sentence = rf"train.start_model: \{{'{key}': {values[1]}\}}; --set model.{key}={values[1]}, or start from another"
    with pytest.raises(ConfigError, match=sentence):
        new.start_from(old, ITEMS, TYPES)
    # Elsewhere it says nothing.
    new, old = (model_of(COUNTS, 5, 2, **{key: value}) for value in values)
    assert new.start_from(old, ITEMS, TYPES).any()


def test_learned_positions_of_another_window_are_refused():
    learned = {"positions": "learned", "repeat_path": False}
    with pytest.raises(
        ConfigError, match=r"another encoder.learned.weight in train.start_model: \[12, 8\]; --set model.window=12, or"
    ):
        model_of(COUNTS, 5, 2, **learned, window=6).start_from(model_of(COUNTS, 5, 1, **learned), ITEMS, TYPES)


def test_paths_that_one_of_the_two_does_not_have_start_as_they_are():
    old, new = randomised(model_of(COUNTS, 5, 1, repeat_path=False)), model_of(COUNTS, 5, 2, name="transformer_repeat")
    before = weights(new)
    new.start_from(old, torch.arange(8), torch.arange(5))
    assert torch.equal(new.repeat.network[0].weight, before["repeat.network.0.weight"])
    assert torch.equal(new.items.weight[COUNTS > 0], old.items.weight[COUNTS > 0])

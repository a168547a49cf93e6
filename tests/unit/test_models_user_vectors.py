"""How states become the user's vector, how it is compared with items, and that the head of a vector is one too."""

import math

import numpy as np
import pytest
import torch

from behavior_lib.config import load
from behavior_lib.config.model import PoolingName, SimilarityName
from behavior_lib.data.snapshot import TrainCounts
from behavior_lib.errors import ConfigError
from behavior_lib.layout import conf_root
from behavior_lib.models.batch import Batch
from behavior_lib.models.build import build_model, load_model, save_model
from behavior_lib.models.instants import instant_ends
from behavior_lib.models.pooling import POOLINGS
from behavior_lib.models.similarity import COSINE, DOT
from behavior_lib.train.plan import plan
from tests.encoders_example import CAUSAL, N_ITEMS, WINDOW, fill, rows, spec_of
from tests.sequences_example import histories
from tests.unit.test_models_encoders import cycles

pytestmark = pytest.mark.usefixtures("one_thread")

COUNTS = torch.tensor([0, 0, 0, *range(1, N_ITEMS - 2)])
SHARE = (COUNTS / COUNTS.sum()).double().numpy()


def model_of(variant="gru", seed=1, **changes):
    torch.manual_seed(seed)
    changes = {"length": 3 * WINDOW, "dropout": 0.0, "negatives": 64, "repeat_path": False, **changes}
    return build_model(spec_of(variant, **changes), COUNTS)


def loss_of(model, batch):
    prepared = model.prepare(batch)
    return model.loss(prepared, model.draw(prepared, torch.Generator().manual_seed(1)))


def numbers(tensor):
    return tensor.detach().double().numpy()


def pooled(model, states):
    """[d]: the user after the last of the states [m, d], by numpy."""
    if model.spec.pooling == "newest":
        return states[-1]
    if model.spec.pooling == "mean":
        return states.mean(0)
    if model.spec.pooling == "cls":
        return class_token({name: numbers(part) for name, part in model.pooling.state_dict().items()}, states)
    score = np.tanh(states @ numbers(model.pooling.key.weight).T) @ numbers(model.pooling.query)
    weight = np.exp(score) / np.exp(score).sum()
    return weight @ states


def class_token(w, states, heads=2):
    """Class-attention of CaiT, one head after another, for the states [m, d] so far."""

    def linear(name, x):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def normed(name, x):
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]

    x = normed("attention_norm", np.vstack([w["token"], states]))
    query, (key, value) = linear("query", x[0]), np.split(linear("key_value", x), 2, 1)
    parts = []
    for head in np.split(np.arange(len(query)), heads):
        weight = np.exp(key[:, head] @ query[head] / math.sqrt(len(head)))
        parts.append(weight / weight.sum() @ value[:, head])
    user = w["token"] + linear("out", np.concatenate(parts))
    hidden = linear("feed_forward.1", normed("feed_forward.0", user))
    gelu = hidden * np.vectorize(lambda z: (1 + math.erf(z / math.sqrt(2))) / 2)(hidden)
    return user + linear("feed_forward.3", gelu)


def test_the_names_of_the_configuration_are_those_of_the_models():
    assert [name.value for name in PoolingName] == list(POOLINGS)
    assert [name.value for name in SimilarityName] == [DOT, COSINE]


@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_user_is_pooled_from_the_states_of_the_newest_window(pooling):
    model = model_of(pooling=pooling).eval()
    batch = model.prepare(rows(5, n=8, columns=3 * WINDOW))
    users = numbers(model.user_vectors(batch))
    assert users[0].tolist() == [0.0] * 8
    for row in batch.length.nonzero().flatten().tolist():
        window = batch.rows(torch.tensor([row])).newest(WINDOW)
        states = numbers(model.encoder(window, model.items.weight)[0])
        np.testing.assert_allclose(users[row], pooled(model, states), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", CAUSAL)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_what_is_scored_in_training_is_the_user_of_a_history_that_ends_there(pooling, variant, monkeypatch):
    model = model_of(variant, pooling=pooling).eval()
    fill(model.item_graph())
    batch = model.prepare(rows(6, n=8))
    asked = []
    monkeypatch.setattr(model, "item_loss", lambda *told: asked.append(told) or torch.zeros(()))
    loss_of(model, batch)
    ends = instant_ends(batch)
    past = batch.rows(ends.row).cut(ends.column + 1)
    assert len(ends) > 10
    torch.testing.assert_close(asked[0][0], model.user_vectors(past), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", ["gru", "transformer", "mean", "gat", "bidirectional"])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_padding_and_neighbours_do_not_change_a_pooled_user(variant, pooling):
    objectives = {"next_item": 1.0} if variant in CAUSAL else {"masked_items": 1.0, "sub_sequences": 1.0}
    model = model_of(variant, pooling=pooling, objectives=objectives).eval()
    batch = rows(7, n=6)
    users = model.user_vectors(batch)
    for row in range(len(batch)):
        length = int(batch.length[row])
        alone = model.user_vectors(batch.rows(torch.tensor([row])).newest(max(1, length)))
        torch.testing.assert_close(alone[0], users[row], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_weight_of_a_pooling_learns(pooling):
    model = model_of(pooling=pooling, repeat_path=True)
    loss_of(model, rows(5, n=20)).backward()
    assert [name for name, weight in model.named_parameters() if not (weight.grad != 0).any()] == []
    own = {name.split(".")[1] for name in model.state_dict() if name.startswith("pooling")}
    of_cls = {"token", "attention_norm", "query", "key_value", "out", "feed_forward"}
    parts = {"attention": {"key", "query"}, "cls": of_cls}
    assert own == parts.get(pooling, set())


def normalised(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def softmax_loss(users, items, ends, batch):
    """The mean surprise of the items of the next instants, by numpy; users, items as they are multiplied."""
    logits = users @ items.T + np.log(np.where(SHARE > 0, SHARE, 1))
    logits[:, SHARE == 0] = -np.inf
    surprise = np.log(np.exp(logits).sum(1))
    owner, targets = (part.numpy() for part in ends.targets(batch.item_index))
    known = targets >= 3
    return (surprise[owner] - logits[owner, targets])[known].mean()


@pytest.mark.parametrize("prefixes", [[], [2, 5]])
@pytest.mark.parametrize("similarity", [DOT, COSINE])
def test_losses_and_scores_by_numpy(similarity, prefixes):
    model = model_of(loss="softmax", similarity=similarity, temperature=0.5, prefixes=prefixes)
    batch = model.prepare(rows(6, n=8))
    ends = instant_ends(batch)
    states, table = numbers(model.states(batch)[ends.row, ends.column]), numbers(model.items.weight)

    def alike(users, items):
        return (normalised(users) / 0.5, normalised(items)) if similarity == COSINE else (users, items)

    losses = [softmax_loss(*alike(states[:, :width], table[:, :width]), ends, batch) for width in [8, *prefixes]]
    assert float(loss_of(model, batch).detach()) == pytest.approx(np.mean(losses), rel=1e-5)
    users, items = numbers(model.user_vectors(batch))[1:], numbers(model.item_vectors())
    scale = 0.5 if similarity == COSINE else 1.0
    some = batch.length[1:].numpy() > 0
    if similarity == COSINE:
        np.testing.assert_allclose(np.linalg.norm(users[some], axis=1), 1, rtol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(items, axis=1), 1, rtol=1e-5)
    scores = numbers(model.scores(batch))[1:, 3:]
    np.testing.assert_allclose(scores, (users @ items.T / scale)[:, 3:] + np.log(SHARE[3:]), rtol=1e-4, atol=1e-5)
    assert np.isfinite(numbers(model.scores(batch))[0, 3:]).all()  # an empty history


def test_the_repeat_path_sees_the_logits_that_are_scored():
    """At a temperature of 1 and lengths of 1 both similarities are one."""
    lengths, found = torch.ones(()), []
    for similarity in (DOT, COSINE):
        model = model_of("mean", similarity=similarity, temperature=1.0, repeat_path=True)
        model.encoder.forward = lambda batch, items: torch.nn.functional.normalize(
            torch.sin(batch.item_index[..., None] * torch.arange(1, 9)), dim=2
        )
        with torch.no_grad():
            model.items.weight.copy_(torch.nn.functional.normalize(model.items.weight, dim=1))
        loss = loss_of(model, rows(6, n=8))
        assert torch.allclose(model.item_vectors().norm(dim=1), lengths)
        found.append((loss.detach(), model.scores(rows(6, n=8)).detach()))
    torch.testing.assert_close(found[0], found[1])


def test_vectors_to_start_from_are_taken_whatever_the_similarity():
    for similarity in (DOT, COSINE):
        model = model_of(similarity=similarity)
        given = torch.zeros(N_ITEMS, 8)
        given[5, 2], given[7, 1] = 3.0, 1.0
        before = model.items.weight.detach().clone()
        model.start_item_vectors(given)
        assert torch.equal(model.items.weight[[5, 7]], given[[5, 7]])
        assert torch.equal(model.items.weight[[4, 6]], before[[4, 6]])


def head_loss(model, batch, width):
    """The softmax over the catalogue with the head of the vectors alone, by numpy."""
    ends = instant_ends(batch)
    users = numbers(model.states(batch)[ends.row, ends.column])[:, :width]
    logits = users @ numbers(model.items.weight)[:, :width].T + numbers(model.bias)
    logits[:, SHARE == 0] = -np.inf
    owner, targets = (part.numpy() for part in ends.targets(batch.item_index))
    return float((np.log(np.exp(logits).sum(1))[owner] - logits[owner, targets]).mean())


def test_the_head_of_a_vector_is_a_vector_where_it_was_asked_for():
    found = {}
    for prefixes in ((), (4,)):
        model = model_of("transformer", loss="softmax", dimension=16, layers=1, prefixes=list(prefixes))
        batch = model.prepare(Batch.from_histories(histories(cycles(24, 10), WINDOW)))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        for _ in range(120):
            optimizer.zero_grad()
            loss_of(model, batch).backward()
            optimizer.step()
        found[prefixes] = {width: head_loss(model, batch, width) for width in (4, 16)}
    assert found[(4,)][4] < 0.1 * math.log(6) < found[()][4]
    assert max(found[(4,)][16], found[()][16]) < 0.1 * math.log(6)


def test_all_of_it_survives_a_folder(tmp_path):
    model = model_of(pooling="attention", similarity=COSINE, temperature=0.2, prefixes=[2, 4], repeat_path=True).eval()
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.spec == model.spec
    batch = rows(3)
    assert torch.equal(loaded.user_vectors(batch), model.user_vectors(batch))
    assert torch.equal(loaded.scores(batch), model.scores(batch))
    assert torch.equal(loaded.item_vectors(), model.item_vectors())


def planned(tmp_path, *changes):
    paths = [f"paths.{name}={tmp_path / name}" for name in ("raw", "warehouse", "var")]
    return plan(load("test", "train", [*paths, *changes]).config, TrainCounts(COUNTS.numpy(), 4, 8, 30, 10), tmp_path)


def test_sessions_end_where_the_source_ends_them_or_the_model_says(tmp_path):
    asked, source = "model.objectives.next_session=1", tmp_path / "log.yaml"
    ready = (conf_root() / "sources" / "web_access_log.yaml").read_text()
    source.write_text(ready.replace("session_gap: 30m", "session_gap: 45m"))
    assert planned(tmp_path, f"source={source}").spec.session_gap == 1800  # nothing asks for it
    assert planned(tmp_path, f"source={source}", asked).spec.session_gap == 2700
    assert planned(tmp_path, asked, "model.session_gap=2h").spec.session_gap == 7200
    with pytest.raises(ConfigError, match="not a duration in model.session_gap: 'soon'"):
        planned(tmp_path, asked, "model.session_gap=soon")


def test_the_configuration_reaches_the_spec(tmp_path):
    usual = planned(tmp_path).spec
    assert (usual.pooling, usual.similarity, usual.prefixes) == ("newest", "dot", [])
    changes = ["model.pooling=mean", "model.similarity=cosine", "model.temperature=0.1", "model.prefixes=[16, 32]"]
    spec = planned(tmp_path, *changes).spec
    assert (spec.pooling, spec.similarity, spec.temperature, spec.prefixes) == ("mean", "cosine", 0.1, [16, 32])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["model.prefixes=[16, 64]"], r"model\.prefixes cannot be: \[16, 64\]; give ascending widths from 1 to 63"),
        (["model.prefixes=[32, 16]"], r"model\.prefixes cannot be"),
        (["model.prefixes=[0]"], r"model\.prefixes cannot be"),
        (["model.temperature=0"], r"model\.temperature must be above 0"),
        (["model.pooling=max"], r"model\.pooling has a value of the wrong type"),
        (
            ["model.pooling=attention", "model.name=bidirectional"],
            r"no objective teaches users in model\.pooling: 'attention'; --set model\.pooling=newest, or",
        ),
        (
            ["model.pooling=mean", "model.objectives.next_item=0", "model.objectives.replaced_items=1"],
            r"no objective teaches users in model\.pooling: 'mean'",
        ),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        planned(tmp_path, *changes)


def test_names_that_nothing_has_are_refused_of_a_folder_too():
    with pytest.raises(
        ConfigError, match=r"unknown pooling in model\.pooling: 'sum'; known: newest, mean, attention, cls"
    ):
        model_of(pooling="sum")
    with pytest.raises(ConfigError, match=r"unknown similarity in model\.similarity: 'l2'; known: dot, cosine"):
        model_of(similarity="l2")

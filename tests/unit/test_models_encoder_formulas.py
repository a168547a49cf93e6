"""Each encoder against its paper's formula, written out event by event in numpy."""

import math

import numpy as np
import pytest
import torch

from behavior_lib.models.batch import Batch
from behavior_lib.tables.items import MASK_INDEX
from tests.encoders_example import WINDOW, encoder_of, rows

pytestmark = pytest.mark.usefixtures("one_thread")


INPUTS = ("event_type", "gap", "value", "hour", "weekday")


def weights_of(module):
    return {name: tensor.double().numpy() for name, tensor in module.state_dict().items()}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def silu(x):
    return x * sigmoid(x)


def gelu(x):
    return x * np.vectorize(lambda number: 0.5 * (1 + math.erf(number / math.sqrt(2))))(x)


def normed(x, weights, name):
    spread = np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return (x - x.mean(-1, keepdims=True)) / spread * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def bucket(seconds):
    return min((int(seconds) + 1).bit_length() - 1, 31)


def instants(gap):
    return np.cumsum(np.asarray(gap) != 0)


def clock(hour_of_week):
    """(hour of the day, weekday), both from 1; 0 where it is not known."""
    weekday, hour = divmod(int(hour_of_week) - 1, 24)
    return (hour + 1, weekday + 1) if hour_of_week else (0, 0)


def event_vectors(encoder, batch, vectors, row, flags=INPUTS):
    """[length, d] of a row's events."""
    w = weights_of(encoder.input)
    found = []
    for at in range(int(batch.length[row])):
        value = float(batch.value[row, at])
        part = {
            "event_type": lambda at=at: w["event_type.weight"][int(batch.event_type[row, at])],
            "gap": lambda at=at: w["gap.weight"][bucket(batch.gap_seconds[row, at])],
            "value": lambda value=value: w["value.weight"][:, 0] * math.copysign(math.log1p(abs(value)), value),
            "hour": lambda at=at: w["hour.weight"][clock(batch.hour_of_week[row, at])[0]],
            "weekday": lambda at=at: w["weekday.weight"][clock(batch.hour_of_week[row, at])[1]],
        }
        parts = [vectors[int(batch.item_index[row, at])].double().numpy(), *(part[flag]() for flag in flags)]
        fused = np.concatenate(parts) @ w["fuse.weight"].T + w["fuse.bias"] if "fuse.weight" in w else sum(parts)
        found.append(fused)
    return np.array(found).reshape(-1, vectors.shape[1])


def check(variant, formula, **changes):
    """formula(weights, x, gap) → states, all of one row without its padding."""
    encoder, vectors = encoder_of(variant, seed=3, **changes)
    batch = rows(8)
    states = encoder(batch, vectors).detach().numpy()
    assert batch.length.max() == WINDOW
    for row, length in enumerate(batch.length.tolist()):
        if length:
            x = event_vectors(encoder, batch, vectors, row)
            expected = formula(weights_of(encoder), x, batch.gap_seconds[row, :length].numpy())
            np.testing.assert_allclose(states[row, :length], expected, rtol=1e-4, atol=1e-5)


FLAGS = [(), *((name,) for name in INPUTS), INPUTS]


@pytest.mark.parametrize("fusion", ["sum", "concat"])
@pytest.mark.parametrize("flags", FLAGS)
def test_inputs(flags, fusion):
    uses = {f"use_{name}": name in flags for name in INPUTS}
    encoder, vectors = encoder_of("mean", fusion=fusion, **uses)
    batch = rows(4)
    found = encoder.input(batch, vectors).detach().numpy()
    for row, length in enumerate(batch.length.tolist()):
        expected = event_vectors(encoder, batch, vectors, row, flags)
        np.testing.assert_allclose(found[row, :length], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("discount", [0.0, 0.5, 1.0])
def test_mean(discount):
    """Each event counts less the more events of its item there were, itself included."""
    encoder, vectors = encoder_of("mean", seed=3, repeat_discount=discount)
    batch, seen = rows(8), set()
    states = encoder(batch, vectors).detach().numpy()
    for row, length in enumerate(batch.length.tolist()):
        items = batch.item_index[row, :length].tolist()
        weight = np.array([items[: at + 1].count(item) ** -discount for at, item in enumerate(items)])
        x = event_vectors(encoder, batch, vectors, row)
        expected = [np.average(x[: at + 1], axis=0, weights=weight[: at + 1]) for at in range(length)]
        np.testing.assert_allclose(states[row, :length], np.reshape(expected, x.shape), rtol=1e-4, atol=1e-5)
        seen |= set(weight)
    assert len(seen) >= 3 if discount else seen == {1}


def recurrent(step):
    """Two layers of step(from_below, from_before, h, c) → h, c, where the first two are the gates' addends."""

    def formula(w, x, gap):
        for layer in range(2):
            name = [f"recurrent.{kind}_l{layer}" for kind in ("weight_ih", "bias_ih", "weight_hh", "bias_hh")]
            h = c = np.zeros(x.shape[1])
            states = []
            for event in x:
                below, before = w[name[0]] @ event + w[name[1]], w[name[2]] @ h + w[name[3]]
                h, c = step(below, before, h, c)
                states.append(h)
            x = np.array(states)
        return x

    return formula


def test_rnn():
    check("rnn", recurrent(lambda below, before, h, c: (np.tanh(below + before), c)))


def test_gru():
    def step(below, before, h, c):
        (reset, update, new), (reset_before, update_before, new_before) = np.split(below, 3), np.split(before, 3)
        keep = sigmoid(update + update_before)
        return (1 - keep) * np.tanh(new + sigmoid(reset + reset_before) * new_before) + keep * h, c

    check("gru", recurrent(step))


def test_lstm():
    def step(below, before, h, c):
        enter, forget, new, leave = np.split(below + before, 4)
        c = sigmoid(forget) * c + sigmoid(enter) * np.tanh(new)
        return sigmoid(leave) * np.tanh(c), c

    check("lstm", recurrent(step))


def test_cnn():
    def formula(w, x, gap):
        for block in range(2):
            change = x
            for part, dilation in enumerate((4**block, 2 * 4**block)):
                kernel = w[f"blocks.{block}.convolutions.{part}.weight"]
                found = np.tile(w[f"blocks.{block}.convolutions.{part}.bias"], (len(x), 1))
                for at in range(len(x)):
                    for tap in range(3):
                        source = at - (2 - tap) * dilation
                        if source >= 0:
                            found[at] += kernel[:, :, tap] @ change[source]
                change = np.maximum(normed(found, w, f"blocks.{block}.norms.{part}"), 0)
            x = x + change
        return normed(x, w, "norm")

    check("cnn", formula)


def test_three_blocks_of_cnn_read_127_events():
    encoder, vectors = encoder_of("cnn", layers=3)
    for columns, is_read in ((127, True), (128, False)):
        batch = rows(1, n=2, columns=columns)
        before = encoder(batch, vectors)[1, -1]
        batch.item_index[1, 0] = (batch.item_index[1, 0] + 1) % len(vectors)
        assert torch.equal(encoder(batch, vectors)[1, -1], before) != is_read


def attention(query, key, value, score, weigh, both_ways=False):
    """[L, d] of one head: event i sees j ≤ i, or all, with weigh(scores of the seen)."""
    found = []
    for i in range(len(query)):
        end = len(query) if both_ways else i + 1
        seen = np.array([score(query, key, i, j) for j in range(end)])
        found.append(weigh(seen) @ value[:end])
    return np.array(found)


def softmax(scores):
    weight = np.exp(scores - scores.max())
    return weight / weight.sum()


def turned(x, position):
    """The halves of a vector as complex numbers, turned by position / 10000 ** (2 k / width)."""
    half = len(x) // 2
    numbers = (x[:half] + 1j * x[half:]) * np.exp(1j * position * 10_000.0 ** (-2 * np.arange(half) / len(x)))
    return np.concatenate([numbers.real, numbers.imag])


def transformer(w, x, place, rotary, of_time=None, both_ways=False):
    """Two layers of two heads. of_time(i, j): the bucket of the time between two events, where that counts."""
    for layer in range(2):
        name = f"blocks.{layer}"
        parts = np.split(normed(x, w, f"{name}.attention_norm") @ w[f"{name}.query_key_value.weight"].T, 3, 1)
        heads = []
        for head in range(2):

            def score(query, key, i, j, head=head):
                if rotary:
                    return turned(query[i], place[i]) @ turned(key[j], place[j]) / 2
                return query[i] @ key[j] / 2 + (w["time.bias.weight"][of_time(i, j), head] if of_time else 0.0)

            of_head = [part[:, 4 * head : 4 * head + 4] for part in parts]
            heads.append(attention(*of_head, score, softmax, both_ways))
        x = x + np.concatenate(heads, 1) @ w[f"{name}.out.weight"].T
        inner = normed(x, w, f"{name}.feed_forward.0") @ w[f"{name}.feed_forward.1.weight"].T
        inner = gelu(inner + w[f"{name}.feed_forward.1.bias"])
        x = x + inner @ w[f"{name}.feed_forward.3.weight"].T + w[f"{name}.feed_forward.3.bias"]
    return normed(x, w, "norm")


@pytest.mark.parametrize("variant", ["transformer", "transformer, learned", "transformer, time"])
def test_transformer(variant):
    def formula(w, x, gap):
        place, elapsed = instants(gap), np.cumsum(gap)
        if variant == "transformer, learned":
            x = x + w["learned.weight"][place]
        of_time = (lambda i, j: bucket(elapsed[i] - elapsed[j])) if "time" in variant else None
        return transformer(w, x, place, variant == "transformer", of_time)

    check(variant, formula)


@pytest.mark.parametrize("variant", ["bidirectional", "bidirectional, learned", "bidirectional, time"])
def test_bidirectional(variant):
    encoder, vectors = encoder_of(variant, seed=3)
    batch = rows(8)
    batch.item_index[1, [2, 3, 7, 11]] = MASK_INDEX  # two of them one behind the other
    batch.gap_seconds[1] = torch.tensor([0, 0, 60, 60, 0, 86_400, 9, 500, 0, 0, 5, 70])
    shown = Batch(**{name: tensor.clone() for name, tensor in vars(batch).items()})
    hidden = shown.item_index == MASK_INDEX
    shown.event_type[hidden], shown.gap_seconds[hidden], shown.value[hidden] = MASK_INDEX, 0, 0.0
    shown.hour_of_week[hidden] = 0
    states = encoder(batch, vectors).detach().numpy()
    for row, length in enumerate(batch.length.tolist()):
        if not length:
            continue
        w, x = weights_of(encoder), event_vectors(encoder, shown, vectors, row)
        gap = batch.gap_seconds[row, :length].numpy()
        place, seconds = instants(gap), []
        for at, elapsed in enumerate(np.cumsum(gap)):
            seconds.append((seconds[-1] if at else 0) if hidden[row, at] else elapsed)
        if "learned" in variant:
            x = x + w["learned.weight"][place]

        def of_time(i, j, seconds=seconds):
            return bucket(abs(seconds[i] - seconds[j])) + 32 * (seconds[i] < seconds[j])

        expected = transformer(w, x, place, variant == "bidirectional", of_time if "time" in variant else None, True)
        np.testing.assert_allclose(states[row, :length], expected, rtol=1e-4, atol=1e-5)


def dense(graph):
    """[items, items]: the weight of the edge from the second to the first."""
    matrix = np.zeros((graph.n_items, graph.n_items))
    matrix[tuple(graph.edge_index.numpy())] = graph.edge_weight.numpy()
    return matrix


def read_by_last_and_attention(w, x):
    query, key = x @ w["query.weight"].T, x @ w["key.weight"].T
    scale = np.sqrt(x.shape[1])
    attended = attention(query, key, x, lambda query, key, i, j: query[i] @ key[j] / scale, softmax)
    return np.concatenate([x, attended], 1) @ w["out.weight"].T + w["out.bias"]


def convolved(w, vectors, edges):
    """D^-½ A D^-½, as two diagonal matrices."""
    half = np.diag(edges.sum(1) ** -0.5)
    for layer in range(2):
        vectors = vectors + np.maximum(half @ edges @ half @ vectors @ w[f"refine.{layer}.project.weight"].T, 0)
    return vectors


def attended_to(w, vectors, edges):
    """Item by item, over the items that it has an edge from."""
    for layer in range(2):
        name = f"refine.{layer}"
        projected, found = vectors @ w[f"{name}.project.weight"].T, np.zeros_like(vectors)
        for item in range(len(vectors)):
            near = np.flatnonzero(edges[item])
            for head in range(2):
                part = projected[:, 4 * head : 4 * head + 4]
                a = np.concatenate([w[f"{name}.ask"][head], w[f"{name}.answer"][head]])
                scores = np.array([a @ np.concatenate([part[item], part[other]]) for other in near])
                found[item, 4 * head : 4 * head + 4] = softmax(np.where(scores > 0, scores, 0.2 * scores)) @ part[near]
        vectors = vectors + np.where(found > 0, found, np.exp(found) - 1)
    return vectors


@pytest.mark.parametrize(("name", "refined"), [("gcn", convolved), ("gat", attended_to)])
def test_graph_encoders(name, refined):
    encoder, vectors = encoder_of(name, seed=3)
    batch, edges = rows(8), dense(encoder.graph)
    assert np.array_equal(edges, edges.T)
    assert (edges > 0).sum() > 4 * len(vectors)
    w = weights_of(encoder)
    known = torch.from_numpy(refined(w, vectors.double().numpy(), edges))
    states = encoder(batch, vectors).detach().numpy()
    for row, length in enumerate(batch.length.tolist()):
        if length:
            expected = read_by_last_and_attention(w, event_vectors(encoder, batch, known, row))
            np.testing.assert_allclose(states[row, :length], expected, rtol=1e-4, atol=1e-5)


def test_hstu():
    def formula(w, x, gap):
        place, elapsed = instants(gap), np.cumsum(gap)
        for layer in range(2):
            name = f"units.{layer}"
            gate, *parts = np.split(silu(normed(x, w, f"{name}.norm") @ w[f"{name}.project.weight"].T), 4, 1)
            heads = []
            for head in range(2):

                def score(query, key, i, j, head=head):
                    by_time = w["time.bias.weight"][bucket(elapsed[i] - elapsed[j]), head]
                    return query[i] @ key[j] + by_time + w["instants.bias.weight"][place[i] - place[j], head]

                of_head = [part[:, 4 * head : 4 * head + 4] for part in parts]
                heads.append(attention(*of_head, score, lambda seen: silu(seen) / len(seen)))
            gated = normed(np.concatenate(heads, 1), w, f"{name}.attended_norm") * gate
            x = x + gated @ w[f"{name}.out.weight"].T + w[f"{name}.out.bias"]
        return normed(x, w, "norm")

    check("hstu", formula)

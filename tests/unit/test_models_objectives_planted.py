"""Each objective learns what is planted for it: judged on fresh histories, by figures that are worked out here.

A judge gives what is left to be known, and less is better. It asks the encoder and the parts of the objective, never
its loss. Below `chance` nobody stays who does not know what was planted, whatever else he knows: that follows from how
the world is drawn.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from behavior_lib.models.objectives.chosen import OBJECTIVES
from behavior_lib.tables.items import FIRST_INDEX, MASK_INDEX
from tests import planted_example as planted
from tests.planted_example import model_of, taught

pytestmark = pytest.mark.usefixtures("one_thread")


def surprise(model, states, items):
    """float32 [m]: how little each of the states [m, d] says of its item."""
    logits = states @ model.item_vectors().T + model.bias
    return F.cross_entropy(logits[:, FIRST_INDEX:], items - FIRST_INDEX, reduction="none")


def of_hidden(model, batch, hidden):
    """The mean surprise of the items at the columns `hidden` of all rows, which are all hidden at once."""
    item = batch.item_index.clone()
    item[:, hidden] = MASK_INDEX
    states = model.states(replace(batch, item_index=item))[:, hidden]
    return float(surprise(model, states.flatten(0, 1), batch.item_index[:, hidden].flatten()).mean())


def one_event(model, batch):
    return of_hidden(model, batch, [3])


def one_run(model, batch):
    return of_hidden(model, batch, [5, 6, 7, 8, 9])


def both_halves(model, batch):
    """float64 [n, n]: the distances of the users after each first half from those after each second half."""
    half = batch.columns // 2
    row = torch.arange(len(batch))
    unit = [
        F.normalize(model.user_vectors(batch.arrange(row, (row * 0)[:, None] + column, row * 0 + half)).double(), dim=1)
        for column in (torch.arange(half), half + torch.arange(half))
    ]
    return torch.cdist(*unit)


def by_margin(model, batch):
    """What is left of CoLES between halves that share no event and no item."""
    distance = both_halves(model, batch)
    others = ~torch.eye(len(batch), dtype=torch.bool)
    return float(distance.diagonal().square().mean() + (0.5 - distance[others]).clamp(min=0).square().mean())


def by_partner(model, batch):
    """What is left of NT-Xent between them."""
    cosine = 1 - both_halves(model, batch).square() / 2
    return float(F.cross_entropy(cosine / 0.1, torch.arange(len(batch))))


def later(model, batch):
    """The mean surprise of the items one to four events after the fifth, by the form of each distance."""
    states, surprises = model.states(batch)[:, 4], []
    for ahead, form in enumerate(model.objectives.parts["later_items"].forms, 1):
        logits = form(states) @ model.item_vectors()[FIRST_INDEX:].T
        surprises.append(F.cross_entropy(logits, batch.item_index[:, 4 + ahead] - FIRST_INDEX))
    return float(torch.stack(surprises).mean())


def next_pair(model, batch):
    """The mean surprise of the pair of the last session, after the one before it."""
    states = model.states(batch)[:, -4]
    return float(torch.stack([surprise(model, states, batch.item_index[:, place]) for place in (-2, -1)]).mean())


def said(model, batch, name):
    return model.foretold(batch.cut(batch.length - 1))[name]


def wrong_type(model, batch):
    return float((said(model, batch, "next_type") != batch.event_type[:, -1]).float().mean())


def wrong_days(model, batch):
    days = batch.gap_seconds[:, -1] / planted.DAY
    return float((said(model, batch, "next_time").log1p() - days.log1p()).abs().mean())


def wrong_value(model, batch):
    found = said(model, batch, "next_value")
    return float((found.sign() * found.abs().log1p() - batch.value[:, -1].log1p()).abs().mean())


def unseen_faults(model, batch):
    """How often a wrong item looks less wrong than a right one. One of 20 is any other item of the world, whatever
    the objective itself puts in its place.
    """
    generator = torch.Generator().manual_seed(8)
    n_known = model.spec.n_items - FIRST_INDEX
    turn = torch.randint(1, n_known, batch.item_index.shape, generator=generator)
    is_wrong = torch.rand(batch.item_index.shape, generator=generator) < 0.05
    item = torch.where(is_wrong, (batch.item_index - FIRST_INDEX + turn) % n_known + FIRST_INDEX, batch.item_index)
    states = model.states(replace(batch, item_index=item))
    doubt = model.objectives.parts["replaced_items"].head(states).squeeze(2)
    wrong, right = doubt[is_wrong], doubt[~is_wrong].sort().values
    return 1 - float(torch.searchsorted(right, wrong).double().mean()) / len(right)


def unseen_exchange(model, batch):
    """The surprise of which rows have their halves exchanged; all else stays where it is."""
    is_turned = torch.arange(len(batch)) % 2 == 1
    half = batch.columns // 2
    item = torch.where(is_turned[:, None], batch.item_index.roll(half, 1), batch.item_index)
    value = torch.where(is_turned[:, None], batch.value.roll(half, 1), batch.value)
    unknown = torch.zeros_like(batch.hour_of_week)
    turned = replace(batch, item_index=item, value=value, hour_of_week=unknown)
    logits = model.objectives.parts["order"].head(model.newest_states(turned)).squeeze(1)
    return float(F.binary_cross_entropy_with_logits(logits, is_turned.float()))


def told(model, part, batch, vectors):
    """float32 [n, L]: the surprise of each item, the newest first, by the decoder that begins in these vectors."""
    hidden, cell = part.begin(vectors).tanh()[None].chunk(2, 2)
    items, vectors = batch.item_index.flip(1), model.item_vectors()
    read = torch.cat([vectors[items[:, :1] * 0], vectors[items[:, :-1]]], 1)
    states, _ = part.decoder(read, (hidden.contiguous(), cell.contiguous()))
    return surprise(model, states.flatten(0, 1), items.flatten()).view(items.shape)


def untold(model, batch):
    """Of all events together, in nats."""
    return float(told(model, model.objectives.parts["reconstruction"], batch, model.newest_states(batch)).sum(1).mean())


def posterior(model, batch):
    """The mean of each user's vector [n, d], its deviation, and what drawing it tells of the user [n], in nats."""
    mean, log_variance = model.objectives.parts["variational"].spread(model.newest_states(batch)).chunk(2, 1)
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
    return mean, (log_variance / 2).exp(), divergence


def noise_like(vectors):
    return torch.randn(vectors.shape, generator=torch.Generator().manual_seed(9))


def untold_by_draws(model, batch):
    """The same by vectors that are drawn, and what those tell (Kingma and Welling 2014, eq. 3): together they are no
    less than the entropy of histories.
    """
    mean, deviation, divergence = posterior(model, batch)
    drawn = mean + deviation * noise_like(mean)
    return float((told(model, model.objectives.parts["variational"], batch, drawn).sum(1) + divergence).mean())


@dataclass(frozen=True)
class Case:
    """share: of chance, less than which is left to who knows what was planted. rival: another objective that has the
    parts that are judged, or learns from like histories, and does not learn that; None where no other has such parts,
    and for order: who knows wrong items knows exchanged halves. n: histories a step; with USERS of them no two users
    act alike, and the judge sees as few at once.
    """

    encoder: str
    world: Callable
    n_items: int
    judge: Callable
    chance: float
    rival: str | None
    n_steps: int = 200
    n: int = 32
    share: float = 0.25


NINE, USERS, STEPS = math.log(9), planted.STYLES, 8 * math.log(planted.PRIME)
DAYS, VALUES = math.log(9 / 2) / 2, math.log(16 / 2) / 2  # of two numbers, half the way from one to the other
CASES = {
    "masked_items": Case("bidirectional", planted.between, 12, one_event, NINE, "replaced_items"),
    "masked_spans": Case("bidirectional", planted.runs, 12, one_run, NINE, "masked_items", 500, 96),
    "sub_sequences": Case("gru", planted.styles, 40, by_margin, 0.125, "augmentations", 200, USERS, 0.1),
    "augmentations": Case(
        "transformer", planted.styles, 40, by_partner, math.log(USERS), "sub_sequences", 200, USERS, 0.15
    ),
    "next_session": Case("gru", planted.visits, 13, next_pair, math.log(12), "next_item", share=0.5),
    "later_items": Case("cnn", planted.ring, 12, later, math.log(12), None),
    "next_type": Case("gru", planted.followed, 12, wrong_type, 2 / 3, "next_time"),
    "next_time": Case("transformer", planted.followed, 12, wrong_days, DAYS, "next_value", 300),
    "next_value": Case("cnn", planted.followed, 12, wrong_value, VALUES, "next_time", 300),
    "replaced_items": Case("bidirectional", planted.twins, 4, unseen_faults, 0.5, "order", 400),
    "order": Case("transformer", planted.halves, 12, unseen_exchange, math.log(2), None),
    "reconstruction": Case("gru", planted.steps, planted.PRIME, untold, STEPS, "variational", 300),
    "variational": Case("gru", planted.steps, planted.PRIME, untold_by_draws, STEPS, None, 400, share=0.6),
}


def learned(case, objective, is_planted=True, n_steps=None, seed=0, **changes):
    model = model_of(case.encoder, case.n_items, {objective: 1.0}, seed, **changes)
    return taught(model, case.world, case.n, case.n_steps if n_steps is None else n_steps, is_planted, seed)


def judged(case, model, is_planted=True):
    """On histories that no training saw."""
    random, of_users = np.random.default_rng(1_000), case.n == USERS
    n, times = (USERS, 30) if of_users else (2_000, 1)
    with torch.inference_mode():
        worlds = [model.prepare(case.world(random, n, is_planted)) for _ in range(times)]
        return float(np.mean([case.judge(model, batch) for batch in worlds]))


def test_every_objective_has_its_case():
    assert CASES.keys() == OBJECTIVES.keys()


@pytest.mark.parametrize("name", CASES)
def test_it_learns_what_was_planted(name):
    case = CASES[name]
    assert judged(case, learned(case, name)) < case.share * case.chance
    assert judged(case, learned(case, name, n_steps=0)) > 1.5 * case.share * case.chance


# The vector of an autoencoder holds some events of any history.
@pytest.mark.parametrize("name", [name for name in CASES if name != "reconstruction"])
def test_where_nothing_was_planted_it_is_no_better_than_chance(name):
    case = CASES[name]
    assert judged(case, learned(case, name, is_planted=False), is_planted=False) > 0.95 * case.chance


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.rival])
def test_another_objective_does_not_learn_it(name, monkeypatch):
    case = CASES[name]
    if case.rival in OBJECTIVES:
        monkeypatch.setitem(OBJECTIVES, name, OBJECTIVES[case.rival])
    model = learned(case, name if case.rival in OBJECTIVES else case.rival)
    assert judged(case, model) > 1.5 * case.share * case.chance


def own_loss(model, world, is_planted):
    """The objective's own, on its own draws of histories that no training saw."""
    random, generator = np.random.default_rng(1_001), torch.Generator().manual_seed(1_001)
    with torch.inference_mode():
        batch = model.prepare(world(random, 2_000, is_planted))
        return float(model.loss(batch, model.draw(batch, generator)))


@pytest.mark.parametrize(
    ("encoder", "positions", "is_planted"),
    [("transformer", "rotary", False), ("transformer", "time", False), ("gru", "rotary", False), ("mean", "", True)],
)
def test_neither_times_nor_instants_tell_that_halves_were_exchanged(encoder, positions, is_planted):
    """Nor does it help to know all that was done, in no order."""
    case = replace(CASES["order"], encoder=encoder)
    model = learned(case, "order", is_planted, positions=positions, use_hour=True, use_weekday=True)
    assert own_loss(model, case.world, is_planted) > 0.95 * math.log(2)


def test_the_vector_alone_tells_where_a_history_goes():
    """With another user's vector there is no telling of the newest event, nor of the step to the one before it."""
    case = CASES["reconstruction"]
    model = learned(case, "reconstruction")
    batch = model.prepare(case.world(np.random.default_rng(1_000), 1_000, True))
    with torch.inference_mode():
        users, part = model.newest_states(batch), model.objectives.parts["reconstruction"]
        own, others = (told(model, part, batch, vectors)[:, :2].mean(0) for vectors in (users, users.roll(1, 0)))
    assert (own < 0.25 * math.log(planted.PRIME)).all()
    assert (others > math.log(planted.PRIME - 1)).all()


def invented(model, part, vectors):
    """int64 [n, L]: the likeliest items by the decoder that begins in these vectors, each after those before it."""
    hidden, cell = part.begin(vectors).tanh()[None].chunk(2, 2)
    memory, item, items = (hidden.contiguous(), cell.contiguous()), torch.zeros(len(vectors), 1, dtype=torch.long), []
    for _ in range(8):
        states, memory = part.decoder(model.item_vectors()[item], memory)
        logits = states @ model.item_vectors().T + model.bias
        item = logits[..., FIRST_INDEX:].argmax(2) + FIRST_INDEX
        items.append(item)
    return torch.cat(items, 1)


@pytest.mark.parametrize(("name", "is_smooth"), [("variational", True), ("reconstruction", False)])
def test_between_two_users_who_are_drawn_there_are_histories(name, is_smooth):
    """All steps of what is told from halfway between two users, and from a standard normal vector, are one step.

    Of a vector that only tells again most of what lies between is nothing (Bowman et al. 2016).
    """
    case = CASES[name]
    model = learned(case, name)
    batch, part = model.prepare(case.world(np.random.default_rng(1_000), 400, True)), model.objectives.parts[name]
    with torch.inference_mode():
        users = posterior(model, batch)[0] if is_smooth else model.newest_states(batch)
        for vectors in ((users + users.roll(1, 0)) / 2, noise_like(users)):
            steps = invented(model, part, vectors).diff(dim=1) % planted.PRIME
            is_one = (steps == steps[:, :1]).all(1) & (steps[:, 0] > 0)
            assert (float(is_one.float().mean()) > 0.35) == is_smooth
        if is_smooth:
            assert float(posterior(model, batch)[2].mean()) > math.log(planted.PRIME)

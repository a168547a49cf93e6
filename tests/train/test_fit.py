"""The loop on one process: it learns what was planted, stops in time, and its checkpoint is its best model."""

import json
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from behavior_lib.data.loader import Loader
from behavior_lib.data.snapshot import Snapshot, count_train
from behavior_lib.errors import DataRefused, TrainingFailed
from behavior_lib.models.base import ModelSpec
from behavior_lib.models.build import build_model, load_model
from behavior_lib.models.cooccurrence import starting_vectors
from behavior_lib.train import loop
from behavior_lib.train.communicator import SingleProcess
from behavior_lib.train.loop import fit
from behavior_lib.train.settings import FitResult, FitSettings
from behavior_lib.train.start import start_from_cooccurrence
from behavior_lib.train.store import FolderStore
from behavior_lib.train.validation import validation_ndcg
from tests.sequences_example import frame, habits, histories, write

LENGTH, N_ITEMS = 12, 30
SETTINGS = FitSettings(
    epochs=3,
    patience=2,
    batch_size=8,
    learning_rate=0.02,
    weight_decay=0.0,
    warmup_share=0.1,
    clip_norm=1.0,
    reader="pyarrow",
    seed=3,
    threads=1,
    tokens_per_row=LENGTH,
    k=3,
)


class Watcher:
    def __init__(self):
        self.steps, self.epochs, self.notes = [], [], []

    def step(self, done, total, loss, tokens):
        self.steps.append((done, total, tokens))

    def epoch(self, result):
        self.epochs.append(result)

    def note(self, sentence):
        self.notes.append(sentence)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    path = tmp_path_factory.mktemp("tables") / "sequences"
    lists, own = habits(80, LENGTH, N_ITEMS, 1)
    train = [frame(histories(lists[start : start + 40], LENGTH), "train", first_user=start) for start in (0, 40)]
    version = write(path, *train, frame(histories(lists, LENGTH), "validation", [sorted(items) for items in own]))
    return Snapshot.resolve(str(path), version)


def new_model(snapshot, **changes):
    counts = count_train(snapshot)
    torch.manual_seed(0)
    spec = ModelSpec("transformer_repeat", counts.length, len(counts.items), counts.n_event_types)
    spec = replace(spec, window=8, dimension=16, layers=1, heads=2, negatives=32, **changes)
    return build_model(spec, torch.from_numpy(counts.items))


def train(snapshot, folder, settings=SETTINGS):
    watcher, model = Watcher(), new_model(snapshot)
    return fit(model, snapshot, settings, SingleProcess(), watcher, FolderStore(str(folder))), watcher, model


def best_model(folder, result):
    FolderStore(str(folder)).get(result.checkpoint, folder / "here")
    return load_model(folder / "here")


def test_it_learns_that_users_repeat_their_own_items(snapshot, tmp_path):
    result, _, _ = train(snapshot, tmp_path)
    before = new_model(snapshot)
    judged = Loader(snapshot, "validation", 16, "pyarrow")
    untrained = validation_ndcg(before, judged, SingleProcess(), 3)
    assert untrained < 0.5
    assert result.best.validation_ndcg > 0.95
    assert result.epochs[-1].loss < result.epochs[0].loss


def test_it_learns_with_row_wise_tables_and_bfloat16_blocks_too(snapshot, tmp_path):
    settings = replace(SETTINGS, table_optimizer="rowwise", precision="bfloat16", recompute=True, device="cpu")
    result, _, model = train(snapshot, tmp_path, settings)
    assert result.best.validation_ndcg > 0.95
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_the_checkpoint_is_the_best_model(snapshot, tmp_path):
    result, _, _ = train(snapshot, tmp_path)
    loaded = best_model(tmp_path, result)
    judged = Loader(snapshot, "validation", 16, "pyarrow")
    assert validation_ndcg(loaded, judged, SingleProcess(), 3) == pytest.approx(result.best.validation_ndcg, abs=1e-6)
    best_of_two = max((0, 1), key=lambda number: (result.epochs[number].validation_ndcg, -number))
    states = {f"step-000000020-0002-{best_of_two:04d}", f"step-000000030-0003-{result.best_epoch:04d}"}
    models = {result.checkpoint, f"best-{best_of_two:04d}"}
    assert {path.name for path in tmp_path.iterdir()} == {*states, *models, "here"}


def test_one_seed_gives_one_model_bit_for_bit(snapshot, tmp_path):
    first, second, other = (
        train(snapshot, tmp_path / name, replace(SETTINGS, epochs=1, seed=seed))[2].state_dict()
        for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["items.weight"], other["items.weight"])


def test_both_readers_give_one_model(snapshot, tmp_path):
    models = [
        train(snapshot, tmp_path / reader, replace(SETTINGS, epochs=1, reader=reader))[2].state_dict()
        for reader in ("pyarrow", "petastorm")
    ]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


def test_the_observer_hears_every_step_and_epoch(snapshot, tmp_path):
    result, watcher, _ = train(snapshot, tmp_path)
    assert [done for done, _, _ in watcher.steps] == list(range(1, 31))
    assert {total for _, total, _ in watcher.steps} == {30}
    assert sum(tokens for _, _, tokens in watcher.steps) == 3 * 80 * LENGTH
    assert tuple(watcher.epochs) == result.epochs
    assert [(epoch.number, epoch.steps) for epoch in result.epochs] == [(0, 10), (1, 10), (2, 10)]
    assert (result.steps, result.peak_memory_mb > 100) == (30, True)


@pytest.mark.parametrize("keeps_newest", [True, False])
def test_a_refit_keeps_its_newest_epoch_and_the_schedule_is_that_of_all(snapshot, tmp_path, monkeypatch, keeps_newest):
    figures = iter([0.5, 0.4])
    monkeypatch.setattr(loop, "validation_ndcg", lambda *_: next(figures))
    wanted = replace(SETTINGS, patience=1, stop_after=2, keeps_newest=keeps_newest)
    result, watcher, _ = train(snapshot, tmp_path, wanted)
    assert [epoch.number for epoch in result.epochs] == [0, 1]
    assert result.best_epoch == (1 if keeps_newest else 0)
    assert {total for _, total, _ in watcher.steps} == {30}


@pytest.mark.parametrize(("most", "steps"), [(7, [7]), (10, [10]), (23, [10, 10, 3]), (99, [10, 10, 10])])
def test_steps_may_end_within_an_epoch_and_the_schedule_with_them(snapshot, tmp_path, most, steps):
    result, watcher, _ = train(snapshot, tmp_path, replace(SETTINGS, max_steps=most))
    assert [epoch.steps for epoch in result.epochs] == steps
    assert (result.steps, {total for _, total, _ in watcher.steps}) == (sum(steps), {sum(steps)})


def test_it_stops_when_validation_has_not_grown_for_patience_epochs(snapshot, tmp_path, monkeypatch):
    figures = iter([0.5, 0.7, 0.6, 0.7, 0.9])
    monkeypatch.setattr(loop, "validation_ndcg", lambda *_: next(figures))
    result, _, _ = train(snapshot, tmp_path, replace(SETTINGS, epochs=5))
    assert [epoch.validation_ndcg for epoch in result.epochs] == [0.5, 0.7, 0.6, 0.7]
    assert result.best_epoch == 1


def test_a_loss_that_is_no_number_ends_the_run(snapshot, tmp_path, monkeypatch):
    model = new_model(snapshot)
    monkeypatch.setattr(model, "loss", lambda *_: model.bias.sum() * float("nan"))
    sentence = r"not a number or too high in step 0 \(failed-000000000-0\): nan; lower train\.learning_rate; the batch"
    with pytest.raises(TrainingFailed, match=sentence):
        fit(model, snapshot, SETTINGS, SingleProcess(), Watcher(), FolderStore(str(tmp_path)))
    kept = load_file(tmp_path / "failed-000000000-0" / "batch.safetensors")
    first = next(Loader(snapshot, "train", SETTINGS.batch_size, "pyarrow", SETTINGS.seed).epoch(0)).histories
    assert (kept["0.item_index"].numpy() == first.item_index).all()
    assert {name.removeprefix("0.") for name in kept} >= {"gap_seconds", "negatives", "boundaries", "seed"}


@pytest.mark.parametrize(("loss", "is_too_high"), [(9.5, False), (10.5, True)])
def test_a_loss_that_explodes_ends_the_run(snapshot, tmp_path, monkeypatch, loss, is_too_high):
    model = new_model(snapshot)
    monkeypatch.setattr(model, "loss", lambda *_: model.bias.sum() * 0 + loss)
    settings = replace(SETTINGS, epochs=1, highest_loss=10.0)
    with pytest.raises(TrainingFailed) if is_too_high else nullcontext():
        fit(model, snapshot, settings, SingleProcess(), Watcher(), FolderStore(str(tmp_path)))


def test_a_split_without_rows_is_refused(snapshot, tmp_path):
    empty = replace(snapshot, files={"train": snapshot.files["train"]})
    with pytest.raises(DataRefused, match=r"no validation row .*split\.days"):
        fit(new_model(snapshot), empty, SETTINGS, SingleProcess(), Watcher(), FolderStore(str(tmp_path)))


def test_a_trace_of_a_few_steps_lies_beside_the_states(snapshot, tmp_path):
    _, _, model = train(snapshot, tmp_path, replace(SETTINGS, epochs=1, profile=True))
    _, _, without = train(snapshot, tmp_path / "other", replace(SETTINGS, epochs=1))
    trace = json.loads((tmp_path / "trace" / "trace.json").read_text())
    steps = {event["name"] for event in trace["traceEvents"] if event.get("name", "").startswith("ProfilerStep#")}
    assert steps == {f"ProfilerStep#{number}" for number in (2, 3, 4, 5)}
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in without.state_dict().items())
    assert not (tmp_path / "other" / "trace").exists()


def test_a_result_travels_as_text(snapshot, tmp_path):
    result, _, _ = train(snapshot, tmp_path, replace(SETTINGS, epochs=1))
    assert FitResult.from_json(result.to_json()) == result


def test_item_vectors_start_from_what_train_has_together(snapshot):
    model, other = new_model(snapshot), new_model(snapshot)
    start_from_cooccurrence(model, snapshot, SETTINGS)
    rows = [rows.histories for rows in Loader(snapshot, "train", 100, "pyarrow").in_order()]
    item, instant, history, base = [], [], [], 0
    for of in rows:
        for user in range(len(of)):
            number = base
            for place in range(of.length[user]):
                number += place > 0 and of.gap_seconds[user, place] != 0
                item.append(int(of.item_index[user, place]))
                instant.append(number)
                history.append(user)
            base = number + 1
    spec = model.spec
    events = map(torch.tensor, (item, instant, history))
    wanted = starting_vectors(*events, spec.n_items, spec.dimension, SETTINGS.seed)
    known = model.known_items & (wanted.norm(dim=1) > 0)
    found = model.item_vectors().detach()
    torch.testing.assert_close(found[known] @ found[known].T, wanted[known] @ wanted[known].T, atol=2e-3, rtol=0)
    assert torch.equal(found[~model.known_items], other.item_vectors()[~model.known_items])

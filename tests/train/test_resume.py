"""A run that was stopped, or whose newest state is torn, ends in the weights of one that never stopped."""

from dataclasses import replace

import pytest
import torch

from behavior_lib.data.order import Reading
from behavior_lib.data.snapshot import Snapshot
from behavior_lib.train import loop
from behavior_lib.train.communicator import SingleProcess
from behavior_lib.train.loop import fit
from behavior_lib.train.settings import EpochResult
from behavior_lib.train.state import Progress
from behavior_lib.train.store import FolderStore
from tests.sequences_example import frame, habits, histories, write
from tests.train.test_fit import LENGTH, SETTINGS, Watcher, best_model, new_model

N_STEPS = 30  # three epochs of ten
WANTED = replace(SETTINGS, checkpoint_steps=4, tokens_per_row=9.0)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    """Rows of different lengths in three files."""
    path = tmp_path_factory.mktemp("tables") / "sequences"
    lists, own = habits(80, LENGTH, 30, 2)
    lists = [items[: 1 + 5 * row % LENGTH] for row, items in enumerate(lists)]
    bounds = ((0, 8), (8, 50), (50, 80))
    train = [frame(histories(lists[a:b], LENGTH), "train", first_user=a) for a, b in bounds]
    version = write(path, *train, frame(histories(lists, LENGTH), "validation", [sorted(items) for items in own]))
    return Snapshot.resolve(str(path), version)


def train(snapshot, folder, settings=WANTED, stop_after=None):
    """Train until done, or until so many steps of this call; the model's dropout draws too."""
    model, watcher = new_model(snapshot, dropout=0.2, successors=3), Watcher()
    torch.manual_seed(len(str(folder)))  # what was drawn before must not matter
    calls = iter(range(10**9))
    result = fit(
        model,
        snapshot,
        settings,
        SingleProcess(),
        watcher,
        FolderStore(str(folder)),
        lambda: next(calls) + 1 == stop_after,
    )
    return result, watcher, model.state_dict()


@pytest.fixture(scope="module")
def whole(snapshot, tmp_path_factory):
    return train(snapshot, tmp_path_factory.mktemp("whole"))


def states_in(folder):
    """The states by step and epoch, without the best so far."""
    return sorted(path.name.rsplit("-", 1)[0] for path in folder.glob("step-*"))


def models_in(folder):
    return {path.name for path in folder.glob("best-*")}


def figures(result):
    return [(epoch.number, epoch.validation_ndcg, epoch.steps) for epoch in result.epochs]


def assert_same(one, other):
    (first, _, weights), (second, _, others) = one, other
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    assert figures(first) == figures(second)
    assert [epoch.loss for epoch in first.epochs] == pytest.approx([epoch.loss for epoch in second.epochs], rel=1e-12)
    assert (first.best_epoch, first.steps, first.checkpoint) == (second.best_epoch, second.steps, second.checkpoint)


@pytest.mark.parametrize("step", [1, 3, 4, 9, 10, 11, 25, 30])
def test_a_stopped_run_goes_on_bit_for_bit(snapshot, whole, tmp_path, step):
    stopped, watcher, _ = train(snapshot, tmp_path, stop_after=step)
    assert (stopped.is_stopped, stopped.steps, len(watcher.steps)) == (True, step, step)
    resumed = train(snapshot, tmp_path)
    assert not resumed[0].is_stopped
    assert resumed[1].notes == [f"going on after step {step} of {N_STEPS}"]
    assert [done for done, _, _ in resumed[1].steps] == list(range(step + 1, N_STEPS + 1))
    assert_same(resumed, whole)
    best = best_model(tmp_path, resumed[0]).state_dict()
    assert best.keys() >= {"items.weight"}


def test_a_run_may_be_stopped_again_and_again(snapshot, whole, tmp_path):
    for _ in range(4):
        assert train(snapshot, tmp_path, stop_after=7)[0].is_stopped
    assert_same(train(snapshot, tmp_path), whole)


def test_a_run_with_averages_goes_on_bit_for_bit(snapshot, tmp_path):
    settings = replace(WANTED, average=0.9)
    whole = train(snapshot, tmp_path / "whole", settings)
    train(snapshot, tmp_path / "halves", settings, stop_after=13)
    resumed = train(snapshot, tmp_path / "halves", settings)
    assert_same(resumed, whole)
    best, other = (best_model(tmp_path / name, whole[0]).state_dict() for name in ("halves", "whole"))
    assert all(torch.equal(best[name], other[name]) for name in other)
    assert not torch.equal(best["items.weight"], whole[2]["items.weight"])


def test_a_run_with_row_wise_tables_goes_on_bit_for_bit(snapshot, tmp_path):
    settings = replace(WANTED, table_optimizer="rowwise", average=0.9, accumulate=2)
    whole = train(snapshot, tmp_path / "whole", settings)
    train(snapshot, tmp_path / "halves", settings, stop_after=7)
    assert_same(train(snapshot, tmp_path / "halves", settings), whole)
    losses = [epoch.loss for epoch in whole[0].epochs]
    assert losses[2] < losses[0]


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_batch_knows_its_own_step_though_it_is_made_ahead(snapshot, tmp_path, monkeypatch, accumulate):
    """A weight that grows with the steps is the same in a run that was stopped."""
    settings, seen = replace(WANTED, accumulate=accumulate), {}

    def train_variational(folder, stop_after=None):
        model, calls = new_model(snapshot, objectives={"variational": 1.0}), iter(range(10**9))
        inner, seen[folder] = model.loss, seen.get(folder, [])
        monkeypatch.setattr(model, "loss", lambda *told: seen[folder].append(float(told[1]["done"])) or inner(*told))
        store = FolderStore(str(tmp_path / folder))
        told = snapshot, settings, SingleProcess(), Watcher(), store, lambda: next(calls) + 1 == stop_after
        return fit(model, *told), model.state_dict()

    (result, whole), _ = train_variational("whole"), train_variational("halves", 5)
    _, resumed = train_variational("halves")
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    # Ten batches an epoch; the last step of an epoch may have fewer.
    steps = [epoch * -(-10 // accumulate) + batch // accumulate for epoch in range(3) for batch in range(10)]
    assert seen["whole"] == seen["halves"] == pytest.approx([step / result.steps for step in steps])


@pytest.mark.parametrize("file", ["state.safetensors", "progress.json", "manifest.json"])
def test_a_torn_state_is_passed_over_for_the_one_before(snapshot, whole, tmp_path, file):
    train(snapshot, tmp_path, stop_after=15)
    newest = tmp_path / "step-000000015-0001-0000" / file
    newest.write_bytes(newest.read_bytes()[:-3])
    resumed = train(snapshot, tmp_path)
    assert "step-000000015-0001-0000 is passed over" in resumed[1].notes[0]
    assert resumed[1].notes[-1] == f"going on after step 12 of {N_STEPS}"
    assert_same(resumed, whole)


def test_newer_states_that_are_passed_over_do_not_count_among_the_newest(snapshot, whole, tmp_path):
    (tmp_path / "given").mkdir()
    for step in (900, 901):
        FolderStore(str(tmp_path / "states")).put(f"step-{step:09d}-0000-0000", tmp_path / "given")
    stopped, watcher, _ = train(snapshot, tmp_path / "states", stop_after=15)
    assert (stopped.is_stopped, len(watcher.notes)) == (True, 2)
    assert states_in(tmp_path / "states") == ["step-000000012-0001", "step-000000015-0001"]
    assert_same(train(snapshot, tmp_path / "states"), whole)


def test_a_store_that_cannot_be_reached_is_no_reason_to_begin_anew(snapshot, tmp_path, monkeypatch):
    train(snapshot, tmp_path, stop_after=5)

    def fails(self, name, folder):
        raise PermissionError("expired")

    with monkeypatch.context() as patched:
        patched.setattr(FolderStore, "get", fails)
        with pytest.raises(PermissionError, match="expired"):
            train(snapshot, tmp_path)
    assert train(snapshot, tmp_path)[1].notes == [f"going on after step 5 of {N_STEPS}"]


def test_a_state_without_its_best_model_is_passed_over(snapshot, whole, tmp_path):
    stopped, _, _ = train(snapshot, tmp_path, stop_after=13)
    weights = tmp_path / stopped.checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    resumed = train(snapshot, tmp_path)
    assert ["is passed over" in note for note in resumed[1].notes] == [True, True]
    assert_same(resumed, whole)


def test_the_state_before_validation_stays_while_that_after_it_is_written(snapshot, tmp_path):
    result, _, _ = train(snapshot, tmp_path, replace(WANTED, checkpoint_steps=10))
    assert states_in(tmp_path) == ["step-000000030-0002", "step-000000030-0003"]
    assert models_in(tmp_path) >= {result.checkpoint}


def test_a_torn_state_after_a_better_epoch_leaves_the_one_before_with_its_own_best_model(
    snapshot, tmp_path, monkeypatch
):
    figures, settings = [0.5, 0.6], replace(WANTED, checkpoint_steps=10)
    monkeypatch.setattr(loop, "validation_ndcg", lambda *_: figures.pop(0))

    def dies(self, result):
        if result.number == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Watcher, "epoch", dies)
        with pytest.raises(KeyboardInterrupt):
            train(snapshot, tmp_path, settings)
    assert states_in(tmp_path) == ["step-000000020-0001", "step-000000020-0002"]
    assert models_in(tmp_path) == {"best-0000", "best-0001"}
    (tmp_path / "step-000000020-0002-0001" / "state.safetensors").write_bytes(b"torn")
    figures += [0.6, 0.7]
    result, watcher, _ = train(snapshot, tmp_path, settings)
    assert watcher.notes[-1] == f"going on after step 20 of {N_STEPS}"
    assert (result.checkpoint, figures) == ("best-0002", [])


def test_a_run_goes_on_bit_for_bit_where_batches_teach_nothing(tmp_path):
    """Half of the rows have one event: whole batches reach no parameter but by the momentum of those before."""
    lists, own = habits(80, LENGTH, 30, 2)
    lists = [items if row % 2 else items[:1] for row, items in enumerate(lists)]
    version = write(
        tmp_path / "t",
        frame(histories(lists, LENGTH), "train"),
        frame(histories(lists, LENGTH), "validation", [sorted(items) for items in own]),
    )
    data, settings = Snapshot.resolve(str(tmp_path / "t"), version), replace(WANTED, epochs=1, checkpoint_steps=99)
    expected = train(data, tmp_path / "whole", settings)
    for step in range(1, 10):
        train(data, tmp_path / str(step), settings, stop_after=step)
        assert_same(train(data, tmp_path / str(step), settings), expected)


def test_a_state_of_another_model_is_passed_over(snapshot, whole, tmp_path):
    train(snapshot, tmp_path, stop_after=5)
    other = new_model(snapshot, repeat_path=False)
    watcher = Watcher()
    fit(other, snapshot, replace(WANTED, epochs=1), SingleProcess(), watcher, FolderStore(str(tmp_path)))
    assert ["other tensors" in note for note in watcher.notes] == [True, True]


def test_a_run_that_is_done_trains_no_more(snapshot, tmp_path):
    first = train(snapshot, tmp_path)
    again = train(snapshot, tmp_path)
    assert again[1].steps == []
    assert_same(again, first)


def test_a_run_that_died_between_its_best_model_and_its_state_ends_alike(snapshot, whole, tmp_path, monkeypatch):
    saved = loop.Checkpoints.save

    def dies(self, progress):
        if progress.epoch == 2 and progress.step == 0:
            raise KeyboardInterrupt
        saved(self, progress)

    with monkeypatch.context() as patched:
        patched.setattr(loop.Checkpoints, "save", dies)
        with pytest.raises(KeyboardInterrupt):
            train(snapshot, tmp_path)
    assert_same(train(snapshot, tmp_path), whole)


def test_only_the_newest_states_and_the_best_model_stay(snapshot, tmp_path):
    result, _, _ = train(snapshot, tmp_path, replace(WANTED, keep_checkpoints=3))
    assert states_in(tmp_path) == ["step-000000024-0002", "step-000000028-0002", "step-000000030-0003"]
    assert models_in(tmp_path) >= {result.checkpoint}


def test_a_batch_weighs_as_many_events_as_it_has(snapshot, tmp_path, monkeypatch):
    """All batches in one step, and a loss whose gradient is the share of each item among the batch's events."""
    model, seen = new_model(snapshot), {}

    def loss(batch, generator):
        return model.bias[batch.item_index[batch.present]].mean()

    class Grads(Watcher):
        def step(self, *_):
            seen[len(seen)] = model.bias.grad.clone()

    monkeypatch.setattr(model, "loss", loss)
    settings = replace(WANTED, epochs=1, accumulate=10, clip_norm=1e9, start="random")
    result = fit(model, snapshot, settings, SingleProcess(), Grads(), FolderStore(str(tmp_path)))
    assert [epoch.steps for epoch in result.epochs] == [1]
    rows = snapshot.rows("train")
    expected = model.item_counts / (9.0 * settings.batch_size * settings.accumulate)
    assert rows == settings.batch_size * settings.accumulate
    torch.testing.assert_close(seen[0], expected.float(), rtol=1e-5, atol=1e-7)


def test_progress_travels_as_text_without_losing_a_digit():
    progress = Progress(
        2, 3, 1, [Reading(2, 4)], 23, 0.1 + 0.2, 1e300, 7.0, [EpochResult(0, 1 / 3, 0.1, 2.0, 3.0, 4)], 0
    )
    assert Progress.from_json(progress.to_json()) == progress


@pytest.mark.parametrize(("ndcg", "best"), [(0.4, 0), (0.5, 0), (0.6, 1)])
def test_the_best_epoch_is_the_first_of_the_highest(ndcg, best):
    progress = Progress()
    assert progress.end_epoch(EpochResult(0, 1.0, 0.5, 1.0, 1.0, 1))
    assert progress.end_epoch(EpochResult(1, 1.0, ndcg, 1.0, 1.0, 1)) == (best == 1)
    assert (progress.epoch, progress.best, progress.step) == (2, best, 0)

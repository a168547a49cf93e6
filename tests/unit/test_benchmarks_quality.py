"""What `make bench-quality` reports: the choice is made on validation, and the test figure is told with its error."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from deltalake import write_deltalake

from behavior_lib.config import load
from behavior_lib.data.snapshot import Snapshot, TrainCounts, count_train
from behavior_lib.models.build import as_tensors, load_model
from behavior_lib.train.communicator import SingleProcess
from behavior_lib.train.loop import fit
from behavior_lib.train.messages import Silent
from behavior_lib.train.plan import plan
from behavior_lib.train.settings import EpochResult
from behavior_lib.train.start import counted_vectors
from behavior_lib.train.store import FolderStore
from behavior_lib.train.successors import count_successors
from behavior_lib.train.worker import train_rank
from benchmarks import bake_off, quality
from benchmarks.bake_off import Candidate, candidates
from benchmarks.quality import (
    DATA,
    all_baselines,
    finalists,
    leads_of,
    parse,
    settings_of,
    write_reviews,
)
from benchmarks.quality_page import as_markdown, best, budget_table, check_page, crossed_table, mean, write_page
from tests.sequences_example import frame, habits, histories, write

JUDGED = ("validation", "test")
LEAD = [-0.14001, 0.02]
RUNS = {
    "gru": [
        {"seed": 1, "seconds": 3.0, "validation": 0.3, "validation_error": 0.1, "test": 0.10, "test_error": 0.01}
        | {"refit_test": 0.12, "refit_test_error": 0.01}
    ],
    "default": [
        {"seed": seed, "seconds": 5.0, "validation": 0.4, "validation_error": 0.1, "test": test, "test_error": 0.01}
        | {"refit_test": test + 0.01, "refit_test_error": 0.01, "leads": {"popularity": [0.1, 0.01], "ease": LEAD}}
        for seed, test in ((1, 0.05), (2, 0.07), (3, 0.09))
    ],
    "popularity": [
        {"is_baseline": True, "validation": 0.2, "validation_error": 0.02, "test": 0.25, "test_error": 0.03}
    ],
    "ease": [{"is_baseline": True, "validation": 0.35, "validation_error": 0.02, "test": 0.2, "test_error": 0.03}],
}


def test_a_mean_has_the_error_over_seeds_or_where_there_is_one_over_users():
    assert mean(RUNS["gru"], "test") == (0.10, 0.01)
    # Values 5, 7, 9 hundredths: their standard deviation is 2.
    assert mean(RUNS["default"], "test") == (pytest.approx(0.07), pytest.approx(0.02 / 3**0.5))


def test_the_best_of_each_kind_is_chosen_on_validation():
    assert best(RUNS) == {
        "model": {"name": "default", "ndcg@10": 0.08, "standard_error": 0.0115, "over": "seeds"},
        "baseline": {"name": "ease", "ndcg@10": 0.2, "standard_error": 0.03, "over": "users"},
        "lead": {"value": -0.14, "standard_error": 0.02},
    }


def test_a_lead_has_the_paired_error():
    found = {
        "model": {"test": 0.5, "test_error": 0.1, "test_lead_error": None},
        "ease": {"test": 0.25, "test_error": 0.1, "test_lead_error": 0.01},
    }
    assert leads_of(found) == {"ease": [0.25, 0.01]}


def test_the_baseline_that_spark_computes_is_asked_for_too():
    names = [*load("local").config.evaluate.baselines, "als"]
    assert load("local", None, [all_baselines()]).config.evaluate.baselines == names


def test_no_environment_changes_how_long_and_how_fast_the_contest_learns():
    told = {
        name: [each for each in data.training if each.startswith(("train.epochs", "train.learning_rate"))]
        for name, data in DATA.items()
    }
    assert told == {
        "complete_journey": ["train.epochs=1", "train.learning_rate=0.01"],
        "reviews": ["train.epochs=4", "train.learning_rate=0.005"],
    }


def test_a_name_of_a_model_says_its_objectives_too():
    assert settings_of("default") == ()
    assert settings_of("gru") == ("model.name=gru",)
    assert settings_of("without_paths:default+order+next_time") == (
        *("model.repeat_path=false", "model.successors=0"),
        *("model.objectives.order=0.1", "model.objectives.next_time=0.1"),
    )


def test_without_paths_is_said_before_the_encoder():
    paths = ("model.repeat_path=false", "model.successors=0")
    assert settings_of("without_paths:gru+order") == ("model.name=gru", *paths, "model.objectives.order=0.1")


def test_every_encoder_is_a_candidate_with_each_of_its_objectives():
    names = list(candidates())
    encoders = ["transformer", "gru", "lstm", "rnn", "cnn", "mean", "hstu", "gcn", "gat", "bidirectional"]
    assert names[:10] == encoders
    assert names[-10:] == [f"without_paths:{name}" for name in encoders]
    asked = {name: {each.partition("+")[2] for each in names if each.startswith(f"{name}+")} for name in encoders}
    both_ways = {"masked_spans", "sub_sequences", "augmentations", "replaced_items", "order"}
    both_ways |= {"reconstruction", "variational"}
    what_comes = {"later_items", "next_session", "next_time", "next_type", "next_value"}
    # What looks both ways has masked_items of its own, and cannot be asked what comes next.
    assert asked.pop("bidirectional") == both_ways
    assert all(own == both_ways | what_comes | {"masked_items"} for own in asked.values())
    assert len(names) == len(set(names)) == 10 + 9 * 13 + 7 + 10


def candidate(name, validation):
    return Candidate(name, 2.5, 1.0, 29.6, validation)


def test_the_best_of_the_contest_is_a_finalist_beside_the_models_asked_for():
    assert finalists(["default"], [candidate("gru", 0.4), candidate("cnn", 0.3)]) == ["default", "gru"]
    assert finalists(["default", "gru"], [candidate("mean", 0.4)]) == ["default", "gru"]
    assert finalists([], [candidate("mean", 0.4)]) == ["default"]
    assert finalists(["gru"], []) == ["gru"]


def test_the_contest_is_told_with_its_budget():
    assert budget_table("shop", 30.0, [candidate("gru", 0.4)])[::2] == [
        "| shop, 30 CPU seconds | measured | epochs, kept | validation ndcg@10 |",
        "| gru | 30 | 2.5, 1 | 0.4000 |",
    ]
    assert budget_table("shop", 30.0, []) == []


def test_encoders_and_objectives_are_told_crosswise():
    found = {"gru": 0.4, "gru+order": 0.41, "cnn": 0.3, "cnn+order": 0.33, "cnn+masked_spans": 0.2}
    found |= {"without_paths:cnn": 0.1, "gat+order": 0.5}
    assert crossed_table("shop", [candidate(name, value) for name, value in found.items()]) == [
        "| shop, validation ndcg@10 | gru | cnn | mean lead |",
        "|---|---|---|---|",
        "| alone | 0.4000 | 0.3000 |  |",
        "| order | 0.4100 | 0.3300 | +0.0200 ± 0.0100 |",
        "| masked_spans |  | 0.2000 | -0.1000 |",
        "| without paths |  | 0.1000 |  |",
    ]
    assert crossed_table("shop", [candidate("without_paths:gru", 0.4), candidate("gru+order", 0.4)]) == []
    assert crossed_table("shop", [candidate("gru", 0.4), candidate("without_paths:gru+order", 0.4)])[2:] == [
        "| alone | 0.4000 |  |"
    ]


def test_the_clock_counts_steps_alone(monkeypatch):
    """Epochs of three steps of 2 s and of two of 4 s; 100 s are spent before each."""
    now = [0.0]
    monkeypatch.setattr("time.process_time", lambda: now[0])
    clock, done = bake_off.Clock(), 0
    for number, taken in ((0, [2.0, 2.0, 2.0]), (1, [4.0, 4.0])):
        now[0] += 100.0
        for seconds in taken:
            now[0], done = now[0] + seconds, done + 1
            clock.step(done, 5, 0.5, 8)
        clock.epoch(EpochResult(number, 0.5, 0.5, 1.0, 1.0, len(taken)))
    assert clock.cpu_seconds == (2 + 2 + 4) * 5 / 3


SMALL = ("model.dimension=8", "train.batch_size=8", "train.learning_rate=0.05")


def test_candidates_get_as_many_steps_as_fit_and_what_cannot_be_asked_is_left_out(tmp_path, monkeypatch, capsys):
    """Habits of four items that come again: the model of one epoch ranks worse than that of many."""
    lists, following = habits(40, 8, 20, 4)
    rows = histories(lists, 8)
    frames = [frame(rows, "train"), *(frame(rows, split, following) for split in JUDGED)]
    write(tmp_path / "sequences", *frames)
    small = (*SMALL, f"train.checkpoints={tmp_path / 'checkpoints'}")
    settings = {"mean": small, "bidirectional+next_item": ("model.name=bidirectional", "model.objectives.next_item=1")}
    results = []
    monkeypatch.setattr(bake_off, "estimate", lambda *told: type("Epoch", (), {"cpu_seconds": 2.0, "steps": 5}))
    monkeypatch.setattr(bake_off, "fit", lambda *told: results.append(fit(*told)) or results[-1])
    (short,) = bake_off.bake_off(tmp_path, settings, 1.0)
    (long,) = bake_off.bake_off(tmp_path, {"mean": small}, 24.0)
    # Two of five steps, and twelve times five; an epoch that is cut is judged at its end.
    assert (short.name, short.epochs, short.kept, long.epochs) == ("mean", 0.4, 0.4, 12.0)
    assert long.kept in range(1, 13)
    assert long.cpu_seconds > 0
    best_of = [max(epoch.validation_ndcg for epoch in result.epochs) for result in results]
    assert [short.validation, long.validation] == best_of
    assert short.validation < long.validation
    assert not (tmp_path / "checkpoints").exists()  # a state of every candidate would stay there
    assert "bidirectional+next_item is left out: the objective next_item asks for" in capsys.readouterr().err


def test_what_models_start_from_is_made_once_for_all_and_changes_no_training(tmp_path, monkeypatch):
    lists, following = habits(40, 8, 20, 4)
    rows = histories(lists, 8)
    frames = [frame(rows, "train"), *(frame(rows, split, following) for split in JUDGED)]
    snapshot = Snapshot.resolve(str(tmp_path / "sequences"), write(tmp_path / "sequences", *frames))
    counts, read = count_train(snapshot), []
    counted = bake_off.Counted()
    for made in (count_successors, counted_vectors):
        monkeypatch.setattr(bake_off, made.__name__, lambda *told, made=made: read.append(made) or made(*told))
    for name in ("mean", "gru"):
        own_settings = f"model.name={name}", "train.epochs=2", f"train.checkpoints={tmp_path / 'checkpoints'}"
        config = load("local", None, [*SMALL, *bake_off.ALONE, *own_settings]).config
        run = plan(config, counts, tmp_path / name)
        torch.set_num_threads(run.fit.threads)  # as a rank does: other threads round otherwise
        own, left = counted.built(run, snapshot, counts)
        assert (run.fit.start, left.start) == ("cooccurrence", "random")
        fit(own, snapshot, left, SingleProcess(), Silent(), FolderStore(str(tmp_path / f"{name}-own")))
        store = FolderStore(run.checkpoints_of(snapshot))
        told = SingleProcess(), Silent(), lambda: False
        result = train_rank(run, snapshot, as_tensors(counts.arrays()), *told)
        store.get(result.checkpoint, tmp_path / name / "best")
        FolderStore(str(tmp_path / f"{name}-own")).get(result.checkpoint, tmp_path / name / "own")
        first, second = (load_model(tmp_path / name / each).state_dict() for each in ("best", "own"))
        assert first["successors.count"].any()
        assert all(torch.equal(first[key], second[key]) for key in first)
    assert read == [count_successors, counted_vectors]


def test_attributes_of_items_are_numbered_as_training_numbers_them(tmp_path):
    known = [[("kind", "tea")], [("kind", "bun"), ("shape", "round")], None, [("kind", "tea")], [("kind", "bun")]]
    kind = pa.map_(pa.string(), pa.string())
    items = pa.table({"item_index": pa.array(range(3, 8), pa.int32()), "attributes": pa.array(known, kind)})
    write_deltalake(str(tmp_path / "items"), items)
    counts = TrainCounts(np.array([0, 0, 0, 5, 4, 3, 2, 1]), 4, 8, 15, 3)
    assert bake_off.with_attributes(counts, tmp_path, []) is counts
    # A round one is alone, and so has no number.
    found = bake_off.with_attributes(counts, tmp_path, ["kind", "shape"]).attributes
    assert found.tolist() == [[0, 0]] * 3 + [[4, 0], [3, 0], [0, 0], [4, 0], [3, 0]]


def test_data_sets_are_judged_side_by_side_and_told_in_one_line(monkeypatch):
    program = "import json, sys; print('said before'); print(json.dumps({sys.argv[-1]: len(sys.argv)}))"
    monkeypatch.setattr(quality, "COMMAND", [sys.executable, "-c", program])
    assert quality.side_by_side(["--seeds", "1"], ["first", "second"]) == {"first": 6, "second": 6}
    monkeypatch.setattr(quality, "COMMAND", [sys.executable, "-c", "import sys; sys.exit(3)"])
    with pytest.raises(SystemExit, match=r"exit codes of first, second: \[3, 3\]"):
        quality.side_by_side([], ["first", "second"])


def test_there_is_something_to_train(capsys):
    with pytest.raises(SystemExit):
        parse(["--models", "--bake-off"])
    assert "nothing to train: name --models, --bake-off, or both" in capsys.readouterr().err
    assert parse(["--models", "gru", "--bake-off"]).bake_off == []
    with pytest.raises(SystemExit):
        parse(["--keep"])
    assert "--keep needs --folder" in capsys.readouterr().err


def test_a_name_that_is_no_model_is_refused_before_anything_is_made(capsys):
    with pytest.raises(SystemExit):
        parse(["--models", "default", "without_paths:gur"])
    assert "error: without_paths:gur: unknown model: 'gur'; did you mean gru?" in capsys.readouterr().err


def test_without_a_file_of_reviews_it_is_said_that_they_are_left_out(monkeypatch, capsys):
    for step, found in (("prepare", []), ("tried", []), ("contest", RUNS)):
        monkeypatch.setattr(quality, step, lambda *told, found=found: found)
    monkeypatch.setattr(quality.cli, "main", lambda words: None)
    quality.run(["--bake-off"])
    said = "reviews is left out: give its file of sequences by --reviews FILE"
    assert said in capsys.readouterr().err
    quality.run(["--bake-off", "--data", "complete_journey"])
    assert said not in capsys.readouterr().err


def test_without_a_file_of_reviews_the_other_data_is_judged(tmp_path):
    assert parse([]).data == ["complete_journey"]
    assert parse(["--reviews", str(tmp_path)]).data == ["complete_journey", "reviews"]


PAGE = """# Figures

<!-- begin of what make bench-quality wrote: shop -->
old
<!-- end of what make bench-quality wrote: shop -->

What people wrote of it.

{"reviews": {"model": {"name": "gcn"}}, "shop": {"model": {"name": "gru"}}}
"""


def test_the_page_has_new_tables_between_its_marks_and_a_new_last_line(tmp_path):
    page = tmp_path / "quality.md"
    page.write_text(PAGE)
    told = {"shop": {**best(RUNS), "methods": RUNS, "bake_off": [asdict(candidate("gru", 0.4))]}}
    write_page(page, told, ["--reviews", "/data/my file"], 30.0)
    begin, end = (f"<!-- {place} of what make bench-quality wrote: shop -->\n" for place in ("begin", "end"))
    head, _, rest = page.read_text().partition(begin)
    written, _, prose = rest.partition(end)
    run, *tables = written.split("\n")
    assert run.startswith("`python -m benchmarks quality --reviews 'my file'`, 20")
    found = [candidate("gru", 0.4)]
    told = as_markdown("shop", RUNS), crossed_table("shop", found), budget_table("shop", 30.0, found)
    assert tables == ["", *(line for table in told for line in [*table, ""]), ""]
    *untouched, last, nothing = prose.split("\n")
    assert (head, "\n".join(untouched)) == ("# Figures\n\n", "\nWhat people wrote of it.\n")
    assert (json.loads(last), nothing) == ({"reviews": {"model": {"name": "gcn"}}, "shop": best(RUNS)}, "")


def test_the_page_of_this_repository_can_be_written():
    check_page(Path(__file__).parents[2] / "docs" / "quality.md", quality.DATA)


def test_a_page_without_marks_is_refused_before_the_contest(tmp_path):
    page, words = tmp_path / "page.md", ["--data", "complete_journey", "--page", str(tmp_path / "page.md")]
    with pytest.raises(SystemExit, match="page.md is no file"):
        quality.run(words)
    page.write_text("text\n{}\n")
    begin = "<!-- begin of what make bench-quality wrote: complete_journey -->"
    with pytest.raises(SystemExit, match=f"page.md has no lines '{begin}' and '<!-- end"):
        quality.run(words)
    page.write_text(PAGE.replace("shop", "complete_journey").replace("{", "("))
    with pytest.raises(SystemExit, match=r"the last line of .*page.md is no JSON object: end it with {}"):
        quality.run(words)


def test_a_part_of_the_contest_does_not_reach_the_page(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(quality, "alone", lambda arguments: {})
    written = []
    monkeypatch.setattr(quality, "write_page", lambda page, *told: written.append(page))
    page = tmp_path / "page.md"
    page.write_text(PAGE.replace("shop", "complete_journey"))
    words = ["--data", "complete_journey", "--page", str(page)]
    for part in (["--bake-off", "gru"], ["--seeds", "1", "2"], ["--no-refit"]):
        quality.run([*words, *part])
        assert "stays as it is" in capsys.readouterr().err
    assert written == []
    quality.run(words)
    assert written == [page]
    quality.run([*words, "--page"])
    assert written == [page]


def test_without_a_refit_the_figure_is_that_of_the_first_training():
    once = {name: [{key: run[key] for key in run if "refit" not in key} for run in runs] for name, runs in RUNS.items()}
    found = {"name": "default", "ndcg@10": 0.07, "standard_error": 0.0115, "over": "seeds"}
    assert best(once)["model"] == found


def test_the_table_has_the_best_on_validation_first():
    lines = as_markdown("shop", RUNS)
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| default", "| ease", "| gru", "| popularity"]
    assert lines[2] == "| default | 3 | 0.4000 ± 0.0000 | 0.0700 ± 0.0115 | 0.0800 ± 0.0115 | 5 |"
    assert lines[3] == "| ease |  | 0.3500 ± 0.0200 | 0.2000 ± 0.0300 |  |  |"


def test_a_file_of_sequences_becomes_one_row_an_event(tmp_path):
    (tmp_path / "reviews.txt").write_text("7 3 1\n9 3\n")
    write_reviews(tmp_path / "reviews.txt", tmp_path / "raw")
    assert (tmp_path / "raw" / "events.csv").read_text().split() == ["user,item,position", "7,3,0", "7,1,1", "9,3,0"]
    with pytest.raises(SystemExit, match="--reviews FILE"):
        write_reviews(None, tmp_path / "raw")
    assert parse(["--data", "reviews", "--models", "gru", "--seeds", "4"]).seeds == [4]

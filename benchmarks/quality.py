"""Who ranks best: models by name, seed after seed, beside every baseline, on the same users of the same data."""

from __future__ import annotations

import argparse
import contextlib
import csv
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
from deltalake import DeltaTable

from behavior_lib import cli
from behavior_lib.evaluation.judge import MODEL
from behavior_lib.tables import EVALUATIONS
from behavior_lib.tables.sequences import TEST, VALIDATION
from benchmarks.jobs import as_words, run_here, say, scratch

HEADLINE = "ndcg@10"
SOURCES = Path(__file__).parent / "sources"
REFIT_TEST = "refit_test"  # the figure on test of the model that was trained once more, up to its cut
POPULARITY_ALONE = ("evaluate.baselines=[popularity]", "evaluate.gate=[popularity]")
REFUSED = 3  # the gate did not open; the figures are in the table all the same
BESIDE = 0.1  # the weight of an objective beside next_item
GRAPHS, WITH_GRAPH = ("gcn", "gat"), "sequences.neighbours=50"
# What a name of `--models` stands for; one that is not here is a model.name.
ATTRIBUTES = ("model.item_attributes=[product_type, product_category]",)
PLAIN = ("model.repeat_path=false", "model.successors=0")
MODELS: dict[str, tuple[str, ...]] = {
    "default": (),
    "without_successors": ("model.successors=0",),
    "vectors_alone": PLAIN,
    # Of Complete Journey, whose source says so much of items.
    "item_attributes": ATTRIBUTES,
    "transformer_item_attributes": ("model.name=transformer", *ATTRIBUTES),
}


@dataclass(frozen=True)
class DataSet:
    """Where the raw rows are, and the settings of every job on them. training: of `train` beside its defaults."""

    source: str
    settings: tuple[str, ...] = ()
    training: tuple[str, ...] = ()


DATA: dict[str, DataSet] = {
    "complete_journey": DataSet("complete_journey"),
    # No times, so neither gaps nor values; short histories, so more rows at once.
    "reviews": DataSet(
        str(SOURCES / "reviews.yaml"),
        ("split.kind=leave_one_out", "sequences.length=128"),
        (
            "model.use_gap=false",
            "model.use_value=false",
            "model.window=50",
            "model.dropout=0.3",
            "train.batch_size=128",
            "train.epochs=9",
            "train.patience=3",
        ),
    ),
}


def settings_of(model: str) -> tuple[str, ...]:
    """The settings of a name of `--models`; `NAME+OBJECTIVE` learns the objective too."""
    name, *objectives = model.split("+")
    return (*MODELS.get(name, (f"model.name={name}",)), *(f"model.objectives.{each}={BESIDE}" for each in objectives))


def main_words(place: Path, data: DataSet) -> list[str]:
    """Settings of all jobs on one data set, whose raw files and tables lie below `place`."""
    paths = {"var": place, "raw": place / "raw", "warehouse": place / "warehouse"}
    return [f"source={data.source}", "run.show_progress=false", *data.settings] + [
        f"paths.{name}={path}" for name, path in paths.items()
    ]


def run(argv: Sequence[str]) -> dict[str, Any]:
    """Train and judge. Returns, by data set, every method's figures, the best model and the best baseline."""
    arguments = parse(argv)
    with contextlib.ExitStack() as stack:
        folder = Path(arguments.folder) if arguments.keep else stack.enter_context(scratch(arguments.folder))
        told = {}
        for name in arguments.data:
            place = folder.absolute() / name
            if name == "reviews":
                write_reviews(arguments.reviews, place / "raw" / "reviews")
            elif not (place / "raw").exists():
                with contextlib.redirect_stdout(sys.stderr):
                    cli.main(["sample", name, "--out", str(place / "raw")])
            told[name] = contest(place, DATA[name], arguments)
            for line in as_markdown(name, told[name]["methods"]):
                print(line, file=sys.stderr)
    return {name: {**best(found["methods"]), **found} for name, found in told.items()}


def contest(place: Path, data: DataSet, arguments: argparse.Namespace) -> dict[str, Any]:
    """Every model with every seed on one data set; the baselines beside the first."""
    words = [*main_words(place, data), f"split.refit={str(arguments.refit).lower()}"]
    if any(model.split("+")[0] in GRAPHS for model in arguments.models):
        words.append(WITH_GRAPH)
    for job in ("ingest", "sessionize", "build_sequences"):
        run_here(job, as_words(words))
    figures: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for model in arguments.models:
        for seed in arguments.seeds:
            registered = f"{model}-{seed}-{time.time_ns()}"
            own = [*words, f"seed={seed}", f"mlflow.model_name={registered}"]
            settings = [*own, *data.training, *arguments.set, *settings_of(model)]
            if arguments.budget:
                settings += epochs_within(arguments.budget, settings)
            started = time.monotonic()
            trained = run_here("train", as_words(settings))
            seconds = time.monotonic() - started
            evaluate([*own, *POPULARITY_ALONE] if figures else own)
            found = figures_of(place, registered)
            if arguments.refit:
                best_epoch = int(trained["metrics"]["best_epoch"])
                found[MODEL] |= refit(place, registered, own, [*settings, f"train.stop_after={best_epoch + 1}"])
            for method, values in found.items():
                if method == MODEL:
                    figures[model].append({"seed": seed, "seconds": round(seconds, 1), **values})
                elif method not in figures:
                    figures[method].append({"is_baseline": True, **values})
            say(f"{model}, seed {seed}: {found[MODEL]}")
    return {"methods": dict(figures)}


def epochs_within(budget: float, settings: Sequence[str]) -> list[str]:
    """Settings for as many epochs as fit into so many CPU seconds, by what a few steps take; at least one."""
    tried = run_here("train", [*as_words([*settings, "train.epochs=1"]), "--dry-run"])
    epochs = max(1, round(budget / tried["metrics"]["cpu_seconds"]))
    return [f"train.epochs={epochs}", f"train.patience={epochs}"]


def refit(place: Path, registered: str, own: Sequence[str], settings: Sequence[str]) -> dict[str, float]:
    """Train once more on the rows up to the test cut, as long as `settings` say. Returns the figure on test."""
    again = [f"mlflow.model_name={registered}-refit", "train.split=refit"]
    run_here("train", as_words([*settings, *again]))
    evaluate([*own, *again, *POPULARITY_ALONE])
    found = figures_of(place, f"{registered}-refit")[MODEL]
    return {REFIT_TEST: found[TEST], f"{REFIT_TEST}_error": found[f"{TEST}_error"]}


def evaluate(settings: Iterable[str]) -> None:
    """`behavior evaluate`, whether or not the gate opens."""
    run_here("evaluate", as_words(settings), allowed=(0, REFUSED))


def figures_of(place: Path, registered: str) -> dict[str, dict[str, float]]:
    """By method: the headline on both splits, and its standard error over users."""
    files = DeltaTable(str(place / "warehouse" / EVALUATIONS.name)).file_uris()
    columns = (EVALUATIONS.method, EVALUATIONS.split, EVALUATIONS.value, EVALUATIONS.standard_error)
    query = f"""select {", ".join(columns)} from read_parquet(?, hive_partitioning=true)
                where {EVALUATIONS.model_name} = ? and {EVALUATIONS.metric} = ?"""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for method, split, value, error in duckdb.execute(query, [files, registered, HEADLINE]).fetchall():
        found[method] |= {split: value, f"{split}_error": error}
    return dict(found)


def mean(runs: Sequence[Mapping[str, Any]], split: str) -> tuple[float, float]:
    """The mean over seeds, and its standard error; where there is one run, that over users."""
    values = [float(each[split]) for each in runs]
    if len(values) == 1:
        return values[0], float(runs[0][f"{split}_error"])
    return statistics.mean(values), statistics.stdev(values) / len(values) ** 0.5


def best(methods: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """The best model and the best baseline, both chosen on validation, and what they reach on test.

    Baselines count all that is known before the test cut; so the model's figure is that of its refit, if there is one.
    """
    told = {}
    for kind, is_baseline in (("model", False), ("baseline", True)):
        those = {name: runs for name, runs in methods.items() if bool(runs[0].get("is_baseline")) is is_baseline}
        name = max(those, key=lambda name: mean(those[name], VALIDATION)[0])
        value, error = mean(those[name], REFIT_TEST if REFIT_TEST in those[name][0] else TEST)
        told[kind] = {"name": name, HEADLINE: round(value, 4), "standard_error": round(error, 4)}
    return told


def as_markdown(data: str, methods: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """One table, the best on validation first."""
    lines = [
        f"| {data} | seeds | validation {HEADLINE} | test | test, refit | seconds to train |",
        "|---|" + "---|" * 5,
    ]
    for name, runs in sorted(methods.items(), key=lambda pair: -mean(pair[1], VALIDATION)[0]):
        splits = [split for split in (VALIDATION, TEST, REFIT_TEST) if split in runs[0]]
        figures = ["{:.4f} ± {:.4f}".format(*mean(runs, split)) for split in splits] + [""] * (3 - len(splits))
        seconds = [each["seconds"] for each in runs if "seconds" in each]
        time_taken = f"{statistics.median(seconds):.0f}" if seconds else ""
        lines.append(f"| {name} | {len(seconds) or ''} | {' | '.join(figures)} | {time_taken} |")
    return lines


def write_reviews(file: Path | None, folder: Path) -> None:
    """One row an event of a file with one user a line, then the items in order."""
    if file is None:
        raise SystemExit("give the file of sequences: --reviews FILE")
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "events.csv"
    if target.exists():
        return
    with file.open(encoding="utf-8") as lines, target.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(("user", "item", "position"))
        for line in lines:
            user, *items = line.split()
            writer.writerows((user, item, position) for position, item in enumerate(items))


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks quality", description=__doc__)
    parser.add_argument("--data", nargs="+", choices=list(DATA), default=["complete_journey"])
    parser.add_argument("--reviews", type=Path, metavar="FILE", help="of sequences, for the data set reviews")
    names = f"{', '.join(MODELS)}, or a model.name; each with +OBJECTIVE"
    parser.add_argument("--models", nargs="+", default=["default"], help=names)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="more settings of every training")
    parser.add_argument(
        "--budget", type=float, metavar="SECONDS", help="CPU, of each model's training; else train.epochs"
    )
    parser.add_argument("--no-refit", dest="refit", action="store_false", help="leave the training up to test out")
    parser.add_argument("--folder", help="where raw files and tables may lie (the system's own)")
    parser.add_argument("--keep", action="store_true", help="leave them there for the next time; needs --folder")
    return parser.parse_args(argv)

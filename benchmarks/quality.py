"""Who ranks best: a contest of all encoders and objectives at equal budgets, then the best of it and the default, seed
after seed, beside every baseline, on the same users of the same data.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb
from deltalake import DeltaTable

from behavior_lib import cli
from behavior_lib.config import load
from behavior_lib.errors import ConfigError
from behavior_lib.evaluation.baselines import ALS
from behavior_lib.evaluation.judge import MODEL
from behavior_lib.models.encoders import reads_graph
from behavior_lib.tables import EVALUATIONS
from behavior_lib.tables.sequences import TEST
from benchmarks.bake_off import ALONE, WITHOUT_PATHS, Candidate, bake_off, candidates
from benchmarks.jobs import as_words, run_here, say, scratch
from benchmarks.quality_page import (
    BAKE_OFF,
    HEADLINE,
    LEADS,
    METHODS,
    REFIT_TEST,
    as_markdown,
    best,
    budget_table,
    check_page,
    crossed_table,
    write_page,
)

SOURCES = Path(__file__).parent / "sources"
POPULARITY_ALONE = ("evaluate.baselines=[popularity]", "evaluate.gate=[popularity]")
SEEDS = 3
BUDGET = 20.0  # CPU seconds of each candidate
REFUSED = 3  # the gate did not open; the figures are in the table all the same
BESIDE = 0.1  # the weight of an objective beside next_item
WITH_GRAPH = "sequences.neighbours=50"
DEFAULT = "default"
COMMAND = [sys.executable, "-m", "benchmarks", "quality"]
PLAIN = ("model.repeat_path=false", "model.successors=0")
# What a name of `--models` stands for; one that is not here is a model.name.
MODELS: dict[str, tuple[str, ...]] = {DEFAULT: (), "without_successors": ("model.successors=0",)}


@dataclass(frozen=True)
class DataSet:
    """Where the raw rows are, and the settings of every job on them. training: of `train` beside its defaults."""

    source: str
    settings: tuple[str, ...] = ()
    training: tuple[str, ...] = ()


REVIEWS = "reviews"
DATA: dict[str, DataSet] = {
    "complete_journey": DataSet(
        "complete_journey",
        training=(
            "model.item_attributes=[product_type, product_category]",
            "train.epochs=1",
            "train.learning_rate=0.01",
        ),
    ),
    # No times, so neither gaps nor values; short histories, so more rows at once.
    REVIEWS: DataSet(
        str(SOURCES / "reviews.yaml"),
        ("split.kind=leave_one_out", "sequences.length=128"),
        (
            "model.use_gap=false",
            "model.use_value=false",
            "model.window=50",
            "model.dropout=0.8",
            "train.batch_size=128",
            "train.epochs=4",
            "train.learning_rate=0.005",
        ),
    ),
}


def settings_of(model: str) -> tuple[str, ...]:
    """Settings of a name of `--models`: `NAME+OBJECTIVE` learns that too, `without_paths:NAME` has vectors only."""
    name, *objectives = model.removeprefix(f"{WITHOUT_PATHS}:").split("+")
    plain = PLAIN if model.startswith(WITHOUT_PATHS) else ()
    beside = (f"model.objectives.{each}={BESIDE}" for each in objectives)
    return (*MODELS.get(name, (f"model.name={name}",)), *plain, *beside)


def main_words(place: Path, data: DataSet) -> list[str]:
    """Settings of all jobs on one data set, whose raw files and tables lie below `place`."""
    paths = {"var": place, "raw": place / "raw", "warehouse": place / "warehouse"}
    return [f"source={data.source}", "run.show_progress=false", *data.settings] + [
        f"paths.{name}={path}" for name, path in paths.items()
    ]


def run(argv: Sequence[str]) -> dict[str, Any]:
    """Train and judge. Returns, by data set, the best model and the best baseline, every method's figures, and those of
    the contest at equal budgets.
    """
    arguments = parse(argv)
    if REVIEWS not in arguments.data and "--data" not in argv:
        say(f"{REVIEWS} is left out: give its file of sequences by --reviews FILE")
    page = arguments.page if is_whole(arguments) else None
    if page:
        check_page(page, arguments.data)
    elif arguments.page:
        say(f"{arguments.page} stays as it is: this is no contest of all candidates and three seeds with refit")
    several = len(arguments.data) > 1
    told = side_by_side(argv, arguments.data) if several else alone(arguments)
    if page:
        write_page(page, told, argv, arguments.budget)
    return told


def is_whole(arguments: argparse.Namespace) -> bool:
    """Whether nothing of the contest was left out."""
    return set(arguments.bake_off) >= set(candidates()) and len(set(arguments.seeds)) >= SEEDS and arguments.refit


def alone(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `run` says of the one data set."""
    with contextlib.ExitStack() as stack:
        folder = Path(arguments.folder) if arguments.keep else stack.enter_context(scratch(arguments.folder))
        (name,) = arguments.data
        place = folder.absolute() / name
        if name == REVIEWS:
            write_reviews(arguments.reviews, place / "raw" / REVIEWS)
        elif not (place / "raw").exists():
            with contextlib.redirect_stdout(sys.stderr):
                cli.main(["sample", name, "--out", str(place / "raw")])
        words = prepare(place, DATA[name], arguments)
        found = tried(place, words, DATA[name], arguments)
        methods = contest(place, words, DATA[name], arguments, finalists(arguments.models, found))
        budgets = budget_table(name, arguments.budget, found)
        for line in [*budgets, *crossed_table(name, found), *as_markdown(name, methods)]:
            print(line, file=sys.stderr)
    return {name: {**best(methods), METHODS: methods, BAKE_OFF: [asdict(each) for each in found]}}


def side_by_side(argv: Sequence[str], data: Sequence[str]) -> dict[str, Any]:
    """What `run` says of each data set alone, all of them at once: budgets are CPU time, which others change little."""
    with contextlib.ExitStack() as stack:
        started = (
            subprocess.Popen([*COMMAND, *argv, "--page", "--data", name], stdout=subprocess.PIPE, text=True)
            for name in data
        )
        runs = [stack.enter_context(process) for process in started]
        said = [run.communicate()[0] for run in runs]
    if any(run.returncode for run in runs):
        raise SystemExit(f"exit codes of {', '.join(data)}: {[run.returncode for run in runs]}")
    return {name: told for text in said for name, told in json.loads(text.strip().splitlines()[-1]).items()}


def prepare(place: Path, data: DataSet, arguments: argparse.Namespace) -> list[str]:
    """Make the tables of one data set. Returns the settings of all jobs on them."""
    words = [*main_words(place, data), f"split.refit={str(arguments.refit).lower()}"]
    if any(reads_graph(encoder_of(model)) for model in [*arguments.models, *arguments.bake_off]):
        words.append(WITH_GRAPH)
    for job in ("ingest", "sessionize", "build_sequences"):
        run_here(job, as_words(words))
    return words


def encoder_of(model: str) -> str:
    """The model.name of a name of `--models`."""
    return str(load("local", None, settings_of(model)).config.model.name)


def tried(place: Path, words: Sequence[str], data: DataSet, arguments: argparse.Namespace) -> list[Candidate]:
    """The candidates, each trained for the budget with the first seed; the best on validation first."""
    beside = [*words, f"seed={arguments.seeds[0]}", *data.training, *arguments.set]
    settings = {model: [*beside, *settings_of(model)] for model in arguments.bake_off}
    found = bake_off(place / "warehouse", settings, arguments.budget) if settings else iter(())
    return sorted(found, key=lambda each: -each.validation)


def finalists(models: Sequence[str], found: Sequence[Candidate]) -> list[str]:
    """The models asked for and the best of the contest, each once."""
    best_of = [each.name for each in found[:1]]
    default = load("local").config.model.name
    return list(dict.fromkeys([*models, *(DEFAULT if name == default else name for name in best_of)]))


def contest(
    place: Path, words: Sequence[str], data: DataSet, arguments: argparse.Namespace, models: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """The figures of every model with every seed; the baselines' beside the first."""
    figures: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for model in models:
        for seed in arguments.seeds:
            registered = f"{model}-{seed}-{time.time_ns()}".replace(":", "-")
            own = [*words, f"seed={seed}", f"mlflow.model_name={registered}"]
            settings = [*own, *ALONE, *data.training, *arguments.set, *settings_of(model)]
            started = time.monotonic()
            trained = run_here("train", as_words(settings))
            seconds = time.monotonic() - started
            beside = (all_baselines(),) if seed == arguments.seeds[0] else POPULARITY_ALONE
            evaluate([*own, *beside])
            found = figures_of(place, registered)
            own_run = {"seed": seed, "seconds": round(seconds, 1), **found[MODEL], LEADS: leads_of(found)}
            if arguments.refit:
                best_epoch = int(trained["metrics"]["best_epoch"])
                again = [*settings, f"train.stop_after={best_epoch + 1}"]
                own_run |= refit(place, registered, own, again, beside)
            figures[model].append(own_run)
            for method, values in found.items():
                if method != MODEL and method not in figures:
                    figures[method].append({"is_baseline": True, **values})
            say(f"{model}, seed {seed}: {own_run}")
    return dict(figures)


def refit(
    place: Path, registered: str, own: Sequence[str], settings: Sequence[str], beside: Sequence[str]
) -> dict[str, Any]:
    """Train once more on the rows up to the test cut, as long as `settings` say. Returns the figure on test.

    beside: the baselines of which the leads are told.
    """
    again = [f"mlflow.model_name={registered}-refit", "train.split=refit"]
    run_here("train", as_words([*settings, *again]))
    evaluate([*own, *again, *beside])
    found = figures_of(place, f"{registered}-refit")
    own_figures = found[MODEL]
    return {
        REFIT_TEST: own_figures[TEST],
        f"{REFIT_TEST}_error": own_figures[f"{TEST}_error"],
        LEADS: leads_of(found),
    }


def all_baselines() -> str:
    """The setting that has each of them judged, the one that Spark computes too."""
    names = load("local").config.evaluate.baselines
    return f"evaluate.baselines=[{', '.join([*names, ALS])}]"


def leads_of(found: Mapping[str, Mapping[str, float]]) -> dict[str, list[float]]:
    """See LEADS. found: of figures_of."""
    own = found[MODEL][TEST]
    others = {method: each for method, each in found.items() if method != MODEL}
    return {method: [own - each[TEST], each[f"{TEST}_lead_error"]] for method, each in others.items()}


def evaluate(settings: Iterable[str]) -> None:
    """`behavior evaluate`, whether or not the gate opens."""
    run_here("evaluate", as_words(settings), allowed=(0, REFUSED))


def figures_of(place: Path, registered: str) -> dict[str, dict[str, float]]:
    """By method: the headline on both splits, its standard error over users, and the paired one of the model's lead."""
    files = DeltaTable(str(place / "warehouse" / EVALUATIONS.name)).file_uris()
    errors = (EVALUATIONS.standard_error, EVALUATIONS.lead_standard_error)
    columns = (EVALUATIONS.method, EVALUATIONS.split, EVALUATIONS.value, *errors)
    query = f"""select {", ".join(columns)} from read_parquet(?, hive_partitioning=true)
                where {EVALUATIONS.model_name} = ? and {EVALUATIONS.metric} = ?"""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for method, split, value, error, lead_error in duckdb.execute(query, [files, registered, HEADLINE]).fetchall():
        found[method] |= {split: value, f"{split}_error": error, f"{split}_lead_error": lead_error}
    return dict(found)


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
    parser.add_argument("--data", nargs="+", choices=list(DATA), help="(all, reviews where their file is given)")
    parser.add_argument("--reviews", type=Path, metavar="FILE", help="of sequences, for the data set reviews")
    known = candidates()
    names = f"{', '.join(MODELS)}, or a model.name; each with +OBJECTIVE, or {WITHOUT_PATHS}: before it"
    parser.add_argument("--bake-off", nargs="*", default=known, metavar="NAME", help=f"of equal budget: {names}")
    parser.add_argument("--budget", type=float, default=BUDGET, metavar="SECONDS", help=f"CPU, of each ({BUDGET:g})")
    parser.add_argument(
        "--models", nargs="*", default=[DEFAULT], metavar="NAME", help="with all seeds, beside the best"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(1, SEEDS + 1)))
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="more settings of every training")
    parser.add_argument("--no-refit", dest="refit", action="store_false", help="leave the training up to test out")
    parser.add_argument(
        "--page",
        nargs="?",
        type=Path,
        metavar="FILE",
        help="write a whole contest's tables into it, between their marks",
    )
    parser.add_argument("--folder", help="where raw files and tables may lie (the system's own)")
    parser.add_argument("--keep", action="store_true", help="leave them there for the next time; needs --folder")
    arguments = parser.parse_args(argv)
    if not arguments.models and not arguments.bake_off:
        parser.error("nothing to train: name --models, --bake-off, or both")
    if arguments.keep and not arguments.folder:
        parser.error("--keep needs --folder")
    for name in sorted({*arguments.models, *arguments.bake_off} - {DEFAULT, *known}):
        try:
            encoder_of(name)
        except ConfigError as refusal:
            parser.error(f"{name}: {refusal}")
    arguments.data = arguments.data or [name for name in DATA if name != REVIEWS or arguments.reviews]
    return arguments

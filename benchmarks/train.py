"""How fast training is: the real loop on a generated sequences table, beside peers on the same rows, and the limit.

A position is an event that is a target: every event of a row but the first. One epoch trains the same positions in all
contestants, whatever they make of the rows; what is compared is positions a second. Each contestant is a warm process
of its own with the same number of threads, and they train in turns.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from behavior_lib.config import load
from behavior_lib.models.base import ModelSpec
from behavior_lib.models.build import FAMILIES
from behavior_lib.models.encoders import reads_graph
from behavior_lib.train.settings import FitSettings
from benchmarks.jobs import say, scratch
from benchmarks.train_contest import Entry, contest, ratios, shares, speeds, spread
from benchmarks.train_limit import copy_speed, flops_per_position, gemm_speed, most_positions
from benchmarks.train_peers import PEERS, peer_entries, peer_python
from benchmarks.train_table import N_EVENT_TYPES, ContestTable, as_case, write_for_peers, write_table

OURS, WARM_UP = "ours", 5
SIZES = ("dimension=128", "length=512", "items=100000", "items=1000000", "full=true", "repeat_path=true")
LOSSES = ("loss=softmax", "loss=chunked_softmax", "loss=gbce", "loss=bpr")
VARIANTS = (*SIZES, *LOSSES)


@dataclass(frozen=True)
class Point:
    """A point of the grid. items: of the catalogue. full: every row has `length` events.

    spec: what else the model is told; the peers read dimension, layers, heads, dropout and negatives of it.
    """

    length: int = 128
    items: int = 10_000
    full: bool = False
    batch_size: int = 16
    spec: Mapping[str, Any] | None = None

    def changed(self, words: str) -> Point:
        """With KEY=VALUE[,KEY=VALUE]… as JSON values, where they are some; keys of the point or of the model's spec."""
        changes = {key: _value(text) for key, _, text in (word.partition("=") for word in words.split(","))}
        known = {each.name for each in fields(self)} - {"spec"}
        own = {key: value for key, value in changes.items() if key in known}
        return replace(self, **own, spec={**(self.spec or {}), **{k: v for k, v in changes.items() if k not in known}})

    def model(self, n_items: int) -> ModelSpec:
        """Items alone and no repeat path where nothing else is said: what the peers have."""
        plain = dict.fromkeys(("repeat_path", "use_event_type", "use_gap", "use_value"), False)
        sizes = {"length": self.length, "window": self.length, "n_items": n_items, "n_event_types": N_EVENT_TYPES}
        told = {"name": next(iter(FAMILIES)), **sizes, **plain, **(self.spec or {})}
        configured = load("local", None, [f"model.name={told['name']}"]).config.model
        return ModelSpec(**{"objectives": dict(configured.objectives), **told})


def run(argv: Sequence[str]) -> dict[str, Any]:
    """Measure every point. peer_ratio, tokens_per_s, loader_share and limit_share are of the first."""
    arguments = parse(argv)
    torch.set_num_threads(arguments.threads)
    with scratch(arguments.folder) as folder:
        python = Path(arguments.peer_python) if arguments.peer_python else None
        if arguments.peers and python is None:
            python = peer_python(Path(arguments.peer_environment).absolute())
        base = Point().changed(arguments.base) if arguments.base else Point()
        families = [f"name={name}" for name in arguments.models[1:]]
        points = [("base", base), *((words, base.changed(words)) for words in [*arguments.variants, *families])]
        cases = []
        for number, (name, point) in enumerate(points):
            peers = arguments.peers if number == 0 else [] if name in families else arguments.grid_peers
            cases.append({"point": name, **measure(folder / str(number), point, peers, python, arguments)})
            say(json.dumps(cases[-1]))
        scaling = two_workers(folder / "two", base, arguments) if arguments.scaling else None
    first = cases[0]
    own = first["contestants"][OURS]
    return {
        **{name: first.get(name) for name in ("peer_ratio", "peer", "peer_ratios")},
        "tokens_per_s": own["per_second"]["median"],
        "loader_share": own["shares"]["loader"],
        "scaling_2": scaling["ratio"]["median"] if scaling else None,
        "limit_share": first["limit"]["share"],
        "threads": arguments.threads,
        "cases": cases,
        "scaling": scaling,
    }


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks train", description=__doc__)
    # Those that read the item graph need a table that the bench does not write.
    families = [name for name in FAMILIES if not reads_graph(name)]
    parser.add_argument(
        "--models", nargs="+", default=families, choices=families, help="families; the first meets the peers"
    )
    parser.add_argument("--base", help="KEY=VALUE[,KEY=VALUE]… that differ from the usual base point")
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), help="what differs from it, a point a word")
    parser.add_argument("--fit", default="", help="KEY=VALUE[,KEY=VALUE]… of the loop's settings (FitSettings)")
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=list(PEERS), help="at the base point")
    parser.add_argument("--grid-peers", nargs="*", default=["replay_bucketed"], choices=list(PEERS), help="elsewhere")
    parser.add_argument("--peer-python", help="a Python that has the peers; else one is made")
    parser.add_argument("--peer-environment", default="var/peers", help="where it is made")
    parser.add_argument("--events", type=int, default=400_000, help="of a table")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of a turn")
    parser.add_argument("--threads", type=int, default=1, help="of every process")
    parser.add_argument("--scaling", action=argparse.BooleanOptionalAction, default=True, help="1 and 2 workers")
    parser.add_argument("--communicator", default="horovod", choices=["horovod", "torch"], help="of 2 workers")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", help="where the tables may lie meanwhile (the system's own)")
    return parser.parse_args(argv)


def measure(
    folder: Path, point: Point, peers: Sequence[str], python: Path | None, arguments: argparse.Namespace
) -> dict[str, Any]:
    """All contestants of one point."""
    made = write_table(folder, point.length, point.items, arguments.events, point.full, arguments.seed)
    entries = [own_entry(made, point, arguments)]
    if peers and python is not None:
        write_for_peers(made)
        entries += peer_entries(peers, python, common(made, point, arguments))
    turns = contest(entries, folder / "contestants", arguments.rounds, arguments.seconds)
    told = {
        "rows": made.rows,
        "events": made.events,
        "contestants": {name: told_of(own) for name, own in turns.items()},
    }
    return {**told, **against_peers(turns), "limit": limit(made, point, turns[OURS])}


def common(made: ContestTable, point: Point, arguments: argparse.Namespace) -> dict[str, Any]:
    """What all contestants of a point are told."""
    spec = point.model(made.n_items)
    sizes = {name: getattr(spec, name) for name in ("dimension", "layers", "heads", "dropout", "negatives")}
    given = {"threads": arguments.threads, "seed": arguments.seed, "batch_size": point.batch_size}
    return {**as_case(made), **sizes, **given, "positions": made.positions(point.batch_size)}


def own_entry(made: ContestTable, point: Point, arguments: argparse.Namespace, workers: int = 1) -> Entry:
    """How to start this project, in one process or in several. The loop would run for ever and stores no state."""
    settings = FitSettings(
        epochs=1000,
        patience=1000,
        batch_size=point.batch_size,
        learning_rate=1e-4,
        weight_decay=0.0,
        warmup_share=0.05,
        clip_norm=1.0,
        reader="petastorm",
        seed=arguments.seed,
        threads=arguments.threads,
        tokens_per_row=made.events / made.rows,
        checkpoint_steps=10**9,
    )
    if arguments.fit:
        changes = (word.partition("=") for word in arguments.fit.split(","))
        settings = replace(settings, **{key: _value(text) for key, _, text in changes})
    communicator = "single" if workers == 1 else arguments.communicator
    own = {"spec": point.model(made.n_items).as_json(), "fit": asdict(settings), "communicator": communicator}
    command, environ = [sys.executable, "-m", "benchmarks.train_worker"], {"OMP_NUM_THREADS": str(arguments.threads)}
    environs = [environ]
    if communicator == "horovod":
        ranks = ["-np", str(workers), "-H", f"localhost:{workers}"]
        command = [sys.executable, "-m", "horovod.runner.launch", "--gloo", *ranks, *command]
    elif communicator == "torch":
        environs = [{**environ, "RANK": str(rank), "WORLD_SIZE": str(workers)} for rank in range(workers)]
    case = {**common(made, point, arguments), **own, "warm_up": WARM_UP}
    return Entry(OURS if workers == 1 else f"{workers}_workers", command, case, environs)


def told_of(turns: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Speed, memory and the parts of a step of one contestant."""
    rows = [turn["rows"] / turn["seconds"] for turn in turns]
    told = {
        "per_second": spread(speeds(turns), 0),
        "per_cpu_second": spread(speeds(turns, "cpu_seconds"), 0),
        "rows_per_second": spread(rows, 1),
        "peak_mb": max(turn["peak_mb"] for turn in turns),
        "steps": sum(turn["steps"] for turn in turns),
    }
    return {**told, "shares": shares(turns)} if turns[0]["parts"] else told


def against_peers(turns: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """The ratios to the peer with the highest median; of rounds, by time and by CPU time."""
    peers = [name for name in turns if name != OURS]
    if not peers:
        return {}
    fastest = max(peers, key=lambda name: median(speeds(turns[name])))
    found = {
        clock: spread(ratios(speeds(turns[OURS], clock), speeds(turns[fastest], clock)))
        for clock in ("seconds", "cpu_seconds")
    }
    return {"peer": fastest, "peer_ratio": found["seconds"]["median"], "peer_ratios": found}


def limit(made: ContestTable, point: Point, turns: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How fast arithmetic and memory would let a CPU second be, and which share of that is reached."""
    spec = point.model(made.n_items)
    positions = sum(turn["positions"] for turn in turns) / sum(turn["steps"] for turn in turns)
    gemm, copy = gemm_speed(spec, max(1, round(positions))), copy_speed()
    most = most_positions(spec, made.keys, positions, gemm, copy)
    return {
        "megaflops_per_position": round(flops_per_position(spec, made.keys) / 1e6, 3),
        "gemm_gigaflops": round(gemm / 1e9, 1),
        "copy_gigabytes": round(copy / 1e9, 1),
        "per_cpu_second": round(most),
        "share": round(median(speeds(turns, "cpu_seconds")) / most, 3),
    }


def two_workers(folder: Path, point: Point, arguments: argparse.Namespace) -> dict[str, Any]:
    """Two workers beside one, in turns. The ranks' batches are alike, so rank 0's positions count twice."""
    made = write_table(folder, point.length, point.items, arguments.events, point.full, arguments.seed)
    one, two = own_entry(made, point, arguments), own_entry(made, point, arguments, workers=2)
    turns = contest([one, two], folder / "contestants", arguments.rounds, arguments.seconds)
    of_two = [2 * speed for speed in speeds(turns[two.name])]
    found = {"ratio": spread(ratios(of_two, speeds(turns[one.name]))), "shares": shares(turns[two.name])}
    return {"communicator": arguments.communicator, "per_second": spread(of_two, 0), **found}


def _value(text: str) -> Any:
    """JSON, or the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text

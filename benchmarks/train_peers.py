"""The peers of the contest: their environment, and how each is started."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.jobs import say
from benchmarks.train_contest import Entry

PINNED = Path(__file__).with_name("peers.txt")
# name → module of the adapter, steps before the first that counts, and what of the case is its own.
PEERS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "replay": ("benchmarks.train_replay", 5, {"loss": "sampled", "bucket": 0}),
    "replay_bucketed": ("benchmarks.train_replay", 5, {"loss": "sampled", "bucket": 4}),
    "replay_full_softmax": ("benchmarks.train_replay", 2, {"loss": "full", "bucket": 0}),
    "recbole_full_softmax": ("benchmarks.train_recbole", 1, {"loss": "CE"}),
    "recbole_bpr": ("benchmarks.train_recbole", 1, {"loss": "BPR"}),
}


def peer_python(folder: Path) -> Path:
    """The Python of an environment with the pinned peers, made in the folder where it is not there yet (minutes)."""
    python, made = folder / "bin" / "python", folder / PINNED.name
    wanted = PINNED.read_text(encoding="utf-8")
    if not made.exists() or made.read_text(encoding="utf-8") != wanted:
        say(f"installing the peers into {folder}")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True, stdout=sys.stderr)
        subprocess.run([str(python), "-m", "pip", "install", "-q", "-r", str(PINNED)], check=True, stdout=sys.stderr)
        made.write_text(wanted, encoding="utf-8")
    return python


def peer_entries(names: Sequence[str], python: Path, case: Mapping[str, Any]) -> list[Entry]:
    """The named peers on the case that ours has too."""
    entries = []
    for name in names:
        module, warm_up, own = PEERS[name]
        environ = {"OMP_NUM_THREADS": str(case["threads"])}
        entries.append(Entry(name, [str(python), "-m", module], {**case, **own, "warm_up": warm_up}, [environ]))
    return entries

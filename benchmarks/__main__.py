"""`make bench`, `make bench-etl` and the others: the last line printed is one JSON object."""

import json
import sys
from collections.abc import Callable
from typing import Any

from benchmarks import cluster, demo, encoders, etl, loader, losses, optimizer, oracle, quality, sequences, train

# Each takes its arguments and returns what its last line says.
FIGURES: dict[str, Callable[[list[str]], dict[str, Any]]] = {
    "demo": lambda words: {"demo": demo.run()},
    "etl": etl.run,
    "cluster": cluster.run,
    "sequences": sequences.run,
    "loader": loader.run,
    "encoders": encoders.run,
    "losses": losses.run,
    "optimizer": optimizer.run,
    "train": train.run,
    "quality": quality.run,
}


def main(words: list[str]) -> int:
    """The name of a benchmark (`demo` without one) and its arguments. Returns 1 where tables differ."""
    name, rest = (words[0], words[1:]) if words else ("demo", [])
    if name == "oracle":
        return oracle.main(rest)
    if name not in FIGURES:
        print(f"error: unknown benchmark: {name!r}; known: {', '.join([*FIGURES, 'oracle'])}", file=sys.stderr)
        return 2
    told = FIGURES[name](rest)
    print(json.dumps(told))
    return 0 if told.get("equal", True) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

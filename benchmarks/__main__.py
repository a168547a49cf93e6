"""`make bench`, `make bench-etl` and the others: the last line printed is one JSON object."""

import json
import sys

from benchmarks import cluster, demo, etl, loader, oracle, train


def main(words: list[str]) -> int:
    """The name of a benchmark (`demo` without one) and its arguments. Returns 1 where tables differ."""
    name, rest = (words[0], words[1:]) if words else ("demo", [])
    if name == "etl":
        print(json.dumps(etl.run(rest)))
    elif name == "cluster":
        told = cluster.run(rest)
        print(json.dumps(told))
        return 0 if told["equal"] else 1
    elif name == "loader":
        print(json.dumps(loader.run(rest)))
    elif name == "train":
        print(json.dumps(train.run(rest)))
    elif name == "oracle":
        return oracle.main(rest)
    elif name == "demo":
        print(json.dumps({"demo": demo.run()}))
    else:
        print(f"error: unknown benchmark: {name!r}; known: demo, etl, cluster, loader, train, oracle", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

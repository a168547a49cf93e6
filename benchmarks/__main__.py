"""`make bench`: the last line printed is one JSON object."""

import json

from benchmarks.demo import run

if __name__ == "__main__":
    print(json.dumps({"demo": run()}))

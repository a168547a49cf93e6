"""Any events of the generator, in batches of any order: what ingest and sessionize leave, against SQL row for row."""

import gzip
import json
import random
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from behavior_lib.cli import main
from behavior_lib.layout import conf_root
from benchmarks.duck_log import GENERATED, DuckLog
from tests.jobs.conftest import Shop

pytestmark = pytest.mark.spark

GAPS = {"5m": "5 minutes", "30m": "30 minutes", "2h": "2 hours"}


@dataclass(frozen=True)
class Delivery:
    """How the days arrive. retold: lines that come again with another product or customer, in conflict."""

    seed: int
    batches: int
    late_days: int
    retold: int

    def split(self, days: list[Path]) -> list[list[Path]]:
        """The days in a drawn order, in so many batches."""
        drawn = random.Random(self.seed).sample(days, len(days))
        return [part for number in range(self.batches) if (part := drawn[number :: self.batches])]

    def retell(self, days: list[Path]) -> None:
        """Write the changed lines beside the others."""
        draw = random.Random(self.seed)
        files = [file for day in days for file in day.glob("*.gz")]
        lines = sorted(line for file in files for line in gzip.decompress(file.read_bytes()).decode().splitlines())
        whole = [json.loads(line) for line in lines if line.endswith("}")]
        for number, row in enumerate(draw.sample(whole, min(self.retold, len(whole)))):
            line = json.dumps({**row, **({"product": "other"} if number % 2 else {"customer": "somebody else"})})
            with (draw.choice(days) / "retold.json").open("a") as file:
                file.write(line + "\n")


def share(*values: float) -> st.SearchStrategy:
    return st.sampled_from(values)


KNOBS = st.fixed_dictionaries(
    {
        "events": st.integers(300, 1500),
        "seed": st.integers(0, 2**31),
        "days": st.integers(2, 5),
        "users": st.integers(1, 40),
        "items": st.integers(1, 40),
        "gap": st.sampled_from(sorted(GAPS)),
        "duplicates": share(0, 0.1, 0.3),
        "bad": share(0, 0.02, 0.1),
        "late": share(0, 0.02, 0.3),
        "boundaries": share(0, 0.3),
        "midnights": share(0, 0.3),
        "pauses": share(0, 0.4),
        "heavy_user": share(0, 0.3),
        "heavy_item": share(0, 0.5),
        "heavy_day": share(0, 0.8),
        "huge_session": st.sampled_from((0, 60)),
    }
)
DELIVERIES = st.builds(
    Delivery,
    seed=st.integers(0, 2**31),
    batches=st.integers(1, 2),
    late_days=st.sampled_from((1, 30)),
    retold=st.sampled_from((0, 20)),
)
ALL_AT_ONCE = {
    **{"events": 1200, "seed": 3, "days": 4, "users": 9, "items": 20, "gap": "30m", "duplicates": 0.2, "bad": 0.05},
    **{"late": 0.1, "boundaries": 0.4, "midnights": 0.2, "pauses": 0.3, "heavy_user": 0.1, "heavy_item": 0.2},
    **{"heavy_day": 0.3, "huge_session": 60},
}


def take(shop: Shop, knobs: dict, delivery: Delivery) -> tuple[DuckLog, dict[str, dict[str, int]]]:
    """Make the rows and take them batch by batch. Returns the oracle, and what ingest told of each batch."""
    folder = shop.root / "raw" / "generated"
    words = [word for name, value in knobs.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    paths = [f"paths.{name}={shop.root / name}" for name in ("raw", "warehouse", "var")]
    settings_of_paths = [word for path in paths for word in ("--set", path)]
    assert main(["generate", "--env", "test", *settings_of_paths, "--out", str(folder), *words]) == 0
    days = sorted(folder.glob("day=*"))
    delivery.retell(days)
    yaml = (conf_root() / "sources" / "generated.yaml").read_text()
    source = shop.root / "generated.yaml"
    source.write_text(yaml.replace("session_gap: 30m", f"session_gap: {knobs['gap']}"))
    told, batches = {}, []
    for number, part in enumerate(delivery.split(days)):
        batch_id = f"batch {number}"
        batches.append((batch_id, [file for day in part for file in day.iterdir() if file.name[0] not in "._"]))
        given_input = f"run.input={folder}/{{{','.join(day.name for day in part)}}}"
        given_batch = (f"run.batch_id={batch_id}", given_input, f"late.max_days={delivery.late_days}")
        told[batch_id] = shop.run("ingest", f"source={source}", *given_batch)["rows"]
        assert shop.run("sessionize", f"source={source}")["exit_code"] == 0
    raw = replace(GENERATED, gap=GAPS[knobs["gap"]])
    return DuckLog(raw, batches, delivery.late_days), told


@given(knobs=KNOBS, delivery=DELIVERIES)
@example(knobs=ALL_AT_ONCE, delivery=Delivery(seed=1, batches=3, late_days=1, retold=40))
# The same examples wherever it runs. What is found is told as drawn: shrinking it would take minutes.
@settings(
    max_examples=2,
    derandomize=True,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_the_log_is_what_sql_makes_of_the_same_files(spark, tmp_path_factory, capsys, knobs, delivery):
    shop = Shop(spark, tmp_path_factory.mktemp("shop"), capsys.readouterr)
    oracle, told = take(shop, knobs, delivery)
    assert told == oracle.counts()
    found = oracle.compare(shop.root / "warehouse")
    assert {table: difference for table, difference in found.items() if not difference["equal"]} == {}

"""The generator's knobs: what follows from them, and what they refuse."""

import pytest

from behavior_lib.config.generator import GeneratorConfig, truth
from behavior_lib.errors import ConfigError


def test_the_counts_are_exact_at_any_size():
    counts = GeneratorConfig(events=1_000_000_000, heavy_user=10_000_000, heavy_item=0.5).counts
    assert (counts.rows, counts.events, counts.duplicates, counts.bad) == (10**9, 945_000_000, 50_000_000, 5_000_000)
    assert (counts.late, counts.heavy_user, counts.heavy_item) == (9_450_000, 10_000_000, 472_500_000)
    assert counts.bad_kinds == dict.fromkeys(("time", "customer", "price", "action", "torn"), 1_000_000)


def test_bad_rows_are_bad_in_turn():
    counts = GeneratorConfig(events=7, bad=0.5, duplicates=0).counts
    assert (counts.events, counts.bad) == (3, 4)
    assert counts.bad_kinds == {"time": 1, "customer": 1, "price": 1, "action": 1, "torn": 0}


def test_a_share_and_a_number_of_the_heavy_user():
    assert GeneratorConfig(events=1000, heavy_user=0.3).counts.heavy_user == 284
    assert GeneratorConfig(events=1000, heavy_user=300).counts.heavy_user == 300
    assert truth(GeneratorConfig(events=1000))["counts"]["events"] == 945


@pytest.mark.parametrize(
    ("knobs", "told"),
    [
        ({"events": 0}, "events is out of range in the generator's knobs: 0; write a number from 1 to 2000000000"),
        ({"format": "xml"}, "format is out of range in the generator's knobs: 'xml'; one of json, parquet"),
        ({"late": 1.5}, "late is out of range in the generator's knobs: 1.5; write a share from 0 to 1"),
        ({"bad": 1, "duplicates": 0}, "duplicates + bad is out of range in the generator's knobs: 1; at most 0.5"),
        ({"pauses": 1}, "boundaries + midnights + pauses is out of range in the generator's knobs: 1.05; at most 1"),
        ({"days": 0}, "days is out of range in the generator's knobs: 0; write a number from 1"),
        ({"user_exponent": -1}, "user_exponent is out of range in the generator's knobs: -1; write a number from 0"),
        ({"gap": "30s"}, "gap is out of range in the generator's knobs: '30s'; write at least 1m"),
        ({"start": "May"}, "start is out of range in the generator's knobs: 'May'; write a day such as 2024-01-01"),
        ({"huge_session": 96}, "heavy_user + huge_session is out of range in the generator's knobs: 96; write fewer"),
    ],
)  # fmt: skip
def test_what_is_out_of_range_is_refused(knobs, told):
    with pytest.raises(ConfigError) as refused:
        GeneratorConfig(**{"events": 100, **knobs})
    assert str(refused.value) == told

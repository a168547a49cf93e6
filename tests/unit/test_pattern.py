"""Which named groups a Java pattern has, counted as Java counts."""

import pytest

from behavior_lib.config.pattern import named_groups


@pytest.mark.parametrize(
    ("pattern", "groups"),
    [
        (r"(?<a>x) (?<b>y)", {"a": 1, "b": 2}),
        (r"(x)(?<a>(?:y)(z))(?<b>.)", {"a": 2, "b": 4}),
        (r"(?<=x)(?<!y)(?=z)(?!z)(?i)(?>z)(?<a>.)", {"a": 1}),
        (r"\((?<a>\(x)\\(?<b>.)", {"a": 1, "b": 2}),
        (r"[(](?<a>[^)(\](]+[])(]x)(?<b>[a&&[^(]])", {"a": 1, "b": 2}),
        (r"\Q(?<no>\E(?<a>.)", {"a": 1}),
        (r"(x) \(?<no>", {}),
    ],
)
def test_named_groups_have_their_numbers(pattern: str, groups: dict[str, int]):
    assert named_groups(pattern) == groups

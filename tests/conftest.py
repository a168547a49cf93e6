"""What every test may ask for. One Spark session a process: starting one takes seconds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.jobs import INTERPRETED

DATA = Path(__file__).parent / "data"
# The long ones of e2e before the many of middle length, so that no worker waits for a long one in the end.
FILES_OF_TESTS = ("unit", "contracts", "train", "e2e", "spark", "jobs", "distributed")

# Nothing that a test does may depend on where the machine stands.
os.environ["TZ"] = "UTC"


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Models as small as those of the tests lose more to several threads than they win."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def spark() -> Iterator[object]:
    from behavior_lib.config.loader import load
    from behavior_lib.spark.session import start_session

    # Most jobs in processes of their own compile their plans.
    session = start_session("tests", load("test", overrides=[*_paths(Path("unused")), *INTERPRETED]).config.spark)
    yield session
    session.stop()


@pytest.fixture
def tables(spark: object, tmp_path: Path) -> object:
    from behavior_lib.spark.tables import Tables

    return Tables(spark, str(tmp_path / "warehouse"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=8, help="how many runs tests/e2e/test_kills.py kills")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Cheap layers first: what is broken at the bottom is told at once. Then the long ones."""
    items.sort(key=_layer)


def _layer(item: pytest.Item) -> int:
    parts = Path(str(item.fspath)).relative_to(Path(__file__).parent).parts
    return FILES_OF_TESTS.index(parts[0]) if parts[0] in FILES_OF_TESTS else len(FILES_OF_TESTS)


def _paths(root: Path) -> list[str]:
    return [f"paths.{name}={root / name}" for name in ("raw", "warehouse", "var")]

"""The notebooks: stored without outputs, and run as they are on real purchases."""

import gzip
import shutil
from pathlib import Path

import nbformat
import papermill
import pytest

from tests.conftest import DATA

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
DAYS = ("2017-10-30", "2017-10-31", "2017-11-01", "2017-12-01")


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw") / "complete_journey"
    for day in DAYS:
        shutil.copytree(DATA / "complete_journey" / "transactions" / day, folder / "transactions" / day)
    shutil.copy(DATA / "complete_journey" / "products.csv", folder)
    return folder.parent


@pytest.fixture(scope="module")
def told(raw, tmp_path_factory):
    """The text of every output of the notebook, run once, with single spaces."""
    out = tmp_path_factory.mktemp("out")
    places = {"raw": raw, "warehouse": out / "warehouse", "var": out / "var"}
    settings = [f"paths.{name}={place}" for name, place in places.items()]
    executed = papermill.execute_notebook(
        ROOT / "notebooks" / "01_explore.ipynb",
        out / "executed.ipynb",
        parameters={"env": "test", "settings": settings},
        cwd=ROOT,
        progress_bar=False,
    )
    outputs = [output for cell in executed.cells if cell.cell_type == "code" for output in cell.outputs]
    texts = (output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs)
    return " ".join(" ".join(texts).split())


def lines(raw):
    return sum(gzip.decompress(path.read_bytes()).count(b"\n") for path in raw.rglob("*.gz"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_outputs_are_stripped(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.outputs for cell in code] == [[]] * len(code)
    assert [cell.execution_count for cell in code] == [None] * len(code)


@pytest.mark.spark
def test_the_jobs_that_it_calls_do_their_work(told, raw):
    for job in ("ingest", "sessionize", "build_sequences"):
        assert f"'job': '{job}', 'status': 'succeeded'" in told
    assert f"'read': {lines(raw)}, 'accepted': {lines(raw)}" in told


@pytest.mark.spark
def test_it_shows_what_the_tables_hold(told, raw):
    assert (lines(raw), f"purchase {lines(raw)} 15 266.58 2017-10-30 15:12:45 2017-12-01" in told) == (86, True)
    assert "1126899 Fluid Milk White Only, 1 ga 2" in told
    assert "user 1712 with 4 events before 2017-12-01 00:00:00" in told

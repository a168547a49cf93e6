"""What `pip install` brings: the library with its jobs, its configuration and its command, and no other name."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NO_CODE = shutil.ignore_patterns("__pycache__", "*.egg-info")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for folder in ("behavior_lib", "jobs", "conf"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=NO_CODE)
    for name in ("setup.py", "pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(out), str(tree)], check=True, timeout=240)
    return zipfile.ZipFile(next(out.glob("behavior_lib-*.whl")))


def test_jobs_and_configuration_lie_inside_the_package(wheel):
    packed = set(wheel.namelist())
    for folder, kind in (("jobs", "*.py"), ("conf", "*.*")):
        expected = {f"behavior_lib/{path.relative_to(ROOT)}" for path in (ROOT / folder).rglob(kind)}
        assert expected - packed == set()
    assert {name.split("/")[0] for name in packed} == {"behavior_lib", "behavior_lib-0.1.0.dist-info"}


def test_all_modules_and_the_files_beside_them_are_packed(wheel):
    library = ROOT / "behavior_lib"
    expected = {str(path.relative_to(ROOT)) for path in library.rglob("*") if path.is_file()}
    expected = {name for name in expected if "__pycache__" not in name}
    assert expected - set(wheel.namelist()) == set()


def test_the_command_is_there(wheel):
    text = wheel.read("behavior_lib-0.1.0.dist-info/entry_points.txt").decode()
    assert text.split() == ["[console_scripts]", "behavior", "=", "behavior_lib.cli:main"]

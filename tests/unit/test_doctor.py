"""The doctor's checks on made-up machines: what each says, and that none ever raises."""

import json
import os
import select
import sys
from pathlib import Path

import pytest

from behavior_lib.doctor import machine
from behavior_lib.doctor import main as doctor
from behavior_lib.doctor.checks import Check, Finding, examine
from behavior_lib.doctor.java import Java, require_java
from behavior_lib.doctor.processes import run_probe
from behavior_lib.errors import EnvironmentProblem

GIB = 1024**3


def java_that_says(home: Path, version: str) -> Path:
    command = home / "bin" / "java"
    command.parent.mkdir(parents=True)
    command.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025-04-15' >&2\n")
    command.chmod(0o755)
    return home


def java_path(home: Path) -> str:
    return f"{home / 'bin'}:/usr/bin:/bin"


def test_java_of_java_home_wins(tmp_path):
    home = java_that_says(tmp_path / "jdk", "17.0.15")
    other = java_that_says(tmp_path / "other", "21.0.2")
    assert require_java({"JAVA_HOME": str(home), "PATH": java_path(other)}, tmp_path) == Java(home, 17)


def test_an_installed_java_stands_in_for_a_wrong_one_on_the_path(tmp_path):
    wrong = java_that_says(tmp_path / "wrong", "25.0.1")
    right = java_that_says(tmp_path / "jvm" / "java-17-openjdk-amd64", "17.0.15")
    assert require_java({"PATH": java_path(wrong)}, tmp_path / "jvm") == Java(right, 17)


@pytest.mark.parametrize(("version", "major"), [("11.0.2", 11), ("1.8.0_292", 8), ("25", 25)])
def test_a_wrong_java_home_is_named_with_the_mend(tmp_path, version, major):
    home = java_that_says(tmp_path / "jdk", version)
    java_that_says(tmp_path / "jvm" / "java-17-openjdk", "17.0.15")
    with pytest.raises(EnvironmentProblem) as raised:
        require_java({"JAVA_HOME": str(home)}, tmp_path / "jvm")
    assert str(raised.value) == (
        f"JAVA_HOME names Java {major}, Spark needs Java 17 or 21: '{home}'; "
        "type `unset JAVA_HOME; sudo apt-get install -y openjdk-17-jre-headless`"
    )


def test_a_java_home_without_java_is_named(tmp_path):
    with pytest.raises(EnvironmentProblem, match="JAVA_HOME holds no Java that runs: '/nowhere'"):
        require_java({"JAVA_HOME": "/nowhere"}, tmp_path)


def test_a_wrong_java_on_the_path_and_none_installed(tmp_path):
    wrong = java_that_says(tmp_path / "wrong", "11.0.2")
    with pytest.raises(EnvironmentProblem) as raised:
        require_java({"PATH": java_path(wrong)}, tmp_path / "none")
    assert str(raised.value) == (
        f"`java` is Java 11, Spark needs Java 17 or 21 in {wrong}; "
        "type `sudo apt-get install -y openjdk-17-jre-headless`"
    )


def test_no_java_at_all(tmp_path):
    with pytest.raises(EnvironmentProblem) as raised:
        require_java({"PATH": str(tmp_path)}, tmp_path)
    assert str(raised.value) == (
        "no Java is found, Spark needs Java 17 or 21; type `sudo apt-get install -y openjdk-17-jre-headless`"
    )


def test_another_python_is_refused():
    with pytest.raises(EnvironmentProblem, match=r"Python 3\.11 is needed in .*: '3\.12\.1'; install python3\.11"):
        machine.look_at_python((3, 12, 1))


def memory(folder: Path, total: int, available: int, **control_group: str) -> tuple[Path, Path]:
    meminfo = folder / "meminfo"
    lines = {"MemTotal": total, "MemFree": 1, "MemAvailable": available}
    meminfo.write_text("".join(f"{key}:  {gib * GIB // 1024} kB\n" for key, gib in lines.items()))
    for name, text in control_group.items():
        (folder / f"memory.{name}").write_text(text)
    return meminfo, folder


def test_memory_of_the_machine(tmp_path):
    assert machine.look_at_memory(*memory(tmp_path, 16, 12)) == "12.0 GiB available of 16.0"


def test_an_unlimited_container_has_the_memory_of_its_machine(tmp_path):
    assert machine.look_at_memory(*memory(tmp_path, 16, 12, max="max\n", current="1")) == "12.0 GiB available of 16.0"


def test_the_limit_of_a_container_counts(tmp_path):
    limited = memory(tmp_path, 64, 60, max=str(8 * GIB), current=str(2 * GIB))
    assert machine.look_at_memory(*limited) == "6.0 GiB available of 8.0"
    # Half of what it uses is files that were read once.
    (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {GIB}\n")
    assert machine.look_at_memory(*limited) == "7.0 GiB available of 8.0"


def test_too_little_memory(tmp_path):
    with pytest.raises(EnvironmentProblem) as raised:
        machine.look_at_memory(*memory(tmp_path, 8, 4))
    assert str(raised.value) == (
        "4.0 GiB available of 8.0, 5 GiB are needed; "
        "end other programs, or add `--set spark.driver_memory=1g --set train.workers=1`"
    )


def test_a_folder_yet_to_be_made_counts_as_its_parent(tmp_path, monkeypatch):
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: _Usage(7 * GIB))
    said = machine.look_at_disk({"tables and models": tmp_path / "var" / "warehouse"})
    assert said == f"7 GiB free for tables and models ({tmp_path})"


def test_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: _Usage(GIB))
    with pytest.raises(EnvironmentProblem) as raised:
        machine.look_at_disk({"temporary files": tmp_path})
    assert str(raised.value) == (
        f"1.0 GiB are free for temporary files, 5 are needed in {tmp_path}; "
        "free some, or choose another folder with TMPDIR=…"
    )


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    def refuse(**_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(machine.tempfile, "TemporaryFile", refuse)
    with pytest.raises(EnvironmentProblem) as raised:
        machine.look_at_disk({"tables and models": tmp_path / "var"})
    assert str(raised.value) == (
        f"the folder for tables and models cannot be written in {tmp_path}: 'Read-only file system'; "
        "change its rights or choose another with `--set paths.var=…`"
    )


class _Usage:
    def __init__(self, free: int) -> None:
        self.free = free


def installed(folder: Path, name: str, version: str, *requires: str) -> None:
    metadata = folder / f"{name}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    metadata.write_text("\n".join([*lines, *(f"Requires-Dist: {each}" for each in requires)]) + "\n")


def test_packages_outside_their_ranges_are_all_named(tmp_path, monkeypatch):
    installed(
        tmp_path, "shopper", "1.0", "basket-a>=2,<3", "basket-b==1.5", "basket-c>=1", 'basket-d>=9; extra == "dev"'
    )
    installed(tmp_path, "basket_a", "2.5")
    installed(tmp_path, "basket_b", "1.6")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(EnvironmentProblem) as raised:
        machine.look_at_packages("shopper")
    assert str(raised.value) == (
        "basket-b is 1.6 (==1.5 is needed), basket-c is missing (>=1 is needed); "
        "type `pip install --constraint constraints.txt --editable .`"
    )


def test_packages_within_their_ranges(tmp_path, monkeypatch):
    installed(tmp_path, "shopper", "1.0", "basket-a>=2,<3")
    installed(tmp_path, "basket_a", "2.5")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert machine.look_at_packages("shopper") == "1 packages within their ranges"


def test_a_project_that_is_not_installed():
    with pytest.raises(EnvironmentProblem) as raised:
        machine.look_at_packages("no-such-project")
    assert str(raised.value) == "no-such-project itself is not installed; type `make setup` or `pip install .`"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_probe_answers_with_its_last_line():
    assert run_probe(python("print('first'); print('[1,0]<stdout>:all is well'); print()"), "x", 60) == "all is well"


def test_a_failing_probe_tells_its_error_and_not_its_stack():
    with pytest.raises(EnvironmentProblem) as raised:
        run_probe(python("import no_such_library"), "type `make setup`", 60)
    assert str(raised.value) == "ModuleNotFoundError: No module named 'no_such_library'; type `make setup`"


def test_a_silent_failure_tells_its_code():
    with pytest.raises(EnvironmentProblem, match=r"^ended with code 7; mend it$"):
        run_probe(["sh", "-c", "exit 7"], "mend it", 60)


def test_a_hanging_probe_is_ended_with_all_it_started(tmp_path):
    pid_file = tmp_path / "pid"
    with pytest.raises(
        EnvironmentProblem, match=r"^no answer within 1 s; try once the machine is less busy, or mend it$"
    ):
        run_probe(["sh", "-c", f"sleep 600 & echo $! > {pid_file}; wait"], "mend it", 1)
    assert ends_within(int(pid_file.read_text()), seconds=10)


def ends_within(pid: int, seconds: float) -> bool:
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    ended, _, _ = select.select([process], [], [], seconds)
    os.close(process)
    return bool(ended)


def test_a_probe_does_not_take_its_parents_java_for_its_own(monkeypatch):
    monkeypatch.setenv("PYSPARK_GATEWAY_PORT", "1")
    assert run_probe(["sh", "-c", "echo port=$PYSPARK_GATEWAY_PORT"], "x", 60) == "port="


def broken(error: Exception) -> Check:
    def look() -> str:
        raise error

    return Check("broken", look, "mend it")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (EnvironmentProblem("no disk", mend="buy one"), "no disk; buy one"),
        (ValueError("first line\nsecond line"), "ValueError: first line; mend it"),
        (KeyError(), "KeyError; mend it"),
    ],
)
def test_whatever_a_check_raises_becomes_a_sentence(error, sentence):
    finding = examine(broken(error))
    assert (finding.ok, finding.sentence) == (False, sentence)


CHECKS = [Check("first", lambda: "1.0", "x"), broken(ValueError("odd"))]


@pytest.fixture
def small_doctor(monkeypatch):
    monkeypatch.setattr(doctor, "list_checks", lambda env, changes: CHECKS)


@pytest.mark.usefixtures("small_doctor")
def test_one_line_a_check_and_one_object_at_the_end(capsys):
    assert doctor.main([]) == 1
    out, err = capsys.readouterr()
    assert err == "ok    first          1.0\nFAIL  broken         ValueError: odd; mend it\n"
    told = json.loads(out)
    assert out.count("\n") == 1
    assert [told[key] for key in ("job", "status", "rows", "tables", "metrics")] == ["doctor", "failed", {}, {}, {}]
    assert [(check["name"], check["ok"]) for check in told["checks"]] == [("first", True), ("broken", False)]
    assert sorted(told) == ["checks", "job", "metrics", "rows", "run_id", "seconds", "status", "tables"]


@pytest.mark.usefixtures("small_doctor")
def test_json_alone(capsys):
    assert doctor.main(["--json", "--env", "local", "--set", "seed=1"]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out)["checks"][1]["sentence"] == "ValueError: odd; mend it"


def test_all_is_well(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "list_checks", lambda env, changes: CHECKS[:1])
    assert doctor.main([]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "succeeded"


def test_an_unknown_argument_ends_with_two(capsys):
    assert doctor.main(["--fast"]) == 2
    assert capsys.readouterr().err == "error: unrecognized arguments: --fast; see behavior doctor --help\n"


def test_without_rich_the_lines_are_plain(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    doctor.show(Finding("java", True, "17", 0.1))
    assert capsys.readouterr().err == "ok    java           17\n"

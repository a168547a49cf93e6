"""Set-up walked through with a stand-in for the Python interpreter: its stages, its sentences, and what it leaves."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import configure_spark  # noqa: E402

# Says yes to whatever set-up asks a Python, and notes what was asked. FAIL names the call that goes wrong.
PYTHON = """#!/bin/bash
printf '%s\\n' "$*" >>"$CALLS"
if [[ -n ${FAIL:-} && "$*" == *"$FAIL"* ]]; then echo "$FAIL went wrong"; exit 1; fi
case "$*" in
    *'-m venv '*) mkdir -p "${@: -1}/bin" && cp "$0" "${@: -1}/bin/python" ;;
    *horovod.size*) echo 1 ;;
    *'pip cache dir'*) echo "$CACHE" ;;
    *doctor.java*) echo /usr/lib/jvm/java-17 ;;
    *'pip wheel'*) echo '  [ 40%] Building CXX object'; echo '  [100%] Built target' ;;
esac
"""


class Checkout:
    """A copy of what set-up reads, with stand-ins for the programs that it runs."""

    def __init__(self, folder: Path) -> None:
        self.root, self.programs = folder / "project", folder / "programs"
        self.calls = folder / "calls"
        self.calls.touch()
        self.programs.mkdir()
        (self.root / "behavior_lib" / "spark").mkdir(parents=True)
        shutil.copytree(ROOT / "scripts", self.root / "scripts")
        for name in ("constraints.txt", "setup.py", "behavior_lib/spark/jars.py"):
            shutil.copy(ROOT / name, self.root / name)
        self.program("python3.11", PYTHON)
        self.program("g++", "#!/bin/sh\n")
        self.free_disk(100)

    def program(self, name: str, text: str) -> None:
        (self.programs / name).write_text(text)
        (self.programs / name).chmod(0o755)

    def free_disk(self, gib: int) -> None:
        self.program("df", f"#!/bin/sh\necho Avail\necho ' {gib}'\n")

    def set_up(self, **environ: str) -> tuple[int, list[str]]:
        """The exit code, and what was said."""
        path = f"{self.programs}:{os.environ['PATH']}"
        base = {"PATH": path, "HOME": str(self.root), "CALLS": str(self.calls), "CACHE": str(self.root / "cache")}
        command = [str(self.root / "scripts" / "setup.sh")]
        done = subprocess.run(command, env={**base, **environ}, capture_output=True, text=True, timeout=60)
        assert done.stdout == ""
        return done.returncode, [line.removeprefix("setup: ") for line in done.stderr.splitlines()]

    def new_calls(self) -> list[str]:
        calls = self.calls.read_text().splitlines()
        self.calls.write_text("")
        return calls

    @property
    def environment(self) -> Path:
        return self.root / ".venv"

    def stamps(self) -> list[str]:
        return sorted(path.name for path in (self.environment / "stamps").iterdir())


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_a_second_set_up_only_compares(checkout):
    code, said = checkout.set_up()
    assert code == 0
    assert said[-1].startswith("done in ")
    assert "  compiled 40 %" in said
    assert checkout.stamps() == ["horovod", "packages", "spark"]
    assert sorted(path.name for path in checkout.environment.iterdir()) == ["bin", "stamps"]
    checkout.new_calls()
    assert checkout.set_up() == (0, [])
    assert checkout.new_calls() == ["-c pass"]


def test_packages_that_do_not_install_leave_nothing(checkout):
    code, said = checkout.set_up(FAIL="pip install --constraint")
    assert code == 1
    assert said[-2:] == [
        "pip could not install the packages: look at the end of .setup.log, check the network, run 'make setup' again",
        "removed the unfinished .venv; what happened stands in .setup.log",
    ]
    assert not checkout.environment.exists()
    assert (checkout.root / ".setup.log").read_text().splitlines()[-1] == "pip install --constraint went wrong"
    assert checkout.set_up()[0] == 0


def test_horovod_that_does_not_build_says_how_to_go_on(checkout):
    code, said = checkout.set_up(FAIL="pip wheel")
    assert code == 1
    assert said[-1] == (
        "Horovod 0.28.1 does not build here, the reason stands at the end of .setup.log: type 'sudo apt-get install -y "
        "g++ make python3.11-dev' and run 'make setup' again, or go on under torch.distributed: "
        "'make setup HOROVOD=no', then add '--set train.communicator=torch' to each job"
    )
    assert checkout.stamps() == ["packages", "spark"]
    assert not (checkout.environment / "tmp").exists()
    checkout.new_calls()
    code, said = checkout.set_up(HOROVOD="no")
    assert (code, said[0]) == (0, "Horovod is left out: training runs with '--set train.communicator=torch'")
    assert [call for call in checkout.new_calls() if "pip install" in call or "pip wheel" in call] == []


def test_horovod_that_builds_but_does_not_start_is_taken_out(checkout):
    code, said = checkout.set_up(FAIL="horovod.size")
    assert code == 1
    assert said[-1].startswith("Horovod 0.28.1 built but does not start, see the end of .setup.log")
    assert any("pip uninstall --yes horovod" in call for call in checkout.new_calls())
    assert checkout.stamps() == ["packages", "spark"]


def test_the_next_set_up_clears_what_a_killed_one_left(checkout):
    checkout.set_up()
    (checkout.environment / "changing").touch()
    code, said = checkout.set_up()
    assert (code, said[0]) == (0, "removing a .venv that an interrupted set-up left")
    assert checkout.stamps() == ["horovod", "packages", "spark"]
    assert not (checkout.environment / "changing").exists()


def test_an_environment_whose_python_is_gone_is_made_anew(checkout):
    checkout.set_up()
    (checkout.environment / "bin" / "python").unlink()
    assert checkout.set_up()[0] == 0
    assert (checkout.environment / "bin" / "python").exists()


def test_new_versions_are_installed_into_the_environment_that_is_there(checkout):
    checkout.set_up()
    checkout.new_calls()
    with (checkout.root / "constraints.txt").open("a") as file:
        file.write("basket==1.0\n")
    assert checkout.set_up()[0] == 0
    calls = checkout.new_calls()
    assert sum("pip install --constraint" in call for call in calls) == 1
    assert [call for call in calls if "venv" in call and "-m venv" in call] == []


def test_an_environment_of_someone_else_is_left_alone(checkout):
    (checkout.environment / "bin").mkdir(parents=True)
    code, said = checkout.set_up()
    assert (code, said) == (
        1,
        [f"{checkout.environment} was not made by this set-up: move it away, then run 'make setup' again"],
    )
    assert (checkout.environment / "bin").is_dir()


def test_a_wrong_python_gets_one_sentence(checkout):
    assert checkout.set_up(PYTHON="/bin/false") == (
        1,
        ["PYTHON=/bin/false is not a whole Python 3.11: name one that is, or unset PYTHON"],
    )
    assert not checkout.environment.exists()


def test_too_little_disk_gets_one_sentence(checkout):
    checkout.free_disk(3)
    code, said = checkout.set_up()
    assert code == 1
    assert said == [f"{checkout.root} has 3 GiB of free disk, set-up needs 9: free some, or clone elsewhere"]


def test_jars_that_do_not_come_leave_the_packages(checkout):
    code, said = checkout.set_up(FAIL="configure_spark.py")
    assert code == 1
    assert said[-1] == (
        "Delta's jars did not come (configure_spark.py went wrong): check the network, or name a mirror of Maven "
        "Central with MAVEN_REPOSITORY=https://…, then run 'make setup' again"
    )
    assert checkout.stamps() == ["packages"]


COORDINATE = "io.shop:basket:1.0"


def repository(folder: Path, content: bytes) -> str:
    jar = folder / "io" / "shop" / "basket" / "1.0" / "basket-1.0.jar"
    jar.parent.mkdir(parents=True)
    jar.write_bytes(content)
    return folder.as_uri()


def test_jars_are_fetched_whole(tmp_path):
    address = repository(tmp_path / "mirror", b"classes")
    wanted = {COORDINATE: hashlib.sha256(b"classes").hexdigest()}
    configure_spark.fetch_jars(wanted, address, tmp_path / "jars" / "delta")
    assert (tmp_path / "jars" / "delta" / "basket-1.0.jar").read_bytes() == b"classes"
    assert [path.name for path in (tmp_path / "jars").iterdir()] == ["delta"]


def test_a_jar_that_is_another_is_refused(tmp_path):
    address = repository(tmp_path / "mirror", b"something else")
    wanted = {COORDINATE: hashlib.sha256(b"classes").hexdigest()}
    with pytest.raises(SystemExit, match=r"^basket-1\.0\.jar from file:.* is not the file that delta_jars\.txt names$"):
        configure_spark.fetch_jars(wanted, address, tmp_path / "jars" / "delta")
    assert list((tmp_path / "jars").iterdir()) == []


def test_a_jar_that_is_not_there_gets_one_sentence(tmp_path):
    with pytest.raises(SystemExit, match=r"^file:.*/basket-1\.0\.jar cannot be fetched: "):
        configure_spark.fetch_jars({COORDINATE: ""}, tmp_path.as_uri(), tmp_path / "jars" / "delta")


def test_the_list_of_jars_holds_the_coordinate_that_sessions_resolve():
    from behavior_lib.spark.jars import DELTA_COORDINATE

    wanted = configure_spark.read_list(configure_spark.LIST)
    assert DELTA_COORDINATE in wanted
    assert len(wanted) == 7
    assert {len(digest) for digest in wanted.values()} == {64}


def test_spark_is_told_of_the_jars_and_of_java(tmp_path):
    jars = tmp_path / "jars"
    jars.mkdir()
    for name in ("b.jar", "a.jar"):
        (jars / name).touch()
    configure_spark.write_conf(tmp_path / "conf", "/usr/lib/jvm/java 17", jars)
    assert (tmp_path / "conf" / "spark-defaults.conf").read_text() == f"spark.jars {jars}/a.jar,{jars}/b.jar\n"
    script = f". {tmp_path}/conf/spark-env.sh; echo $JAVA_HOME"
    for given, used in (("", "/usr/lib/jvm/java 17"), ("/opt/java", "/opt/java")):
        answer = subprocess.run(["sh", "-c", script], env={"JAVA_HOME": given}, capture_output=True, text=True)
        assert answer.stdout == f"{used}\n"

"""Fetch Delta's jars into this Python environment and tell pip's Spark of them and of its Java.

Called by set-up as `python scripts/configure_spark.py JAVA_HOME`. Afterwards sessions and spark-submit alike need no
network. MAVEN_REPOSITORY names a mirror of Maven Central where there is one.
"""

import hashlib
import importlib.util
import os
import shlex
import shutil
import sys
import tempfile
import urllib.request
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from behavior_lib.spark.jars import default_jars_dir

LIST = Path(__file__).with_name("delta_jars.txt")
MAVEN_CENTRAL = "https://repo1.maven.org/maven2"
TRIES = 3


def main(java_home: str) -> None:
    fetch_jars(read_list(LIST), os.environ.get("MAVEN_REPOSITORY", MAVEN_CENTRAL), default_jars_dir())
    write_conf(find_spark_home() / "conf", java_home, default_jars_dir())


def read_list(path: Path) -> dict[str, str]:
    """Maven coordinate to SHA-256, one jar a line."""
    lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return {coordinate: digest for digest, coordinate in lines}


def fetch_jars(wanted: Mapping[str, str], repository: str, target: Path) -> None:
    """Fill the folder in one move, so that it is either absent or whole. Ends the program where a jar is not right."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        fetched = Path(scratch, "jars")
        fetched.mkdir()
        for coordinate, digest in wanted.items():
            group, artifact, version = coordinate.split(":")
            name = f"{artifact}-{version}.jar"
            content = download(f"{repository}/{group.replace('.', '/')}/{artifact}/{version}/{name}")
            if hashlib.sha256(content).hexdigest() != digest:
                sys.exit(f"{name} from {repository} is not the file that {LIST.name} names")
            (fetched / name).write_bytes(content)
        shutil.rmtree(target, ignore_errors=True)
        fetched.rename(target)


def download(address: str) -> bytes:
    """The content at an address. Ends the program with one sentence where three tries fail."""
    reason = ""
    for _ in range(TRIES):
        try:
            with urllib.request.urlopen(address, timeout=60) as answer:
                return bytes(answer.read())
        except OSError as error:
            reason = str(error)
    sys.exit(f"{address} cannot be fetched: {reason}")


def find_spark_home() -> Path:
    """The folder of pip's pyspark, whatever SPARK_HOME says."""
    found = importlib.util.find_spec("pyspark")
    if found is None or found.origin is None:
        sys.exit("pyspark is not installed in " + sys.prefix)
    return Path(found.origin).parent


def write_conf(conf: Path, java_home: str, jars_dir: Path) -> None:
    """Spark reads both files from the conf folder beside its jars, however it is started."""
    conf.mkdir(exist_ok=True)
    jars = ",".join(str(jar) for jar in sorted(jars_dir.glob("*.jar")))
    (conf / "spark-defaults.conf").write_text(f"spark.jars {jars}\n", encoding="utf-8")
    default_java = f'if [ -z "${{JAVA_HOME:-}}" ]; then export JAVA_HOME={shlex.quote(java_home)}; fi\n'
    (conf / "spark-env.sh").write_text(default_java, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])

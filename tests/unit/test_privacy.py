"""Keys, ids to forget and the search for what is left of them, without Spark."""

import hashlib
import hmac
import json
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behavior_lib.config import load
from behavior_lib.config.schema import PrivacyConfig
from behavior_lib.errors import BehaviorError, ConfigError, DataRefused
from behavior_lib.privacy.ids import read_ids
from behavior_lib.privacy.keys import Keyring
from behavior_lib.privacy.needles import Needles
from behavior_lib.privacy.scan import hits_in, scan

SECRET = "correct horse battery staple, and more"


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Keyring:
    monkeypatch.setenv("KEY_ONE", SECRET)
    (tmp_path / "two").write_bytes(b"x" * 40 + b"\n")
    return Keyring.read(PrivacyConfig(True, {"v10": f"file:{tmp_path}/two", "v9": "env:KEY_ONE"}))


def test_keys_come_from_variables_and_files_and_the_highest_version_is_the_newest(ring: Keyring):
    assert list(ring.keys) == ["v9", "v10"]
    assert (ring.newest.version, ring.newest.secret) == ("v10", b"x" * 40)
    expected = hmac.new(SECRET.encode(), "Zoë".encode(), hashlib.sha256).hexdigest()
    assert ring.keys["v9"].hash("Zoë") == f"v9:{expected}"


def test_a_key_stands_in_no_text_of_it(ring: Keyring):
    assert SECRET not in repr(ring)
    assert SECRET.encode().hex() not in repr(ring)
    assert ring.newest.fingerprint != ring.keys["v9"].fingerprint


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            ["privacy.pseudonymize=true"],
            "privacy.pseudonymize needs a key; set privacy.keys.v1 to env:NAME or file:PATH",
        ),
        (
            [f"privacy.keys.v1={SECRET}"],
            "not a place of a key in privacy.keys.v1; write env:NAME or file:PATH; the key itself does not belong into "
            "the configuration",
        ),
        ([f"privacy.keys={SECRET}"], "privacy.keys has a value of the wrong type in --set"),
        ([f"privacy.keys.{SECRET}=env:KEY"], "a key's version is not v1, v2, … in privacy.keys"),
        ([f"privacy.keys.v1=env:{SECRET}"], "not the name of an environment variable in privacy.keys.v1; write env:"),
        (["privacy.keys.v01=env:KEY"], "a key's version is not v1, v2, … in privacy.keys"),
        (
            ["privacy.pseudonymise=true"],
            "unknown key privacy.pseudonymise in --set; did you mean privacy.pseudonymize?",
        ),
    ],
)
def test_a_wrong_privacy_section_is_one_sentence_without_the_key(settings: list[str], sentence: str):
    with pytest.raises(ConfigError) as error:
        load("local", overrides=settings)
    assert str(error.value).startswith(sentence)
    assert SECRET not in str(error.value)


def test_the_printed_configuration_names_the_places_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KEY_ONE", SECRET)
    loaded = load("local", overrides=["privacy.keys.v1=env:KEY_ONE", "privacy.pseudonymize=true"])
    lines = [line for line in loaded.lines() if line.startswith("privacy")]
    assert lines == ["privacy.keys: {v1: 'env:KEY_ONE'}  # --set", "privacy.pseudonymize: true  # --set"]
    assert SECRET not in "\n".join(loaded.lines()) + repr(loaded.config)


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        (
            "env:NOWHERE",
            "an environment variable is not set in privacy.keys.v1: 'NOWHERE'; export NOWHERE",
        ),
        ("env:SHORT", "a key has fewer than 32 bytes in privacy.keys.v1: 31; make one with `openssl rand -hex 32`"),
        ("file:/nowhere/key", "a key file cannot be read in privacy.keys.v1: 'No such file or directory'"),
    ],
)
def test_a_key_that_cannot_be_had(place: str, sentence: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SHORT", "s" * 31)
    with pytest.raises(ConfigError) as error:
        Keyring.read(PrivacyConfig(True, {"v1": place}))
    assert str(error.value).startswith(sentence)


def test_ids_are_read_once_each_with_their_lines(tmp_path: Path):
    path = tmp_path / "ids.txt"
    path.write_bytes(b"\xef\xbb\xbf17850\r\n\n Zo\xc3\xab \n17850\n")
    assert read_ids(str(path)) == {"17850": 1, " Zoë ": 3}


@pytest.mark.parametrize(
    ("content", "code", "sentence"),
    [
        (b"", 3, "there is no id in {path}; write one id a line"),
        (b"\n  \n", 3, "there is no id in {path}; write one id a line"),
        (b"good\nbad\x00id\n", 3, "an id holds a control character in line 2 of {path}; write one id a line"),
        (b"x" * 1025, 3, "an id is longer than 1024 characters in line 1 of {path}: 1025"),
        (b"\xff\xfe1\x000\x00", 3, "the file of ids is not UTF-8 in {path}"),
        (None, 2, "no such file in {path}"),
    ],
)
def test_a_bad_file_of_ids_is_one_sentence_without_an_id(tmp_path: Path, content: bytes, code: int, sentence: str):
    path = tmp_path / "ids.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BehaviorError) as error:
        read_ids(str(path))
    assert (error.value.exit_code, str(error.value)) == (code, sentence.format(path=path))


def test_a_file_of_ids_must_be_named_and_be_a_file(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"^forget.ids has no value; name a file of user ids"):
        read_ids(None)
    for path in (str(tmp_path), "nul\x00"):
        with pytest.raises(ConfigError, match="^not a readable file in "):
            read_ids(path)


LONG, SHORT = 'user "1000"', "17850"


@pytest.mark.parametrize(
    ("text", "hits"),
    [
        (f"name: {LONG}.", 1),
        (json.dumps({"who": LONG}), 1),
        (f"x{LONG}", 0),  # the end of another word
        (json.dumps({"stats": json.dumps({"minValues": {"user_id": SHORT}})}), 1),
        (json.dumps({"user_id": SHORT, "size": 17850}), 1),
        (json.dumps({"item_id": SHORT}), 0),  # a stock code of the same digits
        (json.dumps({"user_id": "178501"}), 0),
    ],
)
def test_ids_are_found_in_bytes_and_in_texts_by_one_rule(text: str, hits: int):
    needles = Needles({LONG, SHORT})
    assert needles.in_bytes(text.encode()) == hits
    assert needles.in_texts(pa.array([None, text])) == hits


def test_compressed_columns_are_decoded_at_any_depth(tmp_path: Path):
    rows = pa.table(
        {
            "user_id": [SHORT, "1", SHORT],
            "item_id": [SHORT, None, "x"],
            "number": [17850, 2, 3],
            "attributes": pa.array([[("who", LONG)], [], None], pa.map_(pa.string(), pa.string())),
            "stats": [{"minValues": {"user_id": SHORT, "tags": [LONG, "a"]}}, None, None],
        }
    )
    path = tmp_path / "part.parquet"
    pq.write_table(rows, path, compression="zstd", write_statistics=False)
    needles = Needles({LONG, SHORT})
    # Two in user_id, one in the map, two in the struct; not the stock code and not the number.
    assert hits_in(path, needles) - needles.in_bytes(path.read_bytes()) == 5
    assert hits_in(path, Needles({"nobody at all"})) == 0


def test_a_scan_names_the_guilty_files_and_refuses_what_it_cannot_read(tmp_path: Path):
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "page.html").write_text(f"<b>{LONG}</b>")
    (tmp_path / "clean.json").write_text("{}")

    @contextmanager
    def fetch(path: str):
        yield Path(path)

    done: list[int] = []
    paths = sorted(str(path) for path in tmp_path.iterdir())
    proof = scan(paths, Needles({LONG}), fetch, done.append)
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert (proof.files, proof.bytes, proof.hits) == (3, size, 1)
    assert (proof.guilty, done) == ((str(tmp_path / "page.html"),), [1, 2, 3])
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataRefused, match="a file cannot be read in .*torn.parquet"):
        scan([str(tmp_path / "torn.parquet")], Needles({LONG}), fetch, done.append)

"""Keyed hashes in Spark against Python's hmac, and where a key may not stand."""

import base64
import hashlib
import hmac
import random

import pytest
from pyspark.sql import functions as F

from behavior_lib.config.schema import PrivacyConfig
from behavior_lib.errors import ConfigError, DataRefused
from behavior_lib.privacy.keys import Key, Keyring
from behavior_lib.spark.hidden import hidden_frame
from behavior_lib.spark.pseudonyms import KeyRegister, keyed_hash, with_keys
from behavior_lib.spark.schema import rows_frame
from behavior_lib.tables import INGEST_FILES, PSEUDONYM_KEYS

pytestmark = pytest.mark.spark

SECRET = b"0123456789abcdefghijklmnopqrstuv-secret"

# RFC 4231, the test cases for HMAC-SHA-256: key, data, digest. Case 5 is truncated to 128 bits.
RFC_4231 = [
    (b"\x0b" * 20, b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
    (
        b"Jefe",
        b"what do ya want for nothing?",
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    ),
    (b"\xaa" * 20, b"\xdd" * 50, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
    (
        bytes(range(1, 26)),
        b"\xcd" * 50,
        "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
    ),
    (b"\x0c" * 20, b"Test With Truncation", "a3b6167473100ee06e0c796c2955552b"),
    (
        b"\xaa" * 131,
        b"Test Using Larger Than Block-Size Key - Hash Key First",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
    ),
    (
        b"\xaa" * 131,
        b"This is a test using a larger than block-size key and a larger than block-size data. The key needs to be "
        b"hashed before being used by the HMAC algorithm.",
        "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
    ),
]


def digests(spark, secret: bytes, messages: list[bytes]) -> list[str]:
    """What Spark makes of some messages, in their order."""
    key = Key("v1", secret)
    rows = hidden_frame(spark, "place string, data binary", [(f"{n:03d}", text) for n, text in enumerate(messages)])
    hashed = with_keys(rows, [key]).select("place", keyed_hash(key, F.col("data")).alias("hash"))
    return [row["hash"].removeprefix("v1:") for row in hashed.orderBy("place").collect()]


@pytest.mark.parametrize(("secret", "data", "digest"), RFC_4231)
def test_the_vectors_of_rfc_4231(spark, secret: bytes, data: bytes, digest: str):
    assert digests(spark, secret, [data])[0].startswith(digest)


@pytest.mark.parametrize("length", [1, 63, 64, 65, 200])
def test_random_keys_shorter_and_longer_than_a_block(spark, length: int):
    draw = random.Random(length)
    secret = draw.randbytes(length)
    messages = [draw.randbytes(draw.randrange(0, 150)) for _ in range(40)]
    assert digests(spark, secret, messages) == [hmac.new(secret, text, hashlib.sha256).hexdigest() for text in messages]


def test_texts_are_hashed_as_utf_8_and_null_stays_null(spark):
    key = Key("v2", SECRET)
    rows = spark.sql("select * from values ('Zoë 🛒'), (null), ('') as t(user_id)")
    found = with_keys(rows, [key]).select("user_id", keyed_hash(key, F.lit("a\x1f"), F.col("user_id"))).collect()
    assert {row[0]: row[1] for row in found} == {
        "Zoë 🛒": key.hash("a\x1fZoë 🛒"),
        None: None,
        "": key.hash("a\x1f"),
    }


def test_neither_a_key_nor_an_id_stands_in_a_plan(spark, tmp_path):
    key = Key("v1", SECRET)
    ids = hidden_frame(spark, "user_id string", [("somebody known",)])
    rows = with_keys(ids.unionByName(spark.range(3).select(F.col("id").cast("string").alias("user_id"))), [key])
    hashed = rows.select(keyed_hash(key, F.col("user_id")).alias("hash")).groupBy("hash").count()
    hashed.write.parquet(str(tmp_path / "out"))
    folded = with_keys(ids, [key]).select(keyed_hash(key, F.col("user_id")))
    told = []
    for frame in (hashed, folded):
        frame.collect()
        execution = frame._jdf.queryExecution()
        told += [execution.toString(), execution.executedPlan().toJSON()]
        told += [plan.toJSON() for plan in (execution.logical(), execution.analyzed(), execution.optimizedPlan())]
        told += [execution.explainString(spark._jvm.org.apache.spark.sql.execution.ExplainMode.fromString(mode))
                 for mode in ("extended", "codegen", "formatted", "cost")]  # fmt: skip
    text = "\n".join(told)
    assert "LocalTableScan" in text
    for secret in (SECRET, *key.pads):
        for shown in (secret.decode("latin-1"), secret.hex(), secret.hex().upper(), base64.b64encode(secret).decode()):
            assert shown[:16] not in text
        assert ", ".join(str(byte) for byte in secret[:8]) not in text
    assert "somebody known" not in text


@pytest.fixture
def register(spark, tables):
    """register(pseudonymize, **keys) → the source's register; register.add(batch) as ingest does."""

    def make(pseudonymize=True, **secrets: bytes) -> KeyRegister:
        ring = Keyring({version: Key(version, secret) for version, secret in secrets.items()})
        config = PrivacyConfig(pseudonymize, dict.fromkeys(secrets, "env:UNUSED"))
        return KeyRegister(spark, tables, "shop", config, ring)

    return make


def accept(spark, tables, batch_id: str) -> None:
    row = {"source": "shop", "batch_id": batch_id, "batch_number": 1, "path": "p", "size_bytes": 1}
    frame = rows_frame(spark, INGEST_FILES, [{**row, "accepted_at": "2020-01-01T00:00:00Z"}])
    tables.append(INGEST_FILES, frame, writer=batch_id, number=1)


def test_a_batch_keeps_its_key_and_event_ids_keep_the_first_one(spark, tables, register):
    one, two = b"1" * 32, b"2" * 32
    first = register(v1=one)
    assert first.of("a").users.version == "v1"
    first.register("a", first.of("a"))
    accept(spark, tables, "a")
    later = register(v1=one, v2=two)
    assert [later.of(batch).users.version for batch in ("a", "b")] == ["v1", "v2"]
    assert later.of("b").events.version == "v1"
    later.register("b", later.of("b"))
    later.register("b", later.of("b"))
    stored = {row.batch_id: row.key_version for row in tables.read(PSEUDONYM_KEYS).collect()}
    assert stored == {"a": "v1", "b": "v2"}
    with pytest.raises(
        ConfigError, match=r"^batch [ab] of source shop needs key v[12] in privacy.keys; keep every key"
    ):
        register(v3=b"3" * 32).of("c")
    with pytest.raises(
        ConfigError, match=r"^key v1 is not the one that batch a was taken under in privacy.keys; restore"
    ):
        register(v1=two, v2=two).of("c")
    with pytest.raises(ConfigError, match=r"^user ids are pseudonyms in source shop; set privacy.pseudonymize=true$"):
        register(False).of("c")


def test_a_source_with_plain_ids_is_not_continued_with_pseudonyms(spark, tables, register):
    accept(spark, tables, "plain")
    with pytest.raises(DataRefused, match=r"^a batch has plain user ids in source shop: 'plain'; take the raw files"):
        register(v1=SECRET).of("next")
    assert register(False).of("next") is None
    assert not tables.exists(PSEUDONYM_KEYS)

"""HMAC-SHA-256 as a Spark expression, and which key a batch's pseudonyms are made under."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from behavior_lib.config.privacy import number
from behavior_lib.config.schema import PrivacyConfig
from behavior_lib.errors import ConfigError, DataRefused
from behavior_lib.privacy.keys import Key, Keyring
from behavior_lib.spark.hidden import hidden_frame
from behavior_lib.spark.schema import rows_frame
from behavior_lib.spark.tables import Tables
from behavior_lib.tables import INGEST_FILES as FILES
from behavior_lib.tables import PSEUDONYM_KEYS as KEYS


def with_keys(rows: DataFrame, keys: Iterable[Key]) -> DataFrame:
    """The rows with the pads of the keys beside each, for `keyed_hash`. Drop them before any shuffle: `columns_of`."""
    pads = {name: pad for key in keys for name, pad in zip(_pad_names(key), key.pads, strict=True)}
    ddl = ", ".join(f"{name} binary" for name in pads)
    return rows.crossJoin(F.broadcast(hidden_frame(rows.sparkSession, ddl, [list(pads.values())])))


def keyed_hash(key: Key, *parts: Column) -> Column:
    """What `Key.hash` gives for the joined parts; null where one of them is null. The rows come from `with_keys`."""
    inner, outer = (F.col(name) for name in _pad_names(key))
    message = F.concat(*parts).cast("binary")
    digest = F.sha2(F.concat(outer, F.unhex(F.sha2(F.concat(inner, message), 256))), 256)
    return F.concat(F.lit(f"{key.version}:"), digest)


def _pad_names(key: Key) -> tuple[str, str]:
    return f"_inner_{key.version}", f"_outer_{key.version}"


@dataclass(frozen=True)
class BatchKeys:
    """users: the key of a batch's user ids. events: the key of its event ids, one and the same for all batches of a
    source, so that an event that comes again after a change of keys is still known.
    """

    users: Key
    events: Key


class KeyRegister:
    """Reads and appends PSEUDONYM_KEYS for one source."""

    def __init__(self, spark: SparkSession, tables: Tables, source: str, privacy: PrivacyConfig, ring: Keyring) -> None:
        self._spark, self._tables, self._source = spark, tables, source
        self._privacy, self._ring = privacy, ring

    def of(self, batch_id: str) -> BatchKeys | None:
        """The keys of a batch: those that it was registered under, else the newest; None where ids are taken plain.

        Raises ConfigError where a key that a batch was taken under is not configured, or is another one now.
        Raises DataRefused where the source has batches with plain ids and pseudonyms are wanted.
        """
        registered = self._registered()
        if not self._privacy.pseudonymize:
            if registered:
                mend = "set privacy.pseudonymize=true"
                raise ConfigError("user ids are pseudonyms", where=f"source {self._source}", mend=mend)
            return None
        plain = self._batches() - registered.keys()
        if plain:
            mend = "take the raw files into a new warehouse; plain ids and pseudonyms of one person would not meet"
            raise DataRefused("a batch has plain user ids", where=f"source {self._source}", value=min(plain), mend=mend)
        users = registered.get(batch_id, self._ring.newest)
        return BatchKeys(users, min([*registered.values(), users], key=lambda key: number(key.version)))

    def register(self, batch_id: str, keys: BatchKeys) -> None:
        """Append the batch's key, once."""
        row = {
            KEYS.source: self._source,
            KEYS.batch_id: batch_id,
            KEYS.key_version: keys.users.version,
            KEYS.fingerprint: keys.users.fingerprint,
        }
        writer = f"pseudonyms/{self._source}/{batch_id}"
        self._tables.append(KEYS, rows_frame(self._spark, KEYS, [row]), writer=writer, number=1)

    def _registered(self) -> dict[str, Key]:
        if not self._tables.exists(KEYS):
            return {}
        rows = [row for row in self._tables.rows(KEYS) if row[KEYS.source] == self._source]
        if not self._privacy.pseudonymize:
            return {row[KEYS.batch_id]: Key(row[KEYS.key_version], b"") for row in rows}
        found = {}
        for row in rows:
            key = self._ring.of(row[KEYS.key_version], f"batch {row[KEYS.batch_id]} of source {self._source}")
            if key.fingerprint != row[KEYS.fingerprint]:
                what = f"key {key.version} is not the one that batch {row[KEYS.batch_id]} was taken under"
                raise ConfigError(what, where="privacy.keys", mend="restore it, and give a new key a new version")
            found[row[KEYS.batch_id]] = key
        return found

    def _batches(self) -> set[str]:
        rows = self._tables.rows(FILES)
        return {row[FILES.batch_id] for row in rows if row[FILES.source] == self._source}

"""What privacy asks of a batch on its way in: pseudonyms in place of user ids, and no row of the forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from behavior_lib.config.schema import PrivacyConfig
from behavior_lib.config.source import SourceConfig
from behavior_lib.privacy.keys import EVENT, FORGOTTEN, ROW, Key, Keyring
from behavior_lib.spark.canonical import RAW
from behavior_lib.spark.clean import BROKEN, DROPPED, PAYLOAD
from behavior_lib.spark.presence import personal_columns
from behavior_lib.spark.pseudonyms import BatchKeys, KeyRegister, keyed_hash, with_keys
from behavior_lib.spark.raw_files import UNREADABLE
from behavior_lib.spark.statistics import IS_FORGOTTEN, PSEUDONYM
from behavior_lib.spark.tables import Tables
from behavior_lib.tables import EVENTS
from behavior_lib.tables import FORGOTTEN_USERS as FORGOTTEN_TABLE

FORGOTTEN_USER = "forgotten_user"
# Names in the payload of a row whose raw columns with the user's id were left out.
PAYLOAD_USER, PAYLOAD_EVENT = "_user_id", "_event_id"
_USER, _EVENT, _HASH = PSEUDONYM, "_keyed_event_id", "_hash"


class Privacy:
    """The privacy of one source in one warehouse."""

    def __init__(self, spark: SparkSession, tables: Tables, source: SourceConfig, privacy: PrivacyConfig) -> None:
        self._tables, self._source = tables, source
        self._ring = Keyring.read(privacy)
        self._register = KeyRegister(spark, tables, source.name, privacy, self._ring)

    def of(self, batch_id: str) -> BatchPrivacy:
        """What to do with a batch. Raises as `KeyRegister.of` does, and ConfigError where a key that someone was
        forgotten under is not configured.
        """
        keys, forgotten = self._register.of(batch_id), self._forgotten()
        return BatchPrivacy(batch_id, self._source, self._register, keys, forgotten)

    def _forgotten(self) -> Forgotten | None:
        if not self._tables.exists(FORGOTTEN_TABLE):
            return None
        hashes = self._tables.read(FORGOTTEN_TABLE).select(F.col(FORGOTTEN_TABLE.user_hash).alias(_HASH))
        versions = hashes.select(F.substring_index(_HASH, ":", 1)).distinct().collect()
        keys = tuple(self._ring.of(row[0], f"table {FORGOTTEN_TABLE.name}") for row in versions)
        return Forgotten(hashes, keys) if keys else None


@dataclass(frozen=True)
class Forgotten:
    """The hashes of all who were forgotten, and the keys that they were made under."""

    hashes: DataFrame
    keys: tuple[Key, ...]


@dataclass(frozen=True)
class BatchPrivacy:
    """The privacy of one batch: `before_rules`, the rules, `after_rules`.

    Rules judge the plain ids, and nothing is shuffled with a key or written with a plain id.
    """

    batch_id: str
    source: SourceConfig
    register_of_keys: KeyRegister
    keys: BatchKeys | None
    forgotten: Forgotten | None

    @property
    def _is_on(self) -> bool:
        return self.keys is not None or self.forgotten is not None

    def before_rules(self, rows: DataFrame) -> DataFrame:
        """Canonical rows with what must be hashed hashed, and their raw columns fit for the quarantine.

        A raw line that could not be read is withheld: nobody can tell whose id it holds. With pseudonyms the raw
        columns that the expression of user_id names give way to the pseudonym and the event's id.
        """
        if not self._is_on:
            return rows
        users = [self.keys.users, self.keys.events] if self.keys is not None else []
        ours = {key.version: key for key in (*users, *(self.forgotten.keys if self.forgotten else ()))}
        columns = [F.col(f"`{name}`") for name in rows.columns if name not in (UNREADABLE, RAW)]
        row_key = users[1] if users else next(iter(ours.values()))
        line = F.to_json(F.struct(keyed_hash(row_key, F.lit(ROW), F.col(UNREADABLE)).alias(UNREADABLE)))
        unreadable = F.when(F.col(UNREADABLE).isNotNull(), line).alias(UNREADABLE)
        hashed = with_keys(rows, ours.values()).select(
            *columns, F.col(RAW), unreadable, *self._pseudonyms(), *self._forgotten_hashes()
        )
        return self._with_forgotten(self._without_user_columns(hashed))

    def after_rules(self, judged: DataFrame) -> DataFrame:
        """Judged rows with pseudonyms, and those of the forgotten rejected under one rule, with nothing but a count."""
        if not self._is_on:
            return self.identified(judged)
        if self.forgotten is not None:
            changes = {
                BROKEN: F.array(F.lit(FORGOTTEN_USER)),
                DROPPED: F.lit(True),
                PAYLOAD: F.lit(FORGOTTEN_USER),
            }
            refused = {name: F.when(F.col(IS_FORGOTTEN), to).otherwise(F.col(name)) for name, to in changes.items()}
            judged = judged.withColumns(refused).drop(IS_FORGOTTEN)
        if self.keys is not None:
            judged = judged.withColumns({EVENTS.user_id: F.col(_USER), EVENTS.event_id: F.col(_EVENT)})
        return self.identified(judged.drop(_USER, _EVENT))

    def identified(self, judged: DataFrame) -> DataFrame:
        """Judged rows whose content_hash is of the user too, but not of a pseudonym: another key gives another one."""
        if self.keys is not None:
            return judged
        return judged.withColumn(EVENTS.content_hash, F.xxhash64(EVENTS.content_hash, EVENTS.user_id))

    def payload_schema(self, raw: StructType) -> StructType:
        """The types of a quarantined row's payload, for raw rows of these types."""
        added = () if self.keys is None else (PAYLOAD_USER, PAYLOAD_EVENT)
        return StructType([*raw.fields, *(StructField(name, StringType()) for name in added)])

    def as_stored(self, rows: DataFrame) -> DataFrame:
        """Canonical rows made of payloads, ready for the rules: with the ids that the payload has in the place of the
        plain ones; where it has plain ones, the forgotten are marked.
        """
        if self.keys is None:
            return self.before_rules(rows)
        return rows.withColumns({EVENTS.user_id: F.col(RAW)[PAYLOAD_USER], EVENTS.event_id: F.col(RAW)[PAYLOAD_EVENT]})

    def after_rules_of_stored(self, judged: DataFrame) -> DataFrame:
        """Judged rows of `as_stored`, those of the forgotten rejected."""
        return self.after_rules(judged) if self.keys is None else self.identified(judged)

    def register(self) -> None:
        """Remember the batch's key, before the batch itself is registered."""
        if self.keys is not None:
            self.register_of_keys.register(self.batch_id, self.keys)

    def _pseudonyms(self) -> list[Column]:
        if self.keys is None:
            return []
        event = keyed_hash(self.keys.events, F.lit(EVENT), F.col(EVENTS.event_id))
        # As long as an event id is without pseudonyms, and without the version: 32 hex digits.
        short = F.substring(F.substring_index(event, ":", -1), 1, 32)
        return [keyed_hash(self.keys.users, F.col(EVENTS.user_id)).alias(_USER), short.alias(_EVENT)]

    def _forgotten_hashes(self) -> Sequence[Column]:
        keys = self.forgotten.keys if self.forgotten is not None else ()
        return [
            keyed_hash(key, F.lit(FORGOTTEN), F.col(EVENTS.user_id)).alias(f"{_HASH}_{key.version}") for key in keys
        ]

    def _with_forgotten(self, rows: DataFrame) -> DataFrame:
        if self.forgotten is None:
            return rows
        names = [f"{_HASH}_{key.version}" for key in self.forgotten.keys]
        marked = rows.withColumn(IS_FORGOTTEN, F.lit(False))
        for name in names:
            known = self.forgotten.hashes.select(F.col(_HASH).alias(name), F.lit(True).alias("_is_known"))
            is_known = F.col(IS_FORGOTTEN) | F.col("_is_known").isNotNull()
            marked = marked.join(known, name, "left").withColumn(IS_FORGOTTEN, is_known).drop("_is_known")
        return marked.drop(*names)

    def _without_user_columns(self, rows: DataFrame) -> DataFrame:
        if self.keys is None:
            return rows
        raw_columns = rows.select(f"{RAW}.*").columns
        personal = personal_columns(self.source, raw_columns)
        kept = [F.col(RAW)[name].alias(name) for name in raw_columns if name not in personal]
        added = (F.col(_USER).alias(PAYLOAD_USER), F.col(_EVENT).alias(PAYLOAD_EVENT))
        return rows.withColumn(RAW, F.struct(*kept, *added))

"""The numbers that rare items share: a stretch of item numbers, and the hash that gives each rare item one of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from behavior_lib.tables.ddl import CHECK_PREFIX
from behavior_lib.tables.items import ITEMS, UNKNOWN_INDEX

HASH_HEX_DIGITS = 8  # of SHA-256; the number that they write, modulo the buckets, is the bucket
NO_ITEM = "None"  # what MLflow makes of a null in a list: an id that reads so is in no bucket, in Spark neither

_NAME = "buckets_from_"
_SPAN = re.compile(r"BETWEEN (\d+) AND (\d+)")


@dataclass(frozen=True)
class Buckets:
    """`count` item numbers from `first` on. No item has one of them; a rare item is read as that of its bucket."""

    first: int
    count: int

    @property
    def end(self) -> int:
        """One more than the last number."""
        return self.first + self.count

    @property
    def check(self) -> tuple[str, str]:
        """Name and SQL of the constraint on table items by which the numbers are reserved.

        Whoever reserves from a number on that another has reserved from meanwhile comes to the same name, and is
        refused by it.
        """
        return f"{_NAME}{self.first}", f"{ITEMS.item_index} NOT BETWEEN {self.first} AND {self.end - 1}"

    @classmethod
    def recorded(cls, properties: Mapping[str, str]) -> tuple[Buckets, ...]:
        """All that were ever reserved, in ascending order, from the properties of table items."""
        checks = (sql for name, sql in properties.items() if name.startswith(CHECK_PREFIX + _NAME))
        spans = (found for found in map(_SPAN.search, checks) if found is not None)
        found = (cls(int(span[1]), int(span[2]) - int(span[1]) + 1) for span in spans)
        return tuple(sorted(found, key=lambda buckets: buckets.first))

    def index_of(self, item_id: str) -> int:
        """What a rare item is read as: `first` + (the first 32 bits of the SHA-256 of its UTF-8, modulo `count`)."""
        if item_id == NO_ITEM:
            return UNKNOWN_INDEX
        digest = hashlib.sha256(item_id.encode("utf-8", "surrogatepass")).hexdigest()
        return self.first + int(digest[:HASH_HEX_DIGITS], 16) % self.count

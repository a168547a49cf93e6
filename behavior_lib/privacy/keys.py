"""The keys under which user ids are hashed, and the hash: HMAC-SHA-256 (RFC 2104)."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from behavior_lib.config.privacy import SECTION, KeyPlace, PlaceKind, key_places, number
from behavior_lib.config.schema import PrivacyConfig
from behavior_lib.errors import ConfigError

# 256 bits, which `openssl rand -hex 32` gives twice over. A short key could be guessed from a few known ids.
MIN_BYTES = 32
_BLOCK = 64
# No user id holds a control character (a rule refuses it), so these never hash what a user id hashes.
EVENT, ROW, FORGOTTEN = "event\x1f", "row\x1f", "forgotten\x1f"


@dataclass(frozen=True)
class Key:
    """One key. Its bytes stand in no repr."""

    version: str
    secret: bytes = field(repr=False)

    def hash(self, text: str) -> str:
        """`v1:` and 64 hex digits, the HMAC-SHA-256 of the text's UTF-8 bytes."""
        return f"{self.version}:{hmac.new(self.secret, text.encode(), hashlib.sha256).hexdigest()}"

    @property
    def pads(self) -> tuple[bytes, bytes]:
        """The inner and the outer pad of RFC 2104: as secret as the key."""
        block = hashlib.sha256(self.secret).digest() if len(self.secret) > _BLOCK else self.secret
        block = block.ljust(_BLOCK, b"\0")
        return bytes(byte ^ 0x36 for byte in block), bytes(byte ^ 0x5C for byte in block)

    @property
    def fingerprint(self) -> str:
        """16 hex digits that tell one key from another and nothing of it."""
        return hmac.new(self.secret, b"fingerprint\x1f", hashlib.sha256).hexdigest()[:16]


@dataclass(frozen=True)
class Keyring:
    """All configured keys by version, the oldest first."""

    keys: Mapping[str, Key]

    @classmethod
    def read(cls, privacy: PrivacyConfig) -> Keyring:
        """The keys from where they lie. Raises ConfigError where one is missing or too short."""
        return cls({version: Key(version, _secret(version, place)) for version, place in key_places(privacy).items()})

    def __bool__(self) -> bool:
        return bool(self.keys)

    @property
    def newest(self) -> Key:
        """The key of new batches. Raises ConfigError where there is no key."""
        if not self.keys:
            raise ConfigError("there is no key", where=f"{SECTION}keys", mend="set privacy.keys.v1 to env:NAME")
        return self.keys[max(self.keys, key=number)]

    def of(self, version: str, what: str) -> Key:
        """The key of a version. Raises ConfigError, saying `what` was made under it, where it is not configured."""
        if version not in self.keys:
            mend = "keep every key that was ever used; after a leak, take the raw files into a new warehouse"
            raise ConfigError(f"{what} needs key {version}", where=f"{SECTION}keys", mend=mend)
        return self.keys[version]


def _secret(version: str, place: KeyPlace) -> bytes:
    where = f"{SECTION}keys.{version}"
    if place.kind is PlaceKind.env:
        text = os.environ.get(place.name)
        if text is None:
            mend = f"export {place.name} for the driver"
            raise ConfigError("an environment variable is not set", where=where, value=place.name, mend=mend)
        secret = os.fsencode(text)
    else:
        try:
            secret = Path(place.name).read_bytes()
        except OSError as error:
            raise ConfigError("a key file cannot be read", where=where, value=error.strerror) from None
        # Editors and `echo` end a file with a newline, secret stores do not: both give one key.
        secret = secret.removesuffix(b"\n").removesuffix(b"\r")
    if len(secret) < MIN_BYTES:
        mend = "make one with `openssl rand -hex 32`"
        raise ConfigError(f"a key has fewer than {MIN_BYTES} bytes", where=where, value=len(secret), mend=mend)
    return secret

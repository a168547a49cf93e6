"""What is searched for: ids, in every form that a file may hold them in."""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from behavior_lib.tables import EVENTS

USER_COLUMN = EVENTS.user_id
# A shorter id also stands where nobody means it: 17850 is a customer, a stock code and the size of a file. For such an
# id only what names a user counts; a longer one counts wherever it stands as a whole word.
DISTINCTIVE_BYTES = 8
_ALTERNATIVES = 200  # ids of one regular expression
_WORD = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_NOT_WORD = "[^0-9A-Za-z]"


def is_distinctive(name: str) -> bool:
    """Whether an id is long enough to be told by itself."""
    return len(name.encode()) >= DISTINCTIVE_BYTES


def spellings(name: str) -> list[str]:
    """The id as it is, and as JSON writes it."""
    return list(dict.fromkeys([name, json.dumps(name, ensure_ascii=False)[1:-1], json.dumps(name)[1:-1]]))


@dataclass(frozen=True)
class Needles:
    """Ids to search for: user ids and their pseudonyms."""

    names: Collection[str]

    def in_user_column(self, values: pa.Array) -> int:
        """How many values of a column of user ids are one of the ids."""
        return int(pc.sum(pc.is_in(values, value_set=self._values)).as_py() or 0)

    def in_texts(self, values: pa.Array) -> int:
        """How many texts hold one of the ids: a distinctive one as a whole word, another where it is called user_id."""
        found = (pc.sum(pc.match_substring_regex(values, pattern)).as_py() for pattern in self._patterns)
        return sum(count or 0 for count in found)

    def in_bytes(self, data: bytes | mmap.mmap) -> int:
        """How often the bytes hold one of the ids, by the same rule."""
        count = sum(1 for word in self._words for place in _places(data, word) if _is_whole(data, place, len(word)))
        for quoted in self._quoted:
            count += sum(1 for place in _places(data, quoted) if _is_named(data, place, len(quoted)))
        return count

    def anywhere_in(self, data: bytes) -> bool:
        """Whether the bytes hold one of the ids, however short, as a whole word."""
        words = [text.encode() for name in self.names for text in spellings(name)]
        return any(_is_whole(data, place, len(word)) for word in words for place in _places(data, word))

    @cached_property
    def _values(self) -> pa.Array:
        return pa.array(sorted(self.names), pa.string())

    @cached_property
    def _words(self) -> list[bytes]:
        return [text.encode() for name in self.names if is_distinctive(name) for text in spellings(name)]

    @cached_property
    def _quoted(self) -> list[bytes]:
        return [f'"{text}'.encode() for name in self.names if not is_distinctive(name) for text in spellings(name)]

    @cached_property
    def _patterns(self) -> list[str]:
        long = [re.escape(text) for name in self.names if is_distinctive(name) for text in spellings(name)]
        short = [re.escape(text) for name in self.names if not is_distinctive(name) for text in spellings(name)]
        whole = [f"(?:^|{_NOT_WORD})(?:{'|'.join(some)})(?:$|{_NOT_WORD})" for some in _parts(long)]
        named = [rf'user_id\\?"\s*:\s*\\?"(?:{"|".join(some)})\\?"' for some in _parts(short)]
        return whole + named


def _parts(words: list[str]) -> Iterator[list[str]]:
    return (words[start : start + _ALTERNATIVES] for start in range(0, len(words), _ALTERNATIVES))


def _places(data: bytes | mmap.mmap, word: bytes) -> Iterator[int]:
    place = data.find(word)
    while place >= 0:
        yield place
        place = data.find(word, place + 1)


def _is_whole(data: bytes | mmap.mmap, place: int, length: int) -> bool:
    end = place + length
    return (place == 0 or data[place - 1] not in _WORD) and (end == len(data) or data[end] not in _WORD)


def _is_named(data: bytes | mmap.mmap, place: int, length: int) -> bool:
    """Whether the quoted value is what `user_id` stands before, also in JSON that is a text of JSON."""
    end = place + length
    before, after = bytes(data[max(0, place - 16) : place]), bytes(data[end : end + 2])
    return re.search(rb'user_id\\?"\s*:\s*\\?$', before) is not None and after.removeprefix(b"\\")[:1] == b'"'

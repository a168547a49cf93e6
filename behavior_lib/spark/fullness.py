"""How full the arrays of SEQUENCES are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import DataFrame

from behavior_lib.tables import SEQUENCES

_MUCH, _MOST = 0.5, 0.95
_SHORTEST = 16  # below it a row is hardly cheaper


@dataclass(frozen=True)
class Fullness:
    """How many rows each split has, and how many of them hold how many events, of the `size` that each could hold."""

    rows: Mapping[str, int]
    lengths: Mapping[int, int]
    size: int

    @classmethod
    def of(cls, sequences: DataFrame, size: int) -> Fullness:
        """In one pass over the lengths. sequences: SEQUENCES rows. size: of every array."""
        rows, lengths = Counter[str](), Counter[int]()
        for split, length, count in sequences.groupBy(SEQUENCES.split, SEQUENCES.length).count().collect():
            rows[split] += count
            lengths[length] += count
        return cls(rows, lengths, size)

    @property
    def padding_share(self) -> float:
        """The part of all places in the arrays that holds no event; 0 where there is no row."""
        places = self.size * sum(self.lengths.values())
        return 1 - sum(length * count for length, count in self.lengths.items()) / places if places else 0.0

    @property
    def enough(self) -> int:
        """The smallest power of two, from 16 on, that holds 95 % of the rows whole."""
        below, wanted = 0, _MOST * sum(self.lengths.values())
        for length in sorted(self.lengths):
            below += self.lengths[length]
            if below >= wanted:
                return max(_SHORTEST, 1 << max(length - 1, 0).bit_length())
        return self.size

    def advice(self) -> str | None:
        """What to set where most of what is written, and read in every epoch, is padding; None where it is not."""
        enough = self.enough
        if self.padding_share <= _MUCH or enough >= self.size:
            return None
        padding = f"{self.padding_share:.0%} of the arrays is padding"
        mend = (
            f"sequences.length={enough} would be written and read faster, and users judged by their newest {enough:,}"
        )
        return f"{padding}, and {_MOST:.0%} of the rows have {enough:,} events or fewer: {mend}"

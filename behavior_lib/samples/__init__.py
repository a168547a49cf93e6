"""Sample data, written the way a company would receive it. `write` is what `behavior sample` calls."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path

from behavior_lib.errors import ConfigError
from behavior_lib.samples.complete_journey import write_complete_journey
from behavior_lib.samples.folder import Progress, no_progress

Writer = Callable[[Path, Progress], dict[str, int]]

SAMPLES: Mapping[str, Writer] = {"complete_journey": write_complete_journey}


def write(name: str, out: Path, progress: Progress = no_progress) -> dict[str, int]:
    """Write the sample data of that name below `out`, unless it is there already and whole.

    progress: called now and then with the rows written so far and the rows in all.
    Returns the rows of each file, the same whether they were written now or before. Raises ConfigError where there is
    no such sample, EnvironmentProblem where its package is missing or the folder cannot be written.
    """
    writer = SAMPLES.get(name)
    if writer is None:
        known = ", ".join(sorted(SAMPLES))
        nearest = difflib.get_close_matches(name, SAMPLES, n=1, cutoff=0.3)
        mend = f"did you mean {nearest[0]}?" if nearest else f"known samples: {known}"
        raise ConfigError("no sample data of this name", where="behavior sample", value=name, mend=mend)
    return writer(out, progress)


__all__ = ["SAMPLES", "Progress", "no_progress", "write"]

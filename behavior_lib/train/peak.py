"""The most memory that a process held."""

from __future__ import annotations

import resource
from pathlib import Path

_STATUS, _PEAK = Path("/proc/self/status"), "VmHWM:"


def peak_memory_mb() -> float:
    """Of this process at once, in MB (2^20 bytes), since its program began.

    Linux's VmHWM. `ru_maxrss`, taken where there is none, begins with the memory of the process that started this one.
    """
    if _STATUS.exists():
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(_PEAK):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

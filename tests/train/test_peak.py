"""A worker's peak memory is its own, not that of the process that started it."""

import subprocess
import sys

import numpy as np

from behavior_lib.train.peak import peak_memory_mb

CHILD = "from behavior_lib.train.peak import peak_memory_mb; held = b'x' * (40 << 20); print(peak_memory_mb())"


def test_the_peak_is_of_this_process_alone():
    held = np.ones(300 << 20, dtype=np.uint8)
    own = peak_memory_mb()
    assert own >= 300
    told = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True, close_fds=False)
    assert 40 < float(told.stdout) < 200
    del held
    assert peak_memory_mb() > own - 50  # the kernel counts in batches

"""What the machine can do at most, measured in this process: what the benchmarks' figures are shares of.

On a shared machine these change from second to second, so they are measured just before and after what is compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from pyinfer import _kernels
from pyinfer.system import allocate, default_threads

THREADS = default_threads()
MEMORY_BYTES = 256 << 20  # far beyond the caches of the cores that are used
SECONDS = 0.05  # for each measurement; the best of its passes counts


def around(measure: Callable[[], float], work: Callable[[], object]) -> float:
    """Does the work; returns the mean of what is measured just before and just after it."""
    before = measure()
    work()
    return (before + measure()) / 2


def read_gbps(n_bytes: int = MEMORY_BYTES, n_threads: int = THREADS) -> float:
    """GB/s at which threads read so much memory; by default little of it comes from a cache."""
    best = 0.0
    until = time.perf_counter() + SECONDS
    while best == 0 or time.perf_counter() < until:
        best = max(best, _kernels.read_bandwidth(written_memory(n_bytes), n_threads))
    return best


@cache
def written_memory(n_bytes: int) -> NDArray[np.uint8]:
    memory = allocate(n_bytes)
    memory[:] = 1
    return memory


def dot_gmacs() -> float:
    """GMAC/s of THREADS threads with int8 dot products on registers, for the instruction set in use."""
    return _kernels.dot_limit(THREADS)


def float_gmacs() -> float:
    """GMAC/s of NumPy's float32 matrix product on all cores. Its threads spin for a while after it."""
    n = 1024
    factor = np.ones((n, n), np.float32)
    best = float("inf")
    until = time.perf_counter() + SECONDS
    while (start := time.perf_counter()) < until:
        factor @ factor
        best = min(best, time.perf_counter() - start)
    return n**3 / best / 1e9

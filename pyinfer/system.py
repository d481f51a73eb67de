"""Everything that only one operating system has: huge pages, dropping pages, affinity, quotas, figures of a process.

Each call has a fallback that is right, if slower or less exact, where the system does not offer the thing.
"""

from __future__ import annotations

import mmap

import numpy as np
from numpy.typing import NDArray

HUGE_PAGE = 2 << 20  # bytes, on x86-64


def allocate(n_bytes: int) -> NDArray[np.uint8]:
    """Zeroed memory, uint8 [n_bytes], in huge pages where the system has them. Untouched pages take no memory."""
    size = max(n_bytes, 1)
    # shared mappings, Python's default, get no huge pages
    flags = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    region = mmap.mmap(-1, size + HUGE_PAGE, **flags)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        region.madvise(mmap.MADV_HUGEPAGE)
    whole = np.frombuffer(region, np.uint8)
    skip = -whole.ctypes.data % HUGE_PAGE
    return whole[skip : skip + n_bytes]


def drop_pages(region: mmap.mmap, start: int, length: int) -> None:
    """Forget the pages of a file mapping that lie wholly within [start, start + length); a later read brings them back."""
    if not hasattr(mmap, "MADV_DONTNEED"):
        return
    first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
    last = (start + length) // mmap.PAGESIZE * mmap.PAGESIZE
    if last > first:
        region.madvise(mmap.MADV_DONTNEED, first, last - first)


def default_threads() -> int:
    import os
    return len(os.sched_getaffinity(0))

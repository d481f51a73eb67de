"""What operating systems do differently: huge pages, dropping pages, affinity, quotas, figures of the process.

Where the system has no such call, a fallback is used that is right, but slower or less exact.
"""

from __future__ import annotations

import math
import mmap
import os
import platform
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

if sys.platform != "win32":
    import resource

HUGE_PAGE = 2 << 20  # bytes, on x86-64
UNKNOWN_MEMORY = 8 << 30  # bytes that are assumed where the system does not tell: an ordinary small machine
PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


def allocate(n_bytes: int) -> NDArray[np.uint8]:
    """Allocate zeroed memory: uint8 [n_bytes], in huge pages where the system has them.

    A page takes memory once it is written to. Raises MemoryError where the system cannot give so many bytes.
    """
    size = max(n_bytes, 1)
    # Python's default is a shared mapping, which gets no huge pages
    flags = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    try:
        region = mmap.mmap(-1, size + HUGE_PAGE, **flags)
    except (OSError, OverflowError):
        raise MemoryError(f"the system does not have {n_bytes} bytes of memory") from None
    if hasattr(mmap, "MADV_HUGEPAGE"):
        region.madvise(mmap.MADV_HUGEPAGE)
    whole = np.frombuffer(region, np.uint8)
    skip = -whole.ctypes.data % HUGE_PAGE
    return whole[skip : skip + n_bytes]


def drop_pages(region: mmap.mmap, start: int, length: int) -> None:
    """Drop a file mapping's pages that lie wholly in bytes [start, start + length); a later read loads them again."""
    if not hasattr(mmap, "MADV_DONTNEED"):
        return
    first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
    last = (start + length) // mmap.PAGESIZE * mmap.PAGESIZE
    if last > first:
        region.madvise(mmap.MADV_DONTNEED, first, last - first)


def default_threads() -> int:
    """The number of cores that this process may use: those of its affinity mask, or its CPU quota if that is less.

    A quota that is not whole is rounded up.
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # macOS and Windows have no such call
        cores = os.cpu_count() or 1
    quota = cgroup_cpu_quota()
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))


def cgroup_cpu_quota(proc: Path = PROC, cgroups: Path = CGROUPS) -> float | None:
    """CPUs that the process may use by its cgroups (v1 or v2): the least of its own and its ancestors' quotas.

    None: there is no limit.
    """
    folders = _cgroup_folders("cpu", proc, cgroups)
    quotas = [_quota_v2(folder) if version == 2 else _quota_v1(folder) for version, folder in folders]
    return min((quota for quota in quotas if quota is not None), default=None)


def usable_memory(proc: Path = PROC, cgroups: Path = CGROUPS) -> int:
    """Bytes of RAM that this process may use: the machine's, or what its cgroups (v1 or v2) allow, if that is less."""
    limits = [_physical_memory()]
    for version, folder in _cgroup_folders("memory", proc, cgroups):
        text = "".join(_lines(folder / ("memory.max" if version == 2 else "memory.limit_in_bytes"))[:1])
        if text.strip().isdigit():  # v2 says "max" where there is no limit
            limits.append(int(text))
    return min(limits)


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has no such call
        return UNKNOWN_MEMORY


def _cgroup_folders(controller: str, proc: Path, cgroups: Path) -> list[tuple[int, Path]]:
    """(version, folder) of each cgroup that limits the process by a controller, each followed by its ancestors."""
    folders: list[tuple[int, Path]] = []
    for line in _lines(proc / "self" / "cgroup"):  # HIERARCHY:CONTROLLERS:GROUP; v2 names no controllers
        controllers, _, group = line.partition(":")[2].partition(":")
        if controllers == "":
            folders += [(2, folder) for folder in _with_ancestors(cgroups, group)]
        elif controller in controllers.split(","):
            folders += [(1, folder) for folder in _with_ancestors(cgroups / controllers, group)]
    return folders


def _with_ancestors(mount: Path, group: str) -> list[Path]:
    """The folder of a cgroup, then those above it up to the mount, which in a container may be the only one."""
    parts = [part for part in group.split("/") if part not in ("", "..")]
    return [mount.joinpath(*parts[:n]) for n in range(len(parts), -1, -1)]


def _quota_v2(folder: Path) -> float | None:
    """The quota of cgroups v2. `cpu.max` has "QUOTA PERIOD" in microseconds, or "max" for no limit."""
    words = " ".join(_lines(folder / "cpu.max")).split()
    return _ratio(words[0], words[1]) if len(words) == 2 else None


def _quota_v1(folder: Path) -> float | None:
    """The quota of cgroups v1. `cpu.cfs_quota_us` is -1 where there is no limit."""
    quota, period = _lines(folder / "cpu.cfs_quota_us"), _lines(folder / "cpu.cfs_period_us")
    return _ratio(quota[0], period[0]) if quota and period else None


def _ratio(quota: str, period: str) -> float | None:
    try:
        return int(quota) / int(period) if int(quota) > 0 and int(period) > 0 else None
    except ValueError:  # "max"
        return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def peak_rss_bytes(proc: Path = PROC) -> int | None:
    """The largest resident memory of this process so far, in bytes; None where the system does not tell."""
    # /proc comes first: on Linux, getrusage also counts the memory that the parent had before exec
    for line in _lines(proc / "self" / "status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB


def cpu_name(proc: Path = PROC) -> str:
    """The processor's model name, or its architecture where the system does not name the model."""
    for line in _lines(proc / "cpuinfo"):
        key, _, value = line.partition(":")
        if key.strip() == "model name" and value.strip():
            return value.strip()
    return platform.processor() or platform.machine() or "unknown"

"""Cores, memory and names of the machine; from fake /proc and cgroup trees where a test needs others."""

import mmap
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from pyinfer import system


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def quota(root: Path, files: dict[str, str]) -> float | None:
    write(root, files)
    return system.cgroup_cpu_quota(root / "proc", root / "cg")


def test_v2_quota_is_read_from_the_own_cgroup(tmp_path):
    assert quota(tmp_path, {"proc/self/cgroup": "0::/job\n", "cg/job/cpu.max": "150000 100000\n"}) == 1.5


def test_v2_quota_of_an_ancestor_binds_too(tmp_path):
    files = {
        "proc/self/cgroup": "0::/a/b\n",
        "cg/a/b/cpu.max": "400000 100000\n",
        "cg/a/cpu.max": "200000 100000\n",
        "cg/cpu.max": "max 100000\n",
    }
    assert quota(tmp_path, files) == 2


def test_v1_quota_is_read_from_the_cpu_controller(tmp_path):
    files = {
        "proc/self/cgroup": "4:memory:/job\n3:cpu,cpuacct:/job\n",
        "cg/cpu,cpuacct/job/cpu.cfs_quota_us": "50000\n",
        "cg/cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
        "cg/memory/job/cpu.cfs_quota_us": "1\n",
        "cg/memory/job/cpu.cfs_period_us": "100000\n",
    }
    assert quota(tmp_path, files) == 0.5


def test_a_group_that_a_container_cannot_see_falls_back_to_the_mount(tmp_path):
    assert quota(tmp_path, {"proc/self/cgroup": "0::/../../docker/x\n", "cg/cpu.max": "300000 100000\n"}) == 3


@pytest.mark.parametrize(
    "text", ["max 100000\n", "", "100000\n", "0 100000\n", "100000 0\n", "-1 100000\n", "x y\n", "\0\n"]
)
def test_no_limit_and_nonsense_mean_no_quota(tmp_path, text):
    assert quota(tmp_path, {"proc/self/cgroup": "0::/job\n\nnonsense\n", "cg/job/cpu.max": text}) is None


def test_no_cgroups_mean_no_quota(tmp_path):
    assert quota(tmp_path, {}) is None


def test_v1_without_a_limit_means_no_quota(tmp_path):
    files = {
        "proc/self/cgroup": "1:cpu:/\n",
        "cg/cpu/cpu.cfs_quota_us": "-1\n",
        "cg/cpu/cpu.cfs_period_us": "100000\n",
    }
    assert quota(tmp_path, files) is None


@pytest.mark.parametrize(
    "files, limit",
    [
        ({"proc/self/cgroup": "0::/a/b\n", "cg/a/b/memory.max": "max\n", "cg/a/memory.max": "4096000\n"}, 4096000),
        ({"proc/self/cgroup": "7:memory:/job\n", "cg/memory/job/memory.limit_in_bytes": "81920\n"}, 81920),
        ({"proc/self/cgroup": "7:cpu:/job\n", "cg/cpu/job/memory.limit_in_bytes": "81920\n"}, None),
        ({"proc/self/cgroup": "0::/job\n", "cg/job/memory.max": "9223372036854771712\n"}, None),
        ({}, None),
    ],
)
def test_usable_memory_is_the_machines_or_what_its_groups_allow(tmp_path, files, limit):
    write(tmp_path, files)
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert system.usable_memory(tmp_path / "proc", tmp_path / "cg") == (limit or machine)


@pytest.mark.parametrize(("quota", "threads"), [(None, 4), (0.2, 1), (1.5, 2), (4.0, 4), (64.0, 4)])
def test_default_threads_are_the_cores_that_mask_and_quota_leave(monkeypatch, quota, threads):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 2, 4, 6}, raising=False)
    monkeypatch.setattr(system, "cgroup_cpu_quota", lambda: quota)
    assert system.default_threads() == threads


def test_default_threads_without_an_affinity_call_are_all_cores(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    monkeypatch.setattr(system, "cgroup_cpu_quota", lambda: None)
    assert system.default_threads() == 3


def test_peak_rss_covers_memory_that_was_used_and_released():
    before = system.peak_rss_bytes()
    if before is None:
        pytest.skip(f"{sys.platform} does not tell peak memory")
    size = before + (64 << 20)
    np.ones(size, np.uint8)
    assert system.peak_rss_bytes() >= size


def test_peak_rss_without_proc_comes_from_getrusage(tmp_path):
    pytest.importorskip("resource")
    assert system.peak_rss_bytes(tmp_path) > 1 << 20


def test_cpu_name_is_the_model_name(tmp_path):
    write(tmp_path, {"cpuinfo": "processor\t: 0\nmodel name\t: Fast CPU 9000\n\nprocessor\t: 1\nmodel name\t: other\n"})
    assert system.cpu_name(tmp_path) == "Fast CPU 9000"


def test_cpu_name_without_proc_is_not_empty(tmp_path):
    assert system.cpu_name(tmp_path)


@pytest.mark.parametrize("size", [0, 1, 4096, system.HUGE_PAGE + 1])
def test_allocated_memory_is_zeroed_writable_and_aligned(size):
    memory = system.allocate(size)
    assert memory.shape == (size,) and not memory.any()
    memory[:] = 255
    assert size == 0 or memory.ctypes.data % system.HUGE_PAGE == 0


def test_dropped_pages_come_back_as_they_stand_in_the_file(tmp_path):
    content = np.random.default_rng(0).bytes(3 * mmap.PAGESIZE + 5)
    path = tmp_path / "file"
    path.write_bytes(content)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as region:
        assert region[:] == content
        system.drop_pages(region, 1, len(content) - 2)
        system.drop_pages(region, 1, 2)  # less than a page: nothing to drop
        assert region[:] == content

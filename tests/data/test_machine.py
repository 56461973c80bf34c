"""Cores and memory of this process: what Linux tells of itself and of a container's limits, and other systems."""

from __future__ import annotations

import os

import pytest

from delightsam_pipeline.data import machine

GB = 2**30


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A function that lays out /proc and /sys/fs/cgroup: paths to content, and the lines of /proc/self/cgroup."""

    def lay(files: dict, groups: str = "0::/a/b\n", available: int | None = 8 * GB) -> None:
        for name, text in files.items():
            (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "cgroup" / name).write_text(f"{text}\n")
        (tmp_path / "self").write_text(groups)
        if available is not None:
            (tmp_path / "meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable:   {available // 1024} kB\n")

    monkeypatch.setattr(machine, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "_OF_THIS_PROCESS", tmp_path / "self")
    monkeypatch.setattr(machine, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(machine, "_own_cores", lambda: 6)
    return lay


def test_this_machine():
    assert 1 <= machine.cores() <= os.cpu_count()
    free = machine.free_memory()
    assert free is None or free > 2**20


@pytest.mark.parametrize(
    ("files", "groups", "cores"),
    [
        ({}, "", 6),
        ({"a/b/cpu.max": "max 100000"}, "0::/a/b\n", 6),
        ({"a/b/cpu.max": "250000 100000"}, "0::/a/b\n", 2),
        ({"a/cpu.max": "150000 100000", "a/b/cpu.max": "max 100000"}, "0::/a/b\n", 1),
        ({"cpu.max": "20000 100000"}, "0::/../host/path\n", 1),
        (
            {"cpu,cpuacct/a/cpu.cfs_quota_us": "400000", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"},
            "3:cpu,cpuacct:/a",
            4,
        ),
        ({"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"}, "3:cpu,cpuacct:/a\n0::/\n", 6),
        ({"a/cpu.max": "900000 100000"}, "0::/a", 6),
    ],
)
def test_cores_within_quotas(system, files, groups, cores):
    system(files, groups)
    assert machine.cores() == cores


@pytest.mark.parametrize(
    ("files", "groups", "free"),
    [
        ({}, "", 8),
        ({"a/b/memory.max": "max", "a/b/memory.current": GB}, "0::/a/b\n", 8),
        ({"a/b/memory.max": 4 * GB, "a/b/memory.current": GB}, "0::/a/b\n", 3),
        (
            {
                "a/b/memory.max": 4 * GB,
                "a/b/memory.current": 3 * GB,
                "a/b/memory.stat": f"anon 5\ninactive_file {GB}\nactive_file 7",
            },
            "0::/a/b\n",
            2,
        ),
        ({"a/memory.max": 2 * GB, "a/memory.current": 3 * GB, "a/b/memory.max": "max"}, "0::/a/b\n", 0),
        ({"memory/memory.limit_in_bytes": 5 * GB, "memory/memory.usage_in_bytes": GB}, "4:memory:/host\n", 4),
        ({"memory/memory.limit_in_bytes": 2**63 - 4096, "memory/memory.usage_in_bytes": GB}, "4:memory:/\n", 8),
    ],
)
def test_memory_within_limits(system, files, groups, free):
    system(files, groups)
    assert machine.free_memory() == free * GB


def test_memory_where_linux_does_not_tell(system, monkeypatch):
    system({}, available=None)
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}.__getitem__)
    assert machine.free_memory() == 2048000
    monkeypatch.delattr(os, "sysconf")
    assert machine.free_memory() is None

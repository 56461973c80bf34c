"""What this process may use of the machine: cores and memory, within the limits that a container sets."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OF_THIS_PROCESS = Path("/proc/self/cgroup")
_MEMINFO = Path("/proc/meminfo")


def cores() -> int:
    """Cores that this process may use up: its affinity, within a container's CPU quota, at least 1."""
    quotas = [quota for folder in _folders("cpu") if (quota := _quota(folder)) is not None]
    return max(1, int(min([_own_cores(), *quotas])))


def _own_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory() -> int | None:
    """Bytes that can still be taken: what the system calls available, within a container's limit.

    Half of all memory where only that is known (macOS), None where nothing is (Windows).
    """
    free = _available()
    left = [room for folder in _folders("memory") if (room := _room(folder)) is not None]
    return min([free, *left]) if free is not None else None


def _available() -> int | None:
    for line in _text(_MEMINFO).splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, OSError, ValueError):
        return None


def _folders(controller: str) -> list[Path]:
    """The control groups of this process, version 1 and 2, from its own up to the root; those there are.

    Inside a container a group's path may be the host's, while its files lie at the root: both are looked at.
    """
    found = []
    for line in _text(_OF_THIS_PROCESS).splitlines():
        number, names, path = line.split(":", 2)
        if number == "0":
            roots = [_CGROUPS, _CGROUPS / "unified"]
        elif controller in names.split(","):
            roots = [_CGROUPS / names, _CGROUPS / controller]
        else:
            continue
        inner = Path(path.lstrip("/"))
        found += [root / part for root in roots for part in (inner, *inner.parents)]
    return [folder for folder in dict.fromkeys(found) if folder.is_dir()]


def _quota(folder: Path) -> float | None:
    """Cores a group may use up, None without a limit."""
    limit = _text(folder / "cpu.max").split() or [
        _text(folder / "cpu.cfs_quota_us").strip(),
        _text(folder / "cpu.cfs_period_us").strip(),
    ]
    if not all(part.isdecimal() for part in limit) or len(limit) != 2 or not int(limit[1]):
        return None  # "max", or -1
    return int(limit[0]) / int(limit[1])


def _room(folder: Path) -> int | None:
    """Bytes left within a group's limit, None without one; what it caches of files can be given back."""
    for limit, used, cached in (
        ("memory.max", "memory.current", "inactive_file "),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "),
    ):
        values = [_text(folder / name).strip() for name in (limit, used)]
        if not all(value.isdecimal() for value in values):
            continue
        lines = _text(folder / "memory.stat").splitlines()
        files = sum(int(line.split()[1]) for line in lines if line.startswith(cached))
        return max(0, int(values[0]) - int(values[1]) + files)
    return None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""

"""What the benchmarks share: where records go, and what machine and commit they were measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def hardware() -> dict:
    """What this machine is."""
    import torch

    names = [line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    cpu = names[0] if names else platform.processor()
    return {"cpu": cpu, "cores": os.cpu_count(), "gpu": gpu, "system": platform.platform()}


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def commit() -> str:
    """The commit that was measured, with '+' when the tree differed from it."""
    where = {"cwd": Path(__file__).parent, "capture_output": True, "text": True}
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], **where).stdout.strip()
    dirty = subprocess.run(["git", "status", "--porcelain", "-uno"], **where).stdout.strip()
    return head + ("+" if dirty else "")

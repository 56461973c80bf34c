"""Which device runs the network, in which precision, and with which memory settings; each with its reason."""

from __future__ import annotations

import ctypes
import logging
import sys
from dataclasses import dataclass

import torch

from delightsam_pipeline.data.machine import cores
from delightsam_pipeline.errors import UserError

log = logging.getLogger(__name__)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


@dataclass(frozen=True)
class Device:
    """A torch device, whether to compute in bfloat16 there, and why."""

    torch: torch.device
    bf16: bool
    reason: str

    def autocast(self) -> torch.autocast:
        """The context in which the network runs."""
        return torch.autocast(self.torch.type, torch.bfloat16, enabled=self.bf16)

    def loader_workers(self, sharers: int = 1) -> int:
        """Processes that load and augment, where so many trainings share the cores: on a GPU as many as cores allow,
        on a CPU none to take its cores."""
        return min(12, max(1, cores() // sharers - 1)) if self.torch.type == "cuda" else 0


def choose_device(wanted: str = "auto", number: int | None = None) -> Device:
    """'auto', 'cpu', 'cuda', 'cuda:1' or 'mps'. Raises UserError when that device is not there.

    number : of the GPU, for one of several processes on a machine that each have their own.
    """
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if number is not None and wanted.startswith("cuda:"):
        raise UserError(
            f"several processes cannot share {wanted}", fix="use --device cuda: each takes a GPU of its own"
        )
    if number is not None and wanted == "cuda":
        wanted = f"cuda:{number}"
    try:
        device = torch.device(wanted)
        if device.type not in ("cpu", "cuda", "mps"):
            raise NotImplementedError
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        count = torch.cuda.device_count()
        there, fix = ["cpu", *(f"cuda:{i}" for i in range(count))], "use --device auto"
        if number is not None and number >= count > 0:
            fix = f"start at most {count} processes on this machine, each of which takes a GPU"
        raise UserError(f"device '{wanted}' cannot be used", found=", ".join(there), fix=fix) from None
    if device.type == "cuda":
        name, bf16 = torch.cuda.get_device_name(device), torch.cuda.is_bf16_supported(including_emulation=False)
        return Device(device, bf16, f"{name}, {'bf16' if bf16 else 'fp32: it has no bf16'}")
    if device.type == "cpu":
        keep_freed_memory()
        bf16 = _cpu_has_bf16()
        return Device(device, bf16, f"CPU, {'bf16: it has instructions for it' if bf16 else 'fp32'}")
    return Device(device, False, f"{device.type}, fp32")


def _cpu_has_bf16(cpuinfo: str = "/proc/cpuinfo") -> bool:
    """Whether the processor multiplies bfloat16 itself; torch's oneDNN check is also true where it is emulated."""
    try:
        with open(cpuinfo, encoding="ascii", errors="replace") as file:
            flags = next((line for line in file if line.startswith("flags")), "")
    except OSError:
        return False
    return "avx512_bf16" in flags.split() or "amx_bf16" in flags.split()


def keep_freed_memory() -> None:
    """Let glibc keep large freed blocks, which saves page faults: measured a fifth to a third of the CPU time."""
    if sys.platform != "linux":
        return
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_THRESHOLD, ctypes.c_int(2**30))
        libc.mallopt(_M_TRIM_THRESHOLD, ctypes.c_int(2**31 - 1))
    except (OSError, AttributeError):
        log.debug("no glibc here, malloc stays as it is")

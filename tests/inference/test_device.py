"""Devices that are there, are not there, and what a processor says of itself."""

from __future__ import annotations

import pytest
import torch

from delightsam_pipeline.errors import UserError
from delightsam_pipeline.inference import device
from delightsam_pipeline.inference.device import _cpu_has_bf16, choose_device


def test_the_processor_is_always_there():
    device = choose_device("cpu")
    assert device.torch == torch.device("cpu") and device.reason.startswith("CPU, ")
    assert device.loader_workers() == 0
    with device.autocast():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if device.bf16 else torch.float32)


def test_loader_processes_go_by_the_cores_that_may_be_used(monkeypatch):
    monkeypatch.setattr(device, "cores", lambda: 8)
    gpu = device.Device(torch.device("cuda"), True, "")
    assert [gpu.loader_workers(sharers) for sharers in (1, 2, 8)] == [7, 3, 1]


def test_auto_takes_something():
    assert choose_device().torch.type in ("cpu", "cuda", "mps")


@pytest.mark.parametrize("wanted", ["nonsense", "", "cuda:97", "vulkan"])
def test_a_device_that_is_not_there(wanted):
    with pytest.raises(UserError, match=f"device '{wanted}' cannot be used; found cpu.*--device auto"):
        choose_device(wanted)


def test_each_of_several_processes_has_a_gpu_of_its_own():
    with pytest.raises(UserError, match="device 'cuda:97' cannot be used"):
        choose_device("cuda", 97)
    with pytest.raises(UserError, match="several processes cannot share cuda:1; use --device cuda"):
        choose_device("cuda:1", 0)
    assert choose_device("cpu", 3).torch == torch.device("cpu")


def test_more_processes_than_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError, match="device 'cuda:97' cannot be used; found cpu, cuda:0, cuda:1; start at most 2 "):
        choose_device("cuda", 97)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu avx512f avx512_bf16 avx512_vnni", True),
        ("fpu amx_tile amx_bf16", True),
        ("fpu avx2 avx512f avx512bw", False),
        ("fpu not_avx512_bf16_really", False),
    ],
)
def test_bf16_goes_by_the_processors_flags(tmp_path, flags, expected):
    file = tmp_path / "cpuinfo"
    file.write_text(f"processor\t: 0\nmodel name\t: avx512_bf16\nflags\t\t: {flags}\n\nprocessor\t: 1\n")
    assert _cpu_has_bf16(str(file)) == expected


def test_no_word_of_the_processor(tmp_path):
    assert not _cpu_has_bf16(str(tmp_path / "missing"))
    (tmp_path / "arm").write_text("Features : asimd bf16\n")
    assert not _cpu_has_bf16(str(tmp_path / "arm"))
